//! What an operator does with parked messages: look at them, send one again, or let it go.

use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::attempts;
use crate::message::RowRef;
use crate::outbox;
use crate::parked::BODY_MAX;
use crate::topology::Route;

/// A parked message in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// Its number in this service's database.
    pub id: i64,
    /// Where it came from, and where a replay sends it.
    pub queue: String,
    /// As it came; `None` where it had none.
    pub message_id: Option<String>,
    /// AMQP `type`, as it came.
    pub kind: Option<String>,
    /// Of the closed list of [`crate::ParkReason`].
    pub reason: String,
    /// What exactly is wrong.
    pub detail: String,
    /// Copies that came, this one included.
    pub seen: i64,
    /// When it was parked, or opened anew.
    pub parked_at: OffsetDateTime,
    /// `open`, `replayed`, `closed` or `dropped`.
    pub state: String,
}

/// A parked message as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedMessage {
    /// What a list shows of it.
    pub row: ParkedRow,
    /// Properties and headers, a line each.
    pub headers: String,
    /// The first 128 KiB of the body.
    pub body: Vec<u8>,
}

/// Why nothing was done with a parked message.
#[derive(Debug, thiserror::Error)]
pub enum ParkedError {
    /// There is no such number.
    #[error("there is no such parked message")]
    Missing,
    /// Somebody was here before, or it came to its end by itself.
    #[error("it is {state} since {since}: only an open one can be replayed or dropped")]
    NotOpen {
        /// The state it is in.
        state: String,
        /// Since when.
        since: OffsetDateTime,
    },
    /// An outbox row cannot hold it.
    #[error(
        "it cannot be sent again: {why}. Have its sender send it anew in a proper form, \
         then drop this one"
    )]
    NotSendable {
        /// What it lacks.
        why: &'static str,
    },
    /// Its queue is none of those that are known here.
    #[error("its queue is {queue}, and nobody here knows how to send to that")]
    ForeignQueue {
        /// The queue in the row.
        queue: String,
    },
    /// Its queue is not for messages of its type. Sent as one that the queue is for, it would be
    /// taken for what it is not.
    #[error(
        "nobody here reads a message of type {kind:?} from {queue}: send it again with a version \
         that does, or drop it"
    )]
    ForeignKind {
        /// The type in the row; empty where the message had none.
        kind: String,
        /// The queue in the row.
        queue: String,
    },
    /// The database's error; nothing was changed.
    #[error("the database refuses")]
    Store(#[from] sqlx::Error),
}

/// Up to `limit` parked messages in the order of their numbers: the open ones, or all.
///
/// # Errors
/// The database's.
pub async fn list_parked(
    pool: &PgPool,
    all: bool,
    limit: i64,
) -> Result<Vec<ParkedRow>, sqlx::Error> {
    sqlx::query_as!(
        ParkedRow,
        r#"
        select id, queue, message_id, kind, reason, detail, seen, parked_at, state
          from parked_messages
         where $1 or state = 'open'
         order by id
         limit $2
        "#,
        all,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// One parked message with headers and body, whatever state it is in.
///
/// # Errors
/// The database's.
pub async fn show_parked(pool: &PgPool, id: i64) -> Result<Option<ParkedMessage>, sqlx::Error> {
    let found = sqlx::query!(
        r#"
        select id, queue, message_id, kind, reason, detail, seen, parked_at, state, headers, body
          from parked_messages
         where id = $1
        "#,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|r| ParkedMessage {
        row: ParkedRow {
            id: r.id,
            queue: r.queue,
            message_id: r.message_id,
            kind: r.kind,
            reason: r.reason,
            detail: r.detail,
            seen: r.seen,
            parked_at: r.parked_at,
            state: r.state,
        },
        headers: r.headers,
        body: r.body,
    }))
}

/// Sends an open parked message again to the queue it came from, or was to go to, one of
/// `routes`: the same `message_id`, type, version and bytes, through this service's own outbox. Its attempts are
/// forgotten and its row is closed as replayed in the same transaction. The lock on the row
/// makes it one replay, however many ask at once.
///
/// # Errors
/// [`ParkedError`]; nothing has changed then.
pub async fn replay_parked(pool: &PgPool, id: i64, routes: &[Route]) -> Result<(), ParkedError> {
    let mut transaction = pool.begin().await?;
    let parked = sqlx::query!(
        r#"
        select queue, kind, message_id, identity, schema_version, reason, body, traceparent,
               request_id, state, state_at
          from parked_messages
         where id = $1
           for update
        "#,
        id,
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(ParkedError::Missing)?;
    if parked.state != "open" {
        return Err(ParkedError::NotOpen {
            state: parked.state,
            since: parked.state_at,
        });
    }
    let mut routes = routes.iter().filter(|route| route.queue == parked.queue);
    if routes.clone().next().is_none() {
        return Err(ParkedError::ForeignQueue {
            queue: parked.queue,
        });
    }
    let kind = parked.kind.unwrap_or_default();
    let Some(route) = routes.find(|route| route.kind == kind) else {
        return Err(ParkedError::ForeignKind {
            kind,
            queue: parked.queue,
        });
    };
    let why = |why| ParkedError::NotSendable { why };
    // Whatever it is parked for: one that the relay could not send may be of any size.
    if parked.body.len() >= BODY_MAX {
        return Err(why("only the first 128 KiB of its body are kept"));
    }
    let message_id = parked.message_id.ok_or(why("it has no message_id"))?;
    let message_id = Uuid::parse_str(&message_id).map_err(|_| why("its message_id is no UUID"))?;
    let body = String::from_utf8(parked.body).map_err(|_| why("its body is not UTF-8 text"))?;
    if body.contains('\0') {
        return Err(why("its body holds a NUL character"));
    }
    let version = parked.schema_version.and_then(|v| i16::try_from(v).ok());
    let version = version.ok_or(why("its schema_version is no number that can be sent"))?;
    // Without a business key: nobody says that it can be read, or that what it is about exists.
    let row = sqlx::query_as!(
        RowRef,
        r#"
        insert into outbox_messages
               (message_id, kind, schema_version, body, traceparent, request_id)
        values ($1, $2, $3, $4, $5, $6)
        returning id, created_at, due_at
        "#,
        message_id,
        route.kind,
        version,
        body,
        parked.traceparent,
        parked.request_id,
    )
    .fetch_one(&mut *transaction)
    .await?;
    attempts::forget(&mut transaction, &parked.queue, &parked.identity).await?;
    sqlx::query!(
        "update parked_messages set state = 'replayed', state_at = now() where id = $1",
        id,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    // Nobody here publishes, so the service's relay need not wait for our lease to end. Where
    // this fails it leaves at that time all the same.
    if let Err(error) = outbox::release(pool, &[row]).await {
        tracing::debug!("the replayed message leaves within the lease: {error}");
    }
    Ok(())
}

/// Lets an open parked message go for good. Its row stays, so that a copy which comes later is
/// counted there and not parked again.
///
/// # Errors
/// [`ParkedError`]; nothing has changed then.
pub async fn drop_parked(pool: &PgPool, id: i64) -> Result<(), ParkedError> {
    let dropped = sqlx::query!(
        r#"
        update parked_messages set state = 'dropped', state_at = now()
         where id = $1 and state = 'open'
        "#,
        id,
    )
    .execute(pool)
    .await?;
    if dropped.rows_affected() == 1 {
        return Ok(());
    }
    let found = sqlx::query!(
        "select state, state_at from parked_messages where id = $1",
        id
    )
    .fetch_optional(pool)
    .await?
    .ok_or(ParkedError::Missing)?;
    Err(ParkedError::NotOpen {
        state: found.state,
        since: found.state_at,
    })
}

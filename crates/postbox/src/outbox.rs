//! The outbox table: append, claim what is due, mark, put back. No broker here.
//!
//! All but [`append`] and [`park`] are single statements on the relay's own pool. That pool may set
//! `synchronous_commit = off`: a claim or a mark that a crash of the database loses is only a
//! second send.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::backoff;
use crate::failpoints::planted;
use crate::fault;
use crate::message::{NewMessage, OutboxRow, RowRef};
use crate::parked::{self, Parked, Unreadable};

/// How long a row belongs to who wrote or claimed it. The same figure stands in the table's
/// default of `due_at`.
pub const LEASE: Duration = Duration::from_secs(15);

/// Proof that the broker has taken responsibility for the message of a row: made only where a
/// confirm without a return was seen.
#[derive(Debug)]
pub struct Confirmed(pub(crate) RowRef);

/// What an insert into `outbox_messages` returns.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Which row.
    pub row: RowRef,
    /// The message in it.
    pub message_id: Uuid,
}

/// Appends messages inside the caller's transaction. Hand the rows to [`crate::Outbox`] once
/// that transaction is committed, and only then.
///
/// # Errors
/// The database's; the caller's transaction is then to be rolled back.
pub async fn append(
    transaction: &mut PgConnection,
    messages: Vec<NewMessage>,
) -> Result<Vec<OutboxRow>, sqlx::Error> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = messages.iter().map(|m| m.message_id).collect();
    let kinds: Vec<String> = messages.iter().map(|m| m.kind.to_owned()).collect();
    let keys: Vec<Uuid> = messages.iter().map(|m| m.key).collect();
    let versions: Vec<i16> = messages.iter().map(|m| m.schema_version).collect();
    let bodies: Vec<String> = messages.iter().map(|m| m.body.clone()).collect();
    let traceparents: Vec<Option<String>> =
        messages.iter().map(|m| m.traceparent.clone()).collect();
    let request_ids: Vec<Option<String>> = messages.iter().map(|m| m.request_id.clone()).collect();
    let stored = sqlx::query!(
        r#"
        insert into outbox_messages
               (message_id, kind, key, schema_version, body, traceparent, request_id)
        select message_id, kind, key, schema_version, body, traceparent, request_id
          from unnest($1::uuid[], $2::text[], $3::uuid[], $4::smallint[], $5::text[],
                      $6::text[], $7::text[])
            as m (message_id, kind, key, schema_version, body, traceparent, request_id)
        returning id, created_at, due_at, message_id
        "#,
        &ids,
        &kinds,
        &keys,
        &versions,
        &bodies,
        &traceparents as &[Option<String>],
        &request_ids as &[Option<String>],
    )
    .fetch_all(&mut *transaction)
    .await;
    let stored = fault::minding_plans(transaction, stored).await?.into_iter();
    let stored = stored.map(|r| Stored {
        row: RowRef {
            id: r.id,
            created_at: r.created_at,
            due_at: r.due_at,
        },
        message_id: r.message_id,
    });
    Ok(pair(messages, stored))
}

/// Business keys of up to `limit` messages that are at least so old and still to be sent, first due
/// first. A key stands in it once for each of its messages.
///
/// # Errors
/// The database's.
pub async fn find_unsent(
    transaction: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let keys = sqlx::query_scalar!(
        r#"
        select key as "key!" from outbox_messages
         where not is_published and key is not null
           and created_at <= now() - $1::interval
         order by due_at
         limit $2
        "#,
        PgInterval {
            months: 0,
            days: 0,
            microseconds: i64::try_from(age.as_micros()).unwrap_or(i64::MAX),
        },
        limit,
    )
    .fetch_all(&mut *transaction)
    .await;
    fault::minding_plans(transaction, keys).await
}

/// Puts messages and the rows they were stored in together again. An insert returns its rows in
/// no order, so they are matched by `message_id`; messages under one id are the same bytes.
#[must_use]
pub fn pair(messages: Vec<NewMessage>, stored: impl IntoIterator<Item = Stored>) -> Vec<OutboxRow> {
    let mut rows: HashMap<Uuid, Vec<RowRef>> = HashMap::with_capacity(messages.len());
    for stored in stored {
        rows.entry(stored.message_id).or_default().push(stored.row);
    }
    messages
        .into_iter()
        .filter_map(|message| {
            let row = rows.get_mut(&message.message_id)?.pop()?;
            Some(OutboxRow {
                row,
                message_id: message.message_id,
                kind: message.kind.to_owned(),
                schema_version: message.schema_version,
                body: message.body,
                traceparent: message.traceparent,
                request_id: message.request_id,
            })
        })
        .collect()
}

/// Takes up to `limit` rows that are due and leases them to us. No row waits for longer than a minute, so
/// a `due_at` far ahead (the database's clock was set back) counts as due.
pub(crate) async fn claim_due(pool: &PgPool, limit: i64) -> Result<Vec<OutboxRow>, sqlx::Error> {
    if planted("leases_are_not_minded") {
        end_all_leases(pool).await?;
    }
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query!(
        r#"
        with due as (
            select id, created_at, due_at from outbox_messages
             where not is_published
               and (due_at <= now() or due_at > now() + interval '5 min')
             order by due_at
             limit $1
               for update skip locked
        )
        update outbox_messages o
           set due_at = now() + interval '15 s'
         where o.id = any (array(select id from due))
           and o.created_at >= (select min(created_at) from due)
           and o.created_at <= (select max(created_at) from due)
           and o.due_at >= (select min(due_at) from due)
           and o.due_at <= (select max(due_at) from due)
           and not o.is_published
        returning o.id, o.created_at, o.due_at, o.message_id, o.kind, o.schema_version,
                  o.body, o.traceparent, o.request_id
        "#,
        limit,
    )
    .fetch_all(&mut *connection)
    .await;
    let rows = fault::minding_plans(&mut connection, rows).await?;
    let mut rows: Vec<OutboxRow> = rows
        .into_iter()
        .map(|r| OutboxRow {
            row: RowRef {
                id: r.id,
                created_at: r.created_at,
                due_at: r.due_at,
            },
            message_id: r.message_id,
            kind: r.kind,
            schema_version: r.schema_version,
            body: r.body,
            traceparent: r.traceparent,
            request_id: r.request_id,
        })
        .collect();
    rows.sort_by_key(|row| row.row.id);
    Ok(rows)
}

/// A planted fault: what others have in their hands is due for us.
async fn end_all_leases(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!("update outbox_messages set due_at = now() where not is_published")
        .execute(pool)
        .await?;
    Ok(())
}

/// Reads back rows of which only the reference was kept, except those sent since.
pub(crate) async fn read_back(
    pool: &PgPool,
    rows: &[RowRef],
) -> Result<Vec<OutboxRow>, sqlx::Error> {
    let Some(bounds) = Bounds::of(rows) else {
        return Ok(Vec::new());
    };
    let mut connection = pool.acquire().await?;
    let read = sqlx::query!(
        r#"
        select id, created_at, due_at, message_id, kind, schema_version, body,
               traceparent, request_id
          from outbox_messages
         where id = any ($1) and not is_published
           and created_at >= $2 and created_at <= $3
           and due_at >= $4 and due_at <= $5
        "#,
        &bounds.ids,
        bounds.created_first,
        bounds.created_last,
        bounds.due_first,
        bounds.due_last,
    )
    .fetch_all(&mut *connection)
    .await;
    let read = fault::minding_plans(&mut connection, read).await?;
    Ok(read
        .into_iter()
        .map(|r| OutboxRow {
            row: RowRef {
                id: r.id,
                created_at: r.created_at,
                due_at: r.due_at,
            },
            message_id: r.message_id,
            kind: r.kind,
            schema_version: r.schema_version,
            body: r.body,
            traceparent: r.traceparent,
            request_id: r.request_id,
        })
        .collect())
}

/// Marks rows as sent. Only a confirm makes the argument. A row whose lease passed to somebody
/// else meanwhile is left to them: that is a second send, absorbed by the receiver's inbox.
///
/// # Errors
/// The database's. The rows then fall due again and are sent once more.
pub async fn mark_published(pool: &PgPool, confirmed: &[Confirmed]) -> Result<(), sqlx::Error> {
    let rows: Vec<RowRef> = confirmed.iter().map(|c| c.0).collect();
    let Some(bounds) = Bounds::of(&rows) else {
        return Ok(());
    };
    sqlx::query!(
        r#"
        update outbox_messages
           set is_published = true
         where id = any ($1) and not is_published
           and created_at >= $2 and created_at <= $3
           and due_at >= $4 and due_at <= $5
        "#,
        &bounds.ids,
        bounds.created_first,
        bounds.created_last,
        bounds.due_first,
        bounds.due_last,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The longest pause of a row that came back: when the reason for it ends, the row is to be out
/// within half a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// Puts rows back that the broker returned or refused. Each gets a later
/// `due_at` of its own, doubling from one second to [`LONGEST_WAIT`], so that it never heats or blocks
/// the others.
pub(crate) async fn put_back(pool: &PgPool, rows: &[RowRef]) -> Result<(), sqlx::Error> {
    let Some(bounds) = Bounds::of(rows) else {
        return Ok(());
    };
    let waits: Vec<i32> = (0..=4)
        .map(|n| backoff::nth(Duration::from_secs(1), LONGEST_WAIT, n))
        .map(|wait| i32::try_from(wait.as_secs()).unwrap_or(16))
        .collect();
    sqlx::query!(
        r#"
        update outbox_messages
           set attempts = least(attempts, 32000) + 1,
               due_at = now() + interval '1 s' * ($6::int[])[least(attempts + 1, 5)]
         where id = any ($1) and not is_published
           and created_at >= $2 and created_at <= $3
           and due_at >= $4 and due_at <= $5
        "#,
        &bounds.ids,
        bounds.created_first,
        bounds.created_last,
        bounds.due_first,
        bounds.due_last,
        &waits,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Moves a row that can never be sent to where the operators look, in one transaction. False if
/// it is no longer ours: somebody else has sent or parked it.
pub(crate) async fn park(
    pool: &PgPool,
    queue: &str,
    row: &OutboxRow,
    why: Unreadable,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let taken = sqlx::query_scalar!(
        r#"
        delete from outbox_messages
         where id = $1 and created_at = $2 and due_at = $3 and not is_published
        returning key
        "#,
        row.row.id,
        row.row.created_at,
        row.row.due_at,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(key) = taken else {
        return Ok(false);
    };
    let message = Parked {
        properties: row.properties(),
        body: row.body.clone().into_bytes(),
        key,
        why,
    };
    parked::park(&mut transaction, queue, vec![message]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Gives rows up before the lease ends, so that whoever polls takes them at once. Not counted as
/// an attempt: they were not at fault.
pub(crate) async fn release(pool: &PgPool, rows: &[RowRef]) -> Result<(), sqlx::Error> {
    let Some(bounds) = Bounds::of(rows) else {
        return Ok(());
    };
    sqlx::query!(
        r#"
        update outbox_messages
           set due_at = now()
         where id = any ($1) and not is_published
           and created_at >= $2 and created_at <= $3
           and due_at >= $4 and due_at <= $5
        "#,
        &bounds.ids,
        bounds.created_first,
        bounds.created_last,
        bounds.due_first,
        bounds.due_last,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The table has no primary key: rows are found by the partial index on `due_at`, so a
/// statement names the range of leases as well as the ids. Sorted ids keep the lock order.
struct Bounds {
    ids: Vec<i64>,
    created_first: OffsetDateTime,
    created_last: OffsetDateTime,
    due_first: OffsetDateTime,
    due_last: OffsetDateTime,
}

impl Bounds {
    fn of(rows: &[RowRef]) -> Option<Self> {
        let mut ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        Some(Self {
            ids,
            created_first: rows.iter().map(|row| row.created_at).min()?,
            created_last: rows.iter().map(|row| row.created_at).max()?,
            due_first: rows.iter().map(|row| row.due_at).min()?,
            due_last: rows.iter().map(|row| row.due_at).max()?,
        })
    }
}

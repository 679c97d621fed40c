//! What cannot be processed is kept, with the reason, and counted when it comes again.

use std::fmt::Write;

use lapin::BasicProperties;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::message::NewMessage;

/// Bytes of a body that are kept.
pub(crate) const BODY_MAX: usize = 131_072;

/// Why a message is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParkReason {
    /// The body is empty, not UTF-8 or not JSON.
    NotJson,
    /// A field is missing or not of the contract's form.
    BadField,
    /// Nobody here knows this `type`.
    UnknownType,
    /// A newer major version; replayable after an upgrade.
    UnknownVersion,
    /// No `message_id`: one is never invented.
    NoMessageId,
    /// A `message_id` that is not a UUID.
    BadMessageId,
    /// Beyond the bound of a message.
    TooLarge,
    /// A `content_encoding` that we do not read.
    Encoding,
    /// The same identity as something processed, with another content.
    Conflict,
    /// A result for an order that does not exist.
    UnknownOrder,
    /// A result that contradicts a final one.
    Contradiction,
    /// Failed alone, or took the process down alone, as often as allowed.
    Attempts,
    /// The broker gave it up.
    DeadLettered,
}

impl ParkReason {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BadField => "bad_field",
            Self::UnknownType => "unknown_type",
            Self::UnknownVersion => "unknown_version",
            Self::NoMessageId => "no_message_id",
            Self::BadMessageId => "bad_message_id",
            Self::TooLarge => "too_large",
            Self::Encoding => "encoding",
            Self::Conflict => "conflict",
            Self::UnknownOrder => "unknown_order",
            Self::Contradiction => "contradiction",
            Self::Attempts => "attempts",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// A message that is to be parked: the reason and what exactly is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// From the closed list.
    pub reason: ParkReason,
    /// For a person; no more than a line.
    pub detail: String,
}

impl Unreadable {
    /// A reason with its detail.
    pub fn new(reason: ParkReason, detail: impl ToString) -> Self {
        Self {
            reason,
            detail: detail.to_string(),
        }
    }

    /// Of a message that nothing is wrong with so far.
    pub(crate) fn unsaid() -> Self {
        Self::new(ParkReason::Attempts, "")
    }
}

/// A message as it came, with why it is parked if it is.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
    /// Business key, where it could be read.
    pub(crate) key: Option<Uuid>,
    pub(crate) why: Unreadable,
}

impl Parked {
    /// See [`identity`].
    pub(crate) fn identity(&self) -> String {
        identity(&self.properties, &self.body)
    }
}

/// What copies of one message have in common: its id, or a hash of the body where it has none.
pub(crate) fn identity(properties: &BasicProperties, body: &[u8]) -> String {
    match properties.message_id().as_ref().map(|id| id.as_str()) {
        None | Some("") => {}
        // A UUID in one spelling, the inbox's.
        Some(id) => return Uuid::parse_str(id).map_or_else(|_| storable(id), |id| id.to_string()),
    }
    let mut hash = String::from("sha256:");
    for byte in Sha256::digest(body) {
        write!(hash, "{byte:02x}").expect("a string takes all");
    }
    hash
}

/// PostgreSQL's text takes every character but one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Parks one message that was taken in and could not be worked off later, in the caller's
/// transaction, as the consumer would have. The message is then not known to the inbox any more,
/// so that a copy after the mend is judged anew.
///
/// # Errors
/// The database's; the caller's transaction is then to be rolled back.
pub async fn park_later(
    transaction: &mut PgConnection,
    queue: &str,
    message: &NewMessage,
    why: Unreadable,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from inbox_messages where message_id = $1",
        message.message_id,
    )
    .execute(&mut *transaction)
    .await?;
    let parked = Parked {
        properties: message.properties(),
        body: message.body.clone().into_bytes(),
        key: Some(message.key),
        why,
    };
    park(transaction, queue, vec![parked]).await
}

/// Keeps messages inside the transaction of their batch. A copy of one that is there counts up
/// `seen`; if that one was sent again or closed, it is open anew, as the copy came. Writes no
/// inbox row: a copy that comes after the mend is judged anew.
pub(crate) async fn park(
    transaction: &mut PgConnection,
    queue: &str,
    messages: Vec<Parked>,
) -> Result<(), sqlx::Error> {
    let mut messages: Vec<(String, Parked)> =
        messages.into_iter().map(|m| (m.identity(), m)).collect();
    // In one order everywhere, so that two consumers never wait for each other.
    messages.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (identity, message) in messages {
        let properties = &message.properties;
        let message_id = properties
            .message_id()
            .as_ref()
            .map(|id| storable(id.as_str()));
        let kind = properties
            .kind()
            .as_ref()
            .map(|kind| storable(kind.as_str()));
        let reason = message.why.reason.as_str();
        tracing::warn!(
            queue,
            message_id,
            reason,
            "message parked: {}",
            message.why.detail
        );
        sqlx::query!(
            r#"
            insert into parked_messages as p
                   (queue, message_id, identity, key, kind, schema_version, reason, detail,
                    headers, body, traceparent, request_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            on conflict (queue, identity) do update
               set seen = p.seen + 1,
                   (state, state_at, parked_at, key, kind, schema_version, reason, detail,
                    headers, body, traceparent, request_id) = (
                   select 'open', now(), now(), excluded.key, excluded.kind,
                          excluded.schema_version, excluded.reason, excluded.detail,
                          excluded.headers, excluded.body, excluded.traceparent,
                          excluded.request_id
                    where p.state in ('replayed', 'closed')
                    union all
                   select p.state, p.state_at, p.parked_at, p.key, p.kind,
                          p.schema_version, p.reason, p.detail,
                          p.headers, p.body, p.traceparent, p.request_id
                    where p.state in ('open', 'dropped'))
            "#,
            queue,
            message_id,
            identity,
            message.key,
            kind,
            message.schema_version(),
            reason,
            storable(&message.why.detail),
            storable(&message.headers()),
            &message.body[..message.body.len().min(BODY_MAX)],
            message.text_header("traceparent"),
            message.text_header("x-request-id"),
        )
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

/// What a batch has settled: the messages' own ids, and what they are about.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    message_ids: Vec<Uuid>,
    keys: Vec<Uuid>,
}

impl Settled {
    pub(crate) fn push(&mut self, message_id: Uuid, key: Uuid) {
        self.message_ids.push(message_id);
        self.keys.push(key);
    }
}

/// Closes what is parked under these ids, or about these keys in whichever queue (a service also
/// parks what it could not send), in the transaction that took them in. By one that was applied all of it: the message was taken in after all, or what it is about
/// is settled. By one that was known already only what nobody could read for want of luck; what
/// contradicts it stays for the operator.
pub(crate) async fn close(
    transaction: &mut PgConnection,
    queue: &str,
    applied: &Settled,
    known: &Settled,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update parked_messages
           set state = 'closed', state_at = now()
         where state in ('open', 'replayed')
           and (key = any ($3)
                or (queue = $1 and identity = any ($2::uuid[]::text[]))
                or (reason in ('dead_lettered', 'attempts')
                    and (key = any ($5)
                         or (queue = $1 and identity = any ($4::uuid[]::text[])))))
        "#,
        queue,
        &applied.message_ids,
        &applied.keys,
        &known.message_ids,
        &known.keys,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Keys of what is parked in these queues for want of luck and not of sense, the youngest first, no
/// more than a thousand: see which of them are settled, and [`close_parked`] those.
///
/// # Errors
/// The database's.
pub async fn find_parked_keys(
    transaction: &mut PgConnection,
    queues: &[&str],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select key as "key!" from parked_messages
         where state in ('open', 'replayed') and key is not null
           and queue = any ($1::text[]) and reason in ('dead_lettered', 'attempts')
         order by id desc
         limit 1000
        "#,
        queues as &[&str],
    )
    .fetch_all(transaction)
    .await
}

/// How many messages out of one queue are parked for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedCount {
    /// The queue they came from, or could not be sent to.
    pub queue: String,
    /// The word of a [`ParkReason`].
    pub reason: String,
    /// Those that wait for an operator.
    pub open: i64,
    /// All, whatever became of them.
    pub all: i64,
}

/// Counts what is parked. Reads all of it: a service parks little, or has other worries.
///
/// # Errors
/// The database's.
pub async fn count_parked(pool: &PgPool) -> Result<Vec<ParkedCount>, sqlx::Error> {
    sqlx::query_as!(
        ParkedCount,
        r#"
        select queue, reason, count(*) filter (where state = 'open') as "open!", count(*) as "all!"
          from parked_messages
         group by queue, reason
        "#,
    )
    .fetch_all(pool)
    .await
}

/// Closes what is parked in these queues for want of luck and not of sense, about keys that are
/// settled, and returns how many rows. A message that settles its key closes them as it is taken
/// in; this is for what was parked after that.
///
/// # Errors
/// The database's; the caller's transaction is then to be rolled back.
pub async fn close_parked(
    transaction: &mut PgConnection,
    queues: &[&str],
    settled: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let closed = sqlx::query!(
        r#"
        update parked_messages
           set state = 'closed', state_at = now()
         where state in ('open', 'replayed') and key = any ($2)
           and queue = any ($1::text[]) and reason in ('dead_lettered', 'attempts')
        "#,
        queues as &[&str],
        settled,
    )
    .execute(transaction)
    .await?;
    Ok(closed.rows_affected())
}

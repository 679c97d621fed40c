//! What cannot be processed is kept, with the reason, and counted when it comes again.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

/// Bytes of a body that are kept.
const BODY_MAX: usize = 131_072;

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
    /// Failed alone, as often as allowed.
    Attempts,
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
}

/// A message as it came, with why it is parked.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) message_id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) traceparent: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) why: Unreadable,
}

impl Parked {
    fn identity(&self) -> String {
        if let Some(id) = self.message_id.as_ref().filter(|id| !id.is_empty()) {
            return id.clone();
        }
        let mut hash = String::from("sha256:");
        for byte in Sha256::digest(&self.body) {
            write!(hash, "{byte:02x}").expect("a string takes all");
        }
        hash
    }
}

/// Keeps messages inside the transaction of their batch. A copy of a parked one counts up
/// `seen`. Writes no inbox row: a copy that comes after the mend is judged anew.
pub(crate) async fn park(
    transaction: &mut PgConnection,
    queue: &str,
    mut messages: Vec<Parked>,
) -> Result<(), sqlx::Error> {
    // In one order everywhere, so that two consumers never wait for each other.
    messages.sort_by_cached_key(Parked::identity);
    for message in messages {
        tracing::warn!(
            queue,
            message_id = message.message_id,
            reason = message.why.reason.as_str(),
            "message parked: {}",
            message.why.detail
        );
        let text = |text: &Option<String>| text.as_ref().map(|text| text.replace('\0', "\u{fffd}"));
        sqlx::query!(
            r#"
            insert into parked_messages
                   (queue, message_id, identity, kind, reason, detail, body, traceparent, request_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (queue, identity) do update set seen = parked_messages.seen + 1
            "#,
            queue,
            text(&message.message_id),
            message.identity().replace('\0', "\u{fffd}"),
            text(&message.kind),
            message.why.reason.as_str(),
            message.why.detail.replace('\0', "\u{fffd}"),
            &message.body[..message.body.len().min(BODY_MAX)],
            text(&message.traceparent),
            text(&message.request_id),
        )
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

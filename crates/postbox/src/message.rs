//! A message as it stands in the outbox, and as it arrives.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::failpoints::planted;
use crate::parked::{ParkReason, Unreadable};

/// A message to be stored in the outbox. Its bytes are fixed now; every re-send is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The message's identity; version 7, so that inbox keys grow at one end.
    pub message_id: Uuid,
    /// AMQP `type` and routing key.
    pub kind: &'static str,
    /// Business key.
    pub key: Uuid,
    /// `schema_version` header.
    pub schema_version: i16,
    /// JSON text.
    pub body: String,
    /// W3C trace context of the cause, at most 128 bytes.
    pub traceparent: Option<String>,
    /// `X-Request-Id` of the cause, at most 128 bytes.
    pub request_id: Option<String>,
}

/// Which outbox row, and until when it is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef {
    /// The row's own id; a `message_id` may stand in several rows.
    pub id: i64,
    /// Finds the partition.
    pub created_at: OffsetDateTime,
    /// End of the lease under which we hold it; bounds the index range that finds it.
    pub due_at: OffsetDateTime,
}

/// A stored outbox row with what a publish needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Which row.
    pub row: RowRef,
    /// See [`NewMessage::message_id`].
    pub message_id: Uuid,
    /// See [`NewMessage::kind`].
    pub kind: String,
    /// See [`NewMessage::schema_version`].
    pub schema_version: i16,
    /// See [`NewMessage::body`].
    pub body: String,
    /// See [`NewMessage::traceparent`].
    pub traceparent: Option<String>,
    /// See [`NewMessage::request_id`].
    pub request_id: Option<String>,
}

impl OutboxRow {
    /// What of the message's properties stands in the row. A kind that is no AMQP type is left
    /// out: such a row can only be parked.
    pub(crate) fn properties(&self) -> BasicProperties {
        let message_id = match planted("an_id_made_when_it_is_sent") {
            true => Uuid::now_v7(),
            false => self.message_id,
        };
        properties(
            message_id,
            &self.kind,
            self.schema_version,
            [self.traceparent.as_ref(), self.request_id.as_ref()],
        )
    }
}

impl NewMessage {
    pub(crate) fn properties(&self) -> BasicProperties {
        properties(
            self.message_id,
            self.kind,
            self.schema_version,
            [self.traceparent.as_ref(), self.request_id.as_ref()],
        )
    }
}

fn properties(
    message_id: Uuid,
    kind: &str,
    schema_version: i16,
    cause: [Option<&String>; 2],
) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("schema_version".into(), AMQPValue::ShortInt(schema_version));
    for (name, value) in ["traceparent", "x-request-id"].into_iter().zip(cause) {
        if let Some(value) = value {
            headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
        }
    }
    BasicProperties::default()
        .with_message_id(message_id.to_string().into())
        .with_type(ShortString::try_new(kind).unwrap_or_default())
        .with_headers(headers)
}

/// A delivery whose frame is in order: it has a UUID as its id, is plain JSON text in UTF-8 of
/// a bounded size, and names its kind. What the body means is the handler's business.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// AMQP `message_id`.
    pub message_id: Uuid,
    /// AMQP `type`.
    pub kind: &'a str,
    /// `schema_version` header; 1 where absent.
    pub schema_version: i64,
    /// The body's text.
    pub body: &'a str,
}

impl Envelope<'_> {
    /// Refuses a message of another kind, or of a newer version, than its reader knows.
    ///
    /// # Errors
    /// It is to be parked: as unknown, and replayable after an upgrade.
    pub fn expect(&self, kind: &str, schema_version: i16) -> Result<(), Unreadable> {
        if self.kind != kind {
            let detail = format!("type {:?}", self.kind);
            return Err(Unreadable::new(ParkReason::UnknownType, detail));
        }
        if self.schema_version > i64::from(schema_version) {
            let detail = format!("schema_version {}", self.schema_version);
            return Err(Unreadable::new(ParkReason::UnknownVersion, detail));
        }
        Ok(())
    }
}

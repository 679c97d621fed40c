//! A delivery as it came off the wire: its frame is judged here, before its meaning.

use std::collections::HashSet;
use std::fmt::Write;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use uuid::Uuid;

use crate::failpoints::planted;
use crate::inbox::{Handler, Incoming, Read};
use crate::message::Envelope;
use crate::parked::{self, ParkReason, Parked, Unreadable};

/// Bytes of a body that are read at all; the broker should refuse larger ones itself.
const BODY_MAX: usize = 131_072;
/// Bytes of a text header that are handed on.
const HEADER_MAX: usize = 128;
/// Bytes that are kept of a parked message's headers.
const HEADERS_MAX: usize = 8192;

/// Deliveries that are taken in by one transaction.
pub(crate) enum Turn {
    /// Neighbours in the queue, none of them delivered before.
    Together(Vec<Delivery>),
    /// Delivered before, or suspect for another reason.
    Alone(Box<Delivery>),
}

/// Divides a batch, in delivery order.
pub(crate) fn turns(batch: Vec<Delivery>, suspects: &HashSet<String>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut together = Vec::with_capacity(batch.len());
    for delivery in batch {
        let is_suspect = || {
            !suspects.is_empty()
                && suspects.contains(&parked::identity(&delivery.properties, &delivery.data))
        };
        let alone = delivery.redelivered
            && !planted("attempts_of_the_whole_batch")
            && !planted("a_failure_goes_back_to_the_queue");
        if alone || is_suspect() {
            if !together.is_empty() {
                turns.push(Turn::Together(std::mem::take(&mut together)));
            }
            turns.push(Turn::Alone(Box::new(delivery)));
        } else {
            together.push(delivery);
        }
    }
    if !together.is_empty() {
        turns.push(Turn::Together(together));
    }
    turns
}

/// Reads a delivery with its handler; what cannot be read carries the reason.
pub(crate) fn read<H: Handler>(handler: &H, raw: Parked) -> Read<H::Message> {
    let read = open(&raw).and_then(|envelope| {
        let (key, message) = handler.read(&envelope)?;
        Ok(Incoming {
            message_id: envelope.message_id,
            key,
            message,
            first_time: false,
            traceparent: raw.text_header("traceparent"),
            request_id: raw.text_header("x-request-id"),
        })
    });
    match read {
        Ok(incoming) => Read {
            raw: Parked {
                key: Some(incoming.key),
                ..raw
            },
            message: Some(incoming),
        },
        Err(why) => Read {
            raw: Parked { why, ..raw },
            message: None,
        },
    }
}

impl Parked {
    /// A delivery that was not looked into yet.
    pub(crate) fn of(delivery: Delivery, why: Unreadable) -> Self {
        Self {
            properties: delivery.properties,
            body: delivery.data,
            key: None,
            why,
        }
    }

    /// A text header of visible ASCII within its bound; anything else is no header.
    pub(crate) fn text_header(&self, name: &str) -> Option<String> {
        let value = match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(value) => value.to_string(),
            AMQPValue::ShortString(value) => value.to_string(),
            _ => return None,
        };
        let fits =
            (1..=HEADER_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        fits.then_some(value)
    }

    /// The `schema_version` header; 1 where absent, `None` where it is no whole number.
    pub(crate) fn schema_version(&self) -> Option<i64> {
        let headers = self.properties.headers().as_ref();
        Some(
            match headers.and_then(|h| h.inner().get("schema_version")) {
                None => 1,
                Some(AMQPValue::ShortShortInt(n)) => i64::from(*n),
                Some(AMQPValue::ShortShortUInt(n)) => i64::from(*n),
                Some(AMQPValue::ShortInt(n)) => i64::from(*n),
                Some(AMQPValue::ShortUInt(n)) => i64::from(*n),
                Some(AMQPValue::LongInt(n)) => i64::from(*n),
                Some(AMQPValue::LongUInt(n)) => i64::from(*n),
                Some(AMQPValue::LongLongInt(n)) => *n,
                Some(_) => return None,
            },
        )
    }

    /// Properties and headers for a person: a line each, bounded as a whole.
    pub(crate) fn headers(&self) -> String {
        let p = &self.properties;
        let mut text = String::new();
        let short = [
            ("message_id", p.message_id()),
            ("type", p.kind()),
            ("app_id", p.app_id()),
            ("content_type", p.content_type()),
            ("content_encoding", p.content_encoding()),
            ("correlation_id", p.correlation_id()),
        ];
        for (name, value) in short {
            if let Some(value) = value {
                line(&mut text, name, value);
            }
        }
        if let Some(at) = p.timestamp() {
            line(&mut text, "timestamp", at);
        }
        for (name, value) in p.headers().iter().flat_map(|headers| headers.inner()) {
            match value {
                AMQPValue::LongString(value) => line(&mut text, name.as_str(), value),
                AMQPValue::ShortString(value) => line(&mut text, name.as_str(), value),
                value => line(&mut text, name.as_str(), format_args!("{value:?}")),
            }
            if text.len() > HEADERS_MAX {
                text.truncate(text.floor_char_boundary(HEADERS_MAX));
                text.push_str("\n[cut]\n");
                break;
            }
        }
        text
    }
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(text, "{name}: {value}").expect("a string takes all");
}

fn open(raw: &Parked) -> Result<Envelope<'_>, Unreadable> {
    let properties: &BasicProperties = &raw.properties;
    let bad = |reason, detail: &str| Err(Unreadable::new(reason, detail));
    if raw.body.len() > BODY_MAX {
        return bad(ParkReason::TooLarge, "the body is above 128 KiB");
    }
    let encoding = properties
        .content_encoding()
        .as_ref()
        .map(|e| e.as_str())
        .unwrap_or_default();
    if !matches!(encoding, "" | "utf-8" | "UTF-8" | "identity") {
        return bad(
            ParkReason::Encoding,
            &format!("content_encoding {encoding}"),
        );
    }
    let message_id = match properties.message_id().as_ref().map(|id| id.as_str()) {
        None | Some("") => return bad(ParkReason::NoMessageId, "no message_id"),
        Some(id) => Uuid::parse_str(id)
            .map_err(|_| Unreadable::new(ParkReason::BadMessageId, "message_id is not a UUID"))?,
    };
    let Ok(body) = std::str::from_utf8(&raw.body) else {
        return bad(ParkReason::NotJson, "the body is not UTF-8");
    };
    let Some(schema_version) = raw.schema_version() else {
        let detail = "schema_version is not a whole number";
        return bad(ParkReason::UnknownVersion, detail);
    };
    Ok(Envelope {
        message_id,
        kind: properties
            .kind()
            .as_ref()
            .map(|kind| kind.as_str())
            .unwrap_or_default(),
        schema_version,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::FieldTable;

    fn message(properties: BasicProperties) -> Parked {
        Parked {
            properties,
            body: b"{}".to_vec(),
            key: None,
            why: Unreadable::new(ParkReason::Attempts, ""),
        }
    }

    #[test]
    fn headers_are_kept_in_bounds_however_many_there_are() {
        let mut headers = FieldTable::default();
        for n in 0..4000 {
            headers.insert(format!("h{n}").into(), AMQPValue::LongString("é".into()));
        }
        let kept = message(BasicProperties::default().with_headers(headers)).headers();
        assert!(kept.len() < HEADERS_MAX + 16, "{} bytes", kept.len());
        assert!(kept.ends_with("[cut]\n"), "{kept}");
    }

    #[test]
    fn a_body_above_the_bound_is_not_read() {
        let of_size = |size| {
            let mut message = message(
                BasicProperties::default().with_message_id(Uuid::now_v7().to_string().into()),
            );
            message.body = vec![b' '; size];
            open(&message).map(drop).map_err(|why| why.reason)
        };
        assert_eq!(of_size(BODY_MAX), Ok(()));
        assert_eq!(of_size(BODY_MAX + 1), Err(ParkReason::TooLarge));
    }

    #[test]
    fn a_version_is_any_whole_number_and_nothing_else() {
        let versioned = |value| {
            let mut headers = FieldTable::default();
            headers.insert("schema_version".into(), value);
            message(BasicProperties::default().with_headers(headers)).schema_version()
        };
        assert_eq!(
            message(BasicProperties::default()).schema_version(),
            Some(1)
        );
        assert_eq!(versioned(AMQPValue::ShortShortUInt(2)), Some(2));
        assert_eq!(versioned(AMQPValue::LongLongInt(i64::MAX)), Some(i64::MAX));
        assert_eq!(versioned(AMQPValue::LongString("2".into())), None);
    }
}

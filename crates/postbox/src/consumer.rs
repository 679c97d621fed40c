//! Broker → one transaction → acknowledgement. Natural batches: what is there is taken, nothing
//! lingers. Rebuilds its session for ever; waits out its database in place.

use std::sync::Arc;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::broker::{self, BrokerError};
use crate::config::{BrokerConfig, ConsumerConfig};
use crate::failpoints::moment;
use crate::hand_over::Outbox;
use crate::inbox::{Committed, Handler, Incoming, Read, Taken, take_in};
use crate::message::Envelope;
use crate::parked::{ParkReason, Parked, Unreadable};
use crate::relay::chain;
use crate::status::TaskStatus;
use crate::topology::Topology;

/// Bytes of a body that are read at all; the broker should refuse larger ones itself.
const BODY_MAX: usize = 131_072;
/// Bytes of a text header that are handed on.
const HEADER_MAX: usize = 128;

/// The consumer of one service's queue. Any number of processes.
#[derive(Debug)]
pub struct Consumer<H> {
    /// Pool of its own.
    pub pool: PgPool,
    /// Where answers are handed over after the commit.
    pub outbox: Outbox,
    /// Which broker.
    pub broker: BrokerConfig,
    /// What to declare; `reads` is taken in.
    pub topology: Topology,
    /// Batch and bounds.
    pub config: ConsumerConfig,
    /// What to do with the messages.
    pub handler: Arc<H>,
    /// The connection is named `paidonce-<app_id>-consumer`.
    pub app_id: &'static str,
    /// What to tell about it.
    pub status: TaskStatus,
}

/// Acknowledges everything up to a committed delivery. Commit first: the other order could lose
/// an effect, this one can only repeat a delivery.
///
/// # Errors
/// The channel is gone: the broker delivers again, and the inbox absorbs it.
pub async fn acknowledge(channel: &Channel, committed: Committed) -> Result<(), lapin::Error> {
    channel
        .basic_ack(committed.last_tag, BasicAckOptions { multiple: true })
        .await
}

impl<H: Handler> Consumer<H> {
    /// Consumes until `shutdown`; the batch under way is finished first. Every other end of a
    /// session is a fault, the silent end of the stream too: it is rebuilt, with capped
    /// back-off, for ever.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut backoff = Backoff::reconnect();
        while !shutdown.is_cancelled() {
            match self.session(&shutdown, &mut backoff).await {
                Ok(()) => break,
                Err(error) => {
                    let text = chain(&error);
                    if self.status.set(Err(text.clone())) {
                        tracing::warn!(app = self.app_id, "consumer: {text}; trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.status.set(Err("stopped".into()));
    }

    async fn session(
        &self,
        shutdown: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), BrokerError> {
        let name = format!("paidonce-{}-consumer", self.app_id);
        let queue = self.topology.reads.queue;
        let connection = broker::connect(&self.broker, &name).await?;
        self.topology.declare(&connection).await?;
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(self.config.prefetch, BasicQosOptions::default())
            .await?;
        let deliveries = channel
            .basic_consume(
                queue.into(),
                name.as_str().into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        self.working();
        tracing::info!(app = self.app_id, "consumer: taking in {queue}");
        let mut batches = deliveries.ready_chunks(self.config.batch);
        loop {
            let batch = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                batch = batches.next() => batch.ok_or(BrokerError::StreamEnded { queue })?,
            };
            let mut whole = Vec::with_capacity(batch.len());
            let mut fault = None;
            for delivery in batch {
                match delivery {
                    Ok(delivery) => whole.push(delivery),
                    Err(error) => fault = Some(error),
                }
            }
            if let Some(committed) = self.settle(whole, shutdown).await {
                acknowledge(&channel, committed).await?;
                moment("consumer.acknowledged");
                backoff.reset();
            }
            if let Some(error) = fault {
                return Err(error.into());
            }
        }
        // Unfinished deliveries go back to the queue when the connection closes.
        let _ = connection.close(200, "shutting down".into()).await;
        Ok(())
    }

    /// Takes a batch in. If it fails for another reason than a server's, its messages are tried
    /// one by one, and the one that fails alone, as often as allowed, is parked.
    async fn settle(
        &self,
        deliveries: Vec<Delivery>,
        shutdown: &CancellationToken,
    ) -> Option<Committed> {
        let tags: Vec<u64> = deliveries
            .iter()
            .map(|delivery| delivery.delivery_tag)
            .collect();
        let last_tag = *tags.last()?;
        let mut reads: Vec<Read<H::Message>> = deliveries
            .into_iter()
            .map(|delivery| self.read(delivery))
            .collect();
        moment("consumer.delivered");
        if let Some(committed) = self.attempt(&mut reads, last_tag, shutdown).await? {
            return Some(committed);
        }
        let mut committed = None;
        for (read, tag) in reads.iter_mut().zip(tags) {
            let alone = std::slice::from_mut(read);
            let mut attempts = 0;
            committed = loop {
                if let Some(done) = self.attempt(alone, tag, shutdown).await? {
                    break Some(done);
                }
                attempts += 1;
                if attempts >= self.config.max_attempts {
                    // `attempt` has left the reason in it.
                    alone[0].message = None;
                }
            };
        }
        committed
    }

    /// One transaction, waited out while a server is to blame. Outer `None`: shut down first;
    /// inner `None`: the messages are to blame, and `raw.why` of each says how.
    async fn attempt(
        &self,
        reads: &mut [Read<H::Message>],
        last_tag: u64,
        shutdown: &CancellationToken,
    ) -> Option<Option<Committed>> {
        let queue = self.topology.reads.queue;
        let mut backoff = Backoff::reconnect();
        loop {
            let error = match take_in(&self.pool, &*self.handler, queue, reads, last_tag).await {
                Ok(taken) => return Some(Some(self.done(taken))),
                Err(error) => error,
            };
            let text = chain(&error);
            if !error.is_transient() {
                tracing::error!(
                    app = self.app_id,
                    messages = reads.len(),
                    "consumer: {text}"
                );
                for read in reads.iter_mut().filter(|read| read.message.is_some()) {
                    read.raw.why = error.exhausted();
                }
                return Some(None);
            }
            if self.status.set(Err(text.clone())) {
                tracing::warn!(app = self.app_id, "consumer: {text}; waiting");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    fn done(&self, taken: Taken<H::Message>) -> Committed {
        self.working();
        if taken.duplicates > 0 {
            tracing::debug!(
                app = self.app_id,
                duplicates = taken.duplicates,
                "consumer: duplicates"
            );
        }
        self.outbox.hand_over(taken.answers);
        self.handler.committed(&taken.applied);
        taken.committed
    }

    fn working(&self) {
        self.status
            .set(Ok(format!("taking in {}", self.topology.reads.queue)));
    }

    fn read(&self, delivery: Delivery) -> Read<H::Message> {
        let properties = &delivery.properties;
        let text = |name: &str| header_text(properties, name);
        let (traceparent, request_id) = (text("traceparent"), text("x-request-id"));
        let read = open(&delivery).and_then(|envelope| {
            let (key, message) = self.handler.read(&envelope)?;
            Ok(Incoming {
                message_id: envelope.message_id,
                key,
                message,
                first_time: false,
                traceparent: traceparent.clone(),
                request_id: request_id.clone(),
            })
        });
        let (message, why) = match read {
            Ok(message) => (Some(message), Unreadable::new(ParkReason::Attempts, "")),
            Err(why) => (None, why),
        };
        Read {
            message,
            raw: Parked {
                message_id: properties.message_id().as_ref().map(ToString::to_string),
                kind: properties.kind().as_ref().map(ToString::to_string),
                body: delivery.data,
                traceparent,
                request_id,
                why,
            },
        }
    }
}

/// Judges the frame of a delivery, before its meaning.
fn open(delivery: &Delivery) -> Result<Envelope<'_>, Unreadable> {
    let properties = &delivery.properties;
    let bad = |reason, detail: &str| Err(Unreadable::new(reason, detail));
    if delivery.data.len() > BODY_MAX {
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
    let Ok(body) = std::str::from_utf8(&delivery.data) else {
        return bad(ParkReason::NotJson, "the body is not UTF-8");
    };
    Ok(Envelope {
        message_id,
        kind: properties
            .kind()
            .as_ref()
            .map(|kind| kind.as_str())
            .unwrap_or_default(),
        schema_version: schema_version(properties)?,
        body,
    })
}

fn schema_version(properties: &BasicProperties) -> Result<i64, Unreadable> {
    let header = properties
        .headers()
        .as_ref()
        .and_then(|h| h.inner().get("schema_version"));
    Ok(match header {
        None => 1,
        Some(AMQPValue::ShortShortInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortShortUInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortInt(n)) => i64::from(*n),
        Some(AMQPValue::ShortUInt(n)) => i64::from(*n),
        Some(AMQPValue::LongInt(n)) => i64::from(*n),
        Some(AMQPValue::LongUInt(n)) => i64::from(*n),
        Some(AMQPValue::LongLongInt(n)) => *n,
        Some(_) => {
            let detail = "schema_version is not a whole number";
            return Err(Unreadable::new(ParkReason::UnknownVersion, detail));
        }
    })
}

/// A text header of visible ASCII within its bound; anything else is no header.
fn header_text(properties: &BasicProperties, name: &str) -> Option<String> {
    let value = match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(value) => value.to_string(),
        AMQPValue::ShortString(value) => value.to_string(),
        _ => return None,
    };
    let fits =
        (1..=HEADER_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(value)
}

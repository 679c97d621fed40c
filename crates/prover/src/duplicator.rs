//! Sends every message of the system a second time. A queue of its own on the exchange, bound by
//! both routing keys, gets a copy of each message; each copy is published straight to the queue
//! that the original went to, through the default exchange, so it does not come back here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::topology::{EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS, Route};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Confirmation, Connection, Consumer, ExchangeKind};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::amqp::{AmqpError, answered, confirming_channel, connect};
use crate::eventually::pause;

/// How many messages are copied at a time.
const BATCH: u16 = 100;
/// The queue goes away by itself if nobody reads it for this long: 10 min, in milliseconds.
const EXPIRES_MS: i32 = 600_000;
/// Pauses between two attempts to come back after a fault.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Which id a copy carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyId {
    /// The original's: the same message, delivered twice.
    Same,
    /// A new one: another message about the same order.
    New,
}

/// How much was copied. A copy counts once its confirm is there, so after an outage there may be
/// more copies than counted, never fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Copies of payment requests.
    pub requests: u64,
    /// Copies of payment results.
    pub results: u64,
    /// Copies that no queue was there for.
    pub unroutable: u64,
    /// How often the connection was lost and made anew.
    pub faults: u64,
}

/// A running duplicator. It survives the broker's outages: it comes back by itself, for ever.
#[derive(Debug)]
pub struct Duplicator {
    url: String,
    queue: String,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    results: AtomicU64,
    unroutable: AtomicU64,
    faults: AtomicU64,
}

impl Duplicator {
    /// Starts to copy; every message published after this returns is copied.
    ///
    /// # Errors
    /// [`AmqpError`] when the broker does not answer now. Later outages are survived.
    pub async fn start(url: &str, ids: CopyId) -> Result<Self, AmqpError> {
        let queue = format!("paidonce-prover.duplicator.{}", Uuid::now_v7());
        let counts = Arc::new(Counts::default());
        let session = Session::open(url, &queue).await?;
        let copying = Copying {
            url: url.to_owned(),
            queue: queue.clone(),
            ids,
            counts: Arc::clone(&counts),
        };
        let task = tokio::spawn(copying.for_ever(session));
        Ok(Self {
            url: url.to_owned(),
            queue,
            counts,
            task,
        })
    }

    /// How much was copied so far.
    #[must_use]
    pub fn copies(&self) -> Copies {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Copies {
            requests: read(&self.counts.requests),
            results: read(&self.counts.results),
            unroutable: read(&self.counts.unroutable),
            faults: read(&self.counts.faults),
        }
    }

    /// Stops copying and deletes the queue; what was in it is not copied any more.
    ///
    /// # Errors
    /// [`AmqpError`] when the broker does not answer; the queue then goes away by itself after
    /// ten minutes.
    pub async fn stop(self) -> Result<Copies, AmqpError> {
        self.task.abort();
        let connection = connect(&self.url, "paidonce-prover-duplicator").await?;
        let channel = answered("open a channel", connection.create_channel()).await?;
        let delete =
            channel.queue_delete(self.queue.as_str().into(), QueueDeleteOptions::default());
        answered("delete the duplicator's queue", delete).await?;
        answered("close a connection", connection.close(200, "done".into())).await?;
        Ok(self.copies())
    }
}

impl Drop for Duplicator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task needs to begin again after a fault.
struct Copying {
    url: String,
    queue: String,
    ids: CopyId,
    counts: Arc<Counts>,
}

impl Copying {
    async fn for_ever(self, first: Session) {
        let mut session = Ok(first);
        let mut pause_for = FIRST_PAUSE;
        loop {
            let fault = match session {
                Ok(session) => {
                    pause_for = FIRST_PAUSE;
                    let fault = self.until_fault(session).await;
                    self.counts.faults.fetch_add(1, Ordering::Relaxed);
                    fault
                }
                Err(error) => error,
            };
            tracing::debug!(error = %fault, "the duplicator begins again");
            pause(pause_for).await;
            pause_for = (pause_for * 2).min(LONGEST_PAUSE);
            session = Session::open(&self.url, &self.queue).await;
        }
    }

    async fn until_fault(&self, session: Session) -> AmqpError {
        const DOING: &str = "consume the duplicator's queue";
        let Session {
            connection,
            channel,
            deliveries,
        } = session;
        let mut batches = deliveries.ready_chunks(usize::from(BATCH));
        while let Some(batch) = batches.next().await {
            let batch: Result<Vec<Delivery>, lapin::Error> = batch.into_iter().collect();
            let copied = match batch {
                Ok(batch) => self.copy(&channel, batch).await,
                Err(source) => Err(AmqpError::Failed {
                    doing: DOING,
                    source: Box::new(source),
                }),
            };
            if let Err(fault) = copied {
                return fault;
            }
        }
        drop(connection);
        // The stream ends without an error when the queue is deleted or the connection closes.
        AmqpError::Silent { doing: DOING }
    }

    /// Confirmed first, acknowledged after: a fault in between makes a third copy, never none.
    async fn copy(&self, channel: &Channel, batch: Vec<Delivery>) -> Result<(), AmqpError> {
        let mut under_way = Vec::with_capacity(batch.len());
        for delivery in &batch {
            let Some(route) = route_of(delivery.routing_key.as_str()) else {
                continue;
            };
            let publish = channel.basic_publish(
                "".into(),
                route.queue.into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..Default::default()
                },
                &delivery.data,
                match self.ids {
                    CopyId::Same => delivery.properties.clone(),
                    CopyId::New => {
                        let id = Uuid::now_v7().to_string();
                        delivery.properties.clone().with_message_id(id.into())
                    }
                },
            );
            under_way.push((route, answered("publish a copy", publish).await?));
        }
        for (route, confirm) in under_way {
            match answered("have a copy confirmed", confirm).await? {
                Confirmation::Ack(None) => self.counts.of(route).fetch_add(1, Ordering::Relaxed),
                Confirmation::Ack(Some(_)) => {
                    self.counts.unroutable.fetch_add(1, Ordering::Relaxed)
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(AmqpError::Silent {
                        doing: "have a copy confirmed",
                    });
                }
            };
        }
        if let Some(last) = batch.last() {
            let ack = last.ack(BasicAckOptions { multiple: true });
            answered("acknowledge", ack).await?;
        }
        Ok(())
    }
}

impl Counts {
    fn of(&self, route: Route) -> &AtomicU64 {
        if route == PAYMENT_REQUESTS {
            &self.requests
        } else {
            &self.results
        }
    }
}

/// Where messages of a routing key go.
fn route_of(routing_key: &str) -> Option<Route> {
    [PAYMENT_REQUESTS, ORDER_RESULTS]
        .into_iter()
        .find(|route| route.kind == routing_key)
}

/// One connection with all that hangs on it; a fault of any part ends all of it.
struct Session {
    connection: Connection,
    channel: Channel,
    deliveries: Consumer,
}

impl Session {
    async fn open(url: &str, queue: &str) -> Result<Self, AmqpError> {
        let connection = connect(url, "paidonce-prover-duplicator").await?;
        let channel = confirming_channel(&connection).await?;
        let declare = channel.exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            },
            FieldTable::default(),
        );
        answered("declare the exchange", declare).await?;
        let declare = channel.queue_declare(
            queue.into(),
            QueueDeclareOptions {
                durable: true,
                ..Default::default()
            },
            queue_arguments(),
        );
        answered("declare the duplicator's queue", declare).await?;
        for route in [PAYMENT_REQUESTS, ORDER_RESULTS] {
            let bind = channel.queue_bind(
                queue.into(),
                EXCHANGE.into(),
                route.kind.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            answered("bind the duplicator's queue", bind).await?;
        }
        let qos = channel.basic_qos(BATCH, BasicQosOptions::default());
        answered("set the prefetch", qos).await?;
        let consume = channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = answered("consume the duplicator's queue", consume).await?;
        Ok(Self {
            connection,
            channel,
            deliveries,
        })
    }
}

/// Durable: a killed broker must not lose the copies. Not a quorum queue: one that was declared
/// within half a second before a kill comes back swallowing confirms for ever, and the confirms of
/// every message of the system wait for this queue's, too.
fn queue_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("classic".into()),
    );
    arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
    arguments
}

//! Which queues a service reads and writes, and how they are declared.
//!
//! Both ends declare a live queue with the same arguments, so that a message sent before its
//! reader first started finds a queue. What exists with other arguments is reported, never
//! deleted.

use std::time::Duration;

use futures::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ErrorKind, ExchangeKind};
use tokio::time::timeout;

use crate::broker::BrokerError;
use crate::failpoints::planted;

/// Deliveries of one message before the broker gives it up to the dead-letter queue. High,
/// because a lost connection counts as one: retries are the consumer's own business.
const DELIVERY_LIMIT: i64 = 1000;

/// A broker at its limits binds within this. A cluster one of whose nodes is silent holds every
/// binding back, one that is there already too, until it gives that node up: a minute by default,
/// in which everything else works.
const BIND_LIMIT: Duration = Duration::from_secs(2);

/// A queue and the routing key it is bound by, which is also the `type` of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the queue.
    pub queue: &'static str,
    /// Routing key and `type`.
    pub kind: &'static str,
}

/// The part of the exchange that one service uses.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// Topic exchange that messages are published to.
    pub exchange: &'static str,
    /// Topic exchange for dead letters.
    pub dead_exchange: &'static str,
    /// The queue this service takes in; it declares the dead-letter queue too.
    pub reads: Route,
    /// The queue this service sends to.
    pub sends: Route,
}

impl Topology {
    /// Declares exchanges, queues and bindings. A login that may not declare (403) goes on if
    /// they exist.
    pub(crate) async fn declare(&self, connection: &Connection) -> Result<(), BrokerError> {
        for exchange in [self.exchange, self.dead_exchange] {
            self.exchange(connection, exchange).await?;
        }
        for (name, arguments) in self.queues() {
            queue(connection, &name, arguments).await?;
        }
        let dead = dead_queue(self.reads);
        let (reads, sends) = (self.reads, self.sends);
        try_join_all([
            bind(connection, &dead, self.dead_exchange, reads.queue),
            bind(connection, reads.queue, self.exchange, reads.kind),
            bind(connection, sends.queue, self.exchange, sends.kind),
        ])
        .await
        .map(drop)
    }

    /// The queues that this service declares, with their arguments.
    pub(crate) fn queues(&self) -> [(String, FieldTable); 3] {
        let live = |route: Route| (route.queue.to_owned(), self.live_arguments(route));
        let dead = (dead_queue(self.reads), dead_arguments());
        [dead, live(self.reads), live(self.sends)]
    }

    /// The queues on both ways beside the one that is sent to, the other side's dead letters too.
    pub(crate) fn beside_sends(&self) -> [String; 3] {
        let reads = self.reads.queue.to_owned();
        [dead_queue(self.sends), reads, dead_queue(self.reads)]
    }

    async fn exchange(&self, connection: &Connection, name: &str) -> Result<(), BrokerError> {
        let declare = async |passive| {
            // A refusal closes the channel, so each declaration has one of its own.
            let channel = connection.create_channel().await?;
            channel
                .exchange_declare(
                    name.into(),
                    ExchangeKind::Topic,
                    ExchangeDeclareOptions {
                        durable: true,
                        passive,
                        ..Default::default()
                    },
                    FieldTable::default(),
                )
                .await?;
            channel.close(200, "done".into()).await
        };
        match declare(false).await {
            Err(error) if is_refused(&error) => declare(true).await,
            other => other,
        }
        .map_err(|source| refusal(connection, format!("exchange {name}"), source))
    }

    fn live_arguments(&self, route: Route) -> FieldTable {
        let mut arguments = dead_arguments();
        arguments.insert("x-dead-letter-exchange".into(), text(self.dead_exchange));
        arguments.insert("x-dead-letter-routing-key".into(), text(route.queue));
        // At most once, the default, may lose what is dead-lettered.
        let strategy = match planted("dead_letters_at_most_once") {
            true => "at-most-once",
            false => "at-least-once",
        };
        arguments.insert("x-dead-letter-strategy".into(), text(strategy));
        arguments
    }
}

fn dead_queue(route: Route) -> String {
    format!("{}.dead", route.queue)
}

/// What every queue of ours has: replicated and on disk, and full means refused, not dropped.
fn dead_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongLongInt(DELIVERY_LIMIT),
    );
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn queue(
    connection: &Connection,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let declare = async |passive| {
        let channel = connection.create_channel().await?;
        channel
            .queue_declare(
                name.into(),
                QueueDeclareOptions {
                    durable: true,
                    passive,
                    ..Default::default()
                },
                arguments.clone(),
            )
            .await?;
        channel.close(200, "done".into()).await
    };
    match declare(false).await {
        Err(error) if is_refused(&error) => declare(true).await,
        other => other,
    }
    .map_err(|source| refusal(connection, format!("queue {name}"), source))
}

async fn bind(
    connection: &Connection,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), BrokerError> {
    let bind = async {
        let channel = connection.create_channel().await?;
        channel
            .queue_bind(
                ShortString::from(queue),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        channel.close(200, "done".into()).await
    };
    // It cannot be asked whether a binding exists; a missing one shows as a returned message, and
    // then this is tried again.
    match timeout(BIND_LIMIT, bind).await {
        Err(_) => {
            tracing::warn!(
                queue,
                "the broker does not answer a binding; going on without"
            );
            Ok(())
        }
        Ok(Err(error)) if is_refused(&error) => Ok(()),
        Ok(other) => other,
    }
    .map_err(|source| refusal(connection, format!("binding of {queue}"), source))
}

/// Tells what exists with other arguments (406) from what cannot be declared for another reason.
fn refusal(connection: &Connection, what: String, source: lapin::Error) -> BrokerError {
    if is_soft(&source, AMQPSoftError::PRECONDITIONFAILED) {
        let vhost = connection.status().vhost().to_string();
        return BrokerError::Differs {
            what,
            vhost,
            source,
        };
    }
    BrokerError::Declare { what, source }
}

fn is_refused(error: &lapin::Error) -> bool {
    is_soft(error, AMQPSoftError::ACCESSREFUSED)
}

fn is_soft(error: &lapin::Error, kind: AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if *error.kind() == AMQPErrorKind::Soft(kind))
}

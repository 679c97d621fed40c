//! The broker as an outsider uses it: one message published raw, a queue emptied, messages taken
//! away. Nothing here knows what a message means.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Confirmation, Connection, ConnectionProperties};
use tokio::time::{Instant, timeout, timeout_at};

pub use lapin::BasicProperties;

/// A broker that does not answer within this time does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Above that of consumers who say nothing of a priority.
const FIRST: i32 = 10;
/// Seconds; a frozen broker is noticed after about twice as long.
const HEARTBEAT: u16 = 4;

/// The broker did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The URL is not one of a broker.
    #[error("not an amqp url: {0}")]
    Url(String),
    /// It answered with an error, or the connection broke.
    #[error("cannot {doing}")]
    Failed {
        /// What it was asked for.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<lapin::Error>,
    },
    /// It did not answer.
    #[error("cannot {doing}: no answer")]
    Silent {
        /// What it was asked for.
        doing: &'static str,
    },
}

/// One message, exactly as it is to arrive.
#[derive(Clone, Debug, PartialEq)]
pub struct RawMessage {
    /// Exchange; empty for the default exchange, where the routing key is a queue's name.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Properties and headers. Nothing is added to them.
    pub properties: BasicProperties,
    /// Body.
    pub body: Vec<u8>,
}

/// What the broker did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in at least one queue.
    Queued,
    /// No queue is bound for it.
    Unroutable,
    /// The broker would not take it (a full queue, for instance).
    Refused,
}

/// A message taken from a queue and acknowledged, so that nobody else ever gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stolen {
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

/// Waits for an answer of the broker, within a bound.
pub(crate) async fn answered<T>(
    doing: &'static str,
    answer: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, AmqpError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(source)) => Err(AmqpError::Failed {
            doing,
            source: Box::new(source),
        }),
        Err(_) => Err(AmqpError::Silent { doing }),
    }
}

/// Connects to `amqp://user:password@host:port/vhost`, under a name that the management pages show.
///
/// # Errors
/// [`AmqpError`] when the URL is wrong or the broker does not answer within ten seconds.
pub async fn connect(url: &str, name: &str) -> Result<Connection, AmqpError> {
    let mut uri: AMQPUri = url.parse().map_err(AmqpError::Url)?;
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    answered(
        "connect to the broker",
        Connection::connect_uri(uri, properties),
    )
    .await
}

/// A channel on which every publish is confirmed.
pub(crate) async fn confirming_channel(connection: &Connection) -> Result<Channel, AmqpError> {
    let channel = answered("open a channel", connection.create_channel()).await?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    answered("switch confirms on", confirms).await?;
    Ok(channel)
}

/// Publishes one message and waits for the broker's confirm. One message at a time: only then does
/// a return surely belong to it.
///
/// # Errors
/// [`AmqpError`] when the broker does not take it within ten seconds; it may have taken it all the
/// same.
pub async fn publish(
    connection: &Connection,
    message: &RawMessage,
) -> Result<Published, AmqpError> {
    let channel = confirming_channel(connection).await?;
    let confirm = answered(
        "publish",
        channel.basic_publish(
            message.exchange.as_str().into(),
            message.routing_key.as_str().into(),
            BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            },
            &message.body,
            message.properties.clone(),
        ),
    )
    .await?;
    let published = match answered("have a publish confirmed", confirm).await? {
        Confirmation::Ack(None) | Confirmation::NotRequested => Published::Queued,
        Confirmation::Ack(Some(_)) => Published::Unroutable,
        Confirmation::Nack(_) => Published::Refused,
    };
    answered("close a channel", channel.close(200, "done".into())).await?;
    Ok(published)
}

/// Throws away all messages that are ready in a queue, and tells how many they were. Messages that
/// a consumer holds unacknowledged stay.
///
/// # Errors
/// [`AmqpError`] when there is no such queue or no answer.
pub async fn purge(connection: &Connection, queue: &str) -> Result<u32, AmqpError> {
    let channel = answered("open a channel", connection.create_channel()).await?;
    let purged = answered(
        "purge a queue",
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()),
    )
    .await?;
    answered("close a channel", channel.close(200, "done".into())).await?;
    Ok(purged)
}

/// Consumes a queue before its rightful consumers for as long as told, and acknowledges everything
/// that it is given.
///
/// # Errors
/// [`AmqpError`] when there is no such queue, or when the broker goes away in the middle.
pub async fn steal(
    connection: &Connection,
    queue: &str,
    how_long: Duration,
) -> Result<Vec<Stolen>, AmqpError> {
    const DOING: &str = "consume a queue";
    let until = Instant::now() + how_long;
    let channel = answered("open a channel", connection.create_channel()).await?;
    let mut priority = FieldTable::default();
    priority.insert("x-priority".into(), AMQPValue::LongInt(FIRST));
    let mut deliveries = answered(
        DOING,
        channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            priority,
        ),
    )
    .await?;
    let mut stolen = Vec::new();
    while let Ok(delivery) = timeout_at(until, deliveries.next()).await {
        // The end of the stream is a fault: the queue or the connection is gone.
        let delivery = delivery
            .ok_or(AmqpError::Silent { doing: DOING })?
            .map_err(|source| AmqpError::Failed {
                doing: DOING,
                source: Box::new(source),
            })?;
        answered("acknowledge", delivery.ack(BasicAckOptions::default())).await?;
        stolen.push(Stolen {
            routing_key: delivery.routing_key.as_str().to_owned(),
            properties: delivery.properties,
            body: delivery.data,
        });
    }
    answered("close a channel", channel.close(200, "done".into())).await?;
    Ok(stolen)
}

/// A copy of the next message that is published to an exchange under a routing key. The original
/// goes where it was to go.
///
/// # Errors
/// [`AmqpError`] when there is no such exchange, or no such message within ten seconds.
pub async fn overhear(
    connection: &Connection,
    exchange: &str,
    routing_key: &str,
) -> Result<RawMessage, AmqpError> {
    const DOING: &str = "overhear a message";
    let channel = answered("open a channel", connection.create_channel()).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let queue = channel.queue_declare("".into(), own, FieldTable::default());
    let queue = answered("declare a queue", queue).await?;
    let bind = channel.queue_bind(
        queue.name().clone(),
        exchange.into(),
        routing_key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    answered("bind a queue", bind).await?;
    let copies = channel.basic_consume(
        queue.name().clone(),
        "".into(),
        BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        },
        FieldTable::default(),
    );
    let mut copies = answered(DOING, copies).await?;
    let copy = timeout(ANSWER_TIMEOUT, copies.next()).await;
    let copy = copy
        .ok()
        .flatten()
        .ok_or(AmqpError::Silent { doing: DOING })?;
    let copy = copy.map_err(|source| AmqpError::Failed {
        doing: DOING,
        source: Box::new(source),
    })?;
    answered("close a channel", channel.close(200, "done".into())).await?;
    Ok(RawMessage {
        exchange: copy.exchange.as_str().to_owned(),
        routing_key: copy.routing_key.as_str().to_owned(),
        properties: copy.properties,
        body: copy.data,
    })
}

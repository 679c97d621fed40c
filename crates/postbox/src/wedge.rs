//! A queue that swallows. A quorum queue that was declared within half a second before its broker
//! was killed comes back as if it was well, and is dead: declaring it succeeds, publishes are
//! never confirmed or all refused, nothing can be taken out. What was confirmed before is gone;
//! asking again brings it back, once there is a queue that works.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::FieldTable;
use tokio::time::timeout;

use crate::broker::{self, BrokerError};
use crate::config::BrokerConfig;
use crate::topology::Topology;

/// A queue that is well answers within milliseconds, and a broker at its limits within this.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// The broker itself waits some seconds for the dead queue before it lets go of it.
const DELETE_LIMIT: Duration = Duration::from_secs(60);

/// Asks the queue that confirms nothing whether it lives. If it does not, and only then: asks the
/// others beside it too, for one kill leaves all dead that were new, and deletes the dead ones
/// where that is switched on, else says what to do. They are declared anew by the next sessions.
///
/// A cluster that has lost its majority looks the same from here, and its queues come back with
/// their messages: that is why the switch is off by default.
pub(crate) async fn check(
    config: &BrokerConfig,
    name: &str,
    topology: &Topology,
) -> Result<(), BrokerError> {
    if answers(config, name, topology.sends.queue).await? {
        return Ok(());
    }
    let mut dead = vec![topology.sends.queue.to_owned()];
    for queue in topology.beside_sends() {
        if !answers(config, name, &queue).await? {
            dead.push(queue);
        }
    }
    mend(config, name, dead).await
}

/// The same for one queue, which a session did not survive.
pub(crate) async fn check_one(
    config: &BrokerConfig,
    name: &str,
    queue: &str,
) -> Result<(), BrokerError> {
    match answers(config, name, queue).await? {
        true => Ok(()),
        false => mend(config, name, vec![queue.to_owned()]).await,
    }
}

/// Deletes dead queues where that is switched on. Never `Ok`: what was done is news as well.
async fn mend(config: &BrokerConfig, name: &str, dead: Vec<String>) -> Result<(), BrokerError> {
    let commands: Vec<String> = dead
        .iter()
        .map(|queue| format!("rabbitmqctl -p {} delete_queue {queue}", config.vhost))
        .collect();
    let wedged = || BrokerError::Wedged {
        queues: dead.join(", "),
        commands: commands.join("; "),
    };
    if !config.heal_wedged {
        return Err(wedged());
    }
    for queue in &dead {
        tracing::error!(
            queue,
            "the queue does not answer: it is deleted with what is in it and declared anew \
             (RABBITMQ__HEAL_WEDGED is on)"
        );
        if let Err(error) = delete(config, name, queue).await {
            tracing::error!(queue, "the queue cannot be deleted: {error}");
            return Err(wedged());
        }
    }
    Err(BrokerError::Healed {
        queues: dead.join(", "),
    })
}

async fn delete(config: &BrokerConfig, name: &str, queue: &str) -> Result<(), BrokerError> {
    let connection = broker::connect(config, name).await?;
    let delete = async {
        let channel = connection.create_channel().await?;
        // Neither if-unused nor if-empty: a dead queue cannot tell.
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
    };
    match timeout(DELETE_LIMIT, delete).await {
        Ok(deleted) => deleted.map(drop)?,
        Err(_) => return Err(BrokerError::gone()),
    }
    broker::leave(&connection).await;
    Ok(())
}

/// Asks for a message, the one question that a dead queue cannot answer. A queue that comes back dead
/// is empty, so one that has messages is not asked: each answer would be a delivery, and these are
/// counted. A message that comes between is given back.
async fn answers(config: &BrokerConfig, name: &str, queue: &str) -> Result<bool, BrokerError> {
    // On a connection of its own: the broker closes the one that asked a dead queue.
    let connection = broker::connect(config, name).await?;
    let get = async {
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let seen = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await?;
        if seen.message_count() > 0 {
            return Ok(());
        }
        channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .map(drop)
    };
    match timeout(PROBE_LIMIT, get).await {
        Err(_) => Ok(false),
        Ok(Ok(())) => {
            broker::leave(&connection).await;
            Ok(true)
        }
        Ok(Err(error)) => match error.kind() {
            // The broker's own timeout, passed on to us.
            ErrorKind::ProtocolError(error)
                if *error.kind() == AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR) =>
            {
                Ok(false)
            }
            // Refused, or not there: an answer.
            ErrorKind::ProtocolError(_) => Ok(true),
            _ => Err(error.into()),
        },
    }
}

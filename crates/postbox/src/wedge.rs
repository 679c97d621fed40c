//! A queue that swallows. A quorum queue that was declared within half a second before its broker
//! was killed comes back as if it was well, and is dead: declaring it succeeds, publishes are
//! never confirmed, nothing can be taken out. What was confirmed before is gone; asking again
//! brings it back, once there is a queue that works.

use std::time::Duration;

use lapin::options::{BasicGetOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::{Connection, ErrorKind};
use tokio::time::timeout;

use crate::broker::{self, BrokerError};
use crate::config::BrokerConfig;

/// A queue that is well answers within milliseconds, and a broker at its limits within this.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// The broker itself waits some seconds for the dead queue before it lets go of it.
const DELETE_LIMIT: Duration = Duration::from_secs(60);

/// Asks a queue that confirms nothing whether it lives. If it does not, and only then: deletes it
/// where that is switched on, else says what to do. It is declared anew by the next session.
///
/// A cluster that has lost its majority looks the same from here, and its queues come back with
/// their messages: that is why the switch is off by default.
pub(crate) async fn check(
    config: &BrokerConfig,
    name: &str,
    queue: &'static str,
) -> Result<(), BrokerError> {
    // On connections of their own: the broker closes the one that asked a dead queue.
    let probe = broker::connect(config, name).await?;
    let lives = answers(&probe, queue).await;
    drop(probe);
    if lives? {
        return Ok(());
    }
    let wedged = || BrokerError::Wedged {
        queue,
        vhost: config.vhost.clone(),
    };
    if !config.heal_wedged {
        return Err(wedged());
    }
    tracing::error!(
        queue,
        "the queue confirms nothing and does not answer: it is deleted with what is in it and \
         declared anew (RABBITMQ__HEAL_WEDGED is on)"
    );
    let connection = broker::connect(config, name).await?;
    let delete = async {
        let channel = connection.create_channel().await?;
        // Neither if-unused nor if-empty: a dead queue cannot tell.
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
    };
    match timeout(DELETE_LIMIT, delete).await {
        Ok(Ok(_)) => {
            broker::leave(&connection).await;
            Err(BrokerError::Healed { queue })
        }
        Ok(Err(error)) => {
            tracing::error!(queue, "the queue cannot be deleted: {error}");
            Err(wedged())
        }
        Err(_) => {
            tracing::error!(queue, "the queue cannot be deleted: no answer");
            Err(wedged())
        }
    }
}

/// Takes a message and gives it back, the one question that a dead queue cannot answer; of one
/// that lives, a message is delivered once more than needed.
async fn answers(connection: &Connection, queue: &str) -> Result<bool, BrokerError> {
    let get = async {
        let channel = connection.create_channel().await?;
        channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
    };
    match timeout(PROBE_LIMIT, get).await {
        Err(_) => Ok(false),
        Ok(Ok(_)) => Ok(true),
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

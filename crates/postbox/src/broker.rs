//! How the broker is reached, and what can be wrong with it.

use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ConnectionState, ErrorKind};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::config::BrokerConfig;

/// TCP and handshake together. A frozen broker accepts the connection and then says nothing.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A good-bye that takes longer is none.
const GOOD_BYE_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no working connection.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No address let us in.
    #[error("cannot connect to the broker at {address}")]
    Connect {
        /// Host and port tried last.
        address: String,
        /// The broker's or the network's answer.
        source: lapin::Error,
    },
    /// Accepted, then silent.
    #[error("the broker at {address} does not answer")]
    Silent {
        /// Host and port tried last.
        address: String,
    },
    /// It exists with other arguments, and is never deleted by us.
    #[error(
        "{what} exists with other arguments than ours: let it run empty, then delete it \
         (`rabbitmqctl -p {vhost} delete_queue NAME` for a queue); it is declared anew at once"
    )]
    Differs {
        /// Which object.
        what: String,
        /// In which virtual host.
        vhost: String,
        /// The broker's answer, which names the argument.
        source: lapin::Error,
    },
    /// A queue or exchange cannot be declared.
    #[error("cannot declare {what}")]
    Declare {
        /// Which object.
        what: String,
        /// The broker's answer.
        source: lapin::Error,
    },
    /// The connection or channel went away.
    #[error("lost the broker")]
    Lost(#[from] lapin::Error),
    /// The broker deleted the queue or cancelled the consumer: no error is sent for that.
    #[error("the stream of deliveries from {queue} ended")]
    StreamEnded {
        /// Which queue.
        queue: &'static str,
    },
    /// Published, and then no confirm for so long that the rest counts as unknown.
    #[error("no confirm from the broker for {0:?}")]
    ConfirmsSilent(Duration),
    /// Queues that an early kill of the broker has left dead.
    #[error(
        "confirms stay out, and {queues} does not answer, as after a kill of the broker right after \
         it was declared: delete it ({commands}), it is declared anew at once and what was in it \
         is asked for again; RABBITMQ__HEAL_WEDGED=on does so by itself"
    )]
    Wedged {
        /// Which queues.
        queues: String,
        /// How to delete each.
        commands: String,
    },
    /// Such queues were deleted; the next session declares them.
    #[error("{queues} was dead and has been deleted; it is declared anew")]
    Healed {
        /// Which queues.
        queues: String,
    },
    /// Ended while an alarm held the messages up: none of them is to blame.
    #[error("stopped while the broker blocks publishers")]
    Blocked,
}

impl BrokerError {
    /// The connection is no more, and nobody said why.
    pub(crate) fn gone() -> Self {
        Self::Lost(ErrorKind::InvalidConnectionState(ConnectionState::Error).into())
    }

    /// Whether the broker ended the session over something that was said to it. A connection
    /// that was cut, that fell silent or was closed by an operator is nobody's fault, and a
    /// missing exchange or permission is not a message's.
    pub(crate) fn blames_a_message(&self) -> bool {
        let Self::Lost(error) = self else {
            return false;
        };
        match error.kind() {
            ErrorKind::SerialisationError(_) => true,
            ErrorKind::ProtocolError(error) => match error.kind() {
                AMQPErrorKind::Hard(kind) => *kind != AMQPHardError::CONNECTIONFORCED,
                AMQPErrorKind::Soft(kind) => matches!(
                    kind,
                    AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::CONTENTTOOLARGE
                ),
            },
            _ => false,
        }
    }
}

/// Opens a connection to the first address that lets us in. It begins with the one after that
/// which the last connection of this name had: that one may be dead and still let us in. lapin's own recovery stays off: a
/// session is rebuilt as one unit, connection, channel and topology.
pub(crate) async fn connect(config: &BrokerConfig, name: &str) -> Result<Connection, BrokerError> {
    let mut last = BrokerError::Silent {
        address: "no host given".into(),
    };
    let mut addresses = config.addresses();
    let first = config.turns.next(name) % addresses.len().max(1);
    addresses.rotate_left(first);
    for (n, (host, port)) in addresses.into_iter().enumerate() {
        let address = format!("{host}:{port}");
        let uri = uri(config, host, port);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        match timeout(CONNECT_LIMIT, Connection::connect_uri(uri, properties)).await {
            Ok(Ok(connection)) => {
                config.turns.had(name, first + n);
                return Ok(connection);
            }
            Ok(Err(source)) => last = BrokerError::Connect { address, source },
            Err(_) => last = BrokerError::Silent { address },
        }
    }
    Err(last)
}

/// A polite good-bye. A shutdown does not depend on it: a blocked connection takes none.
pub(crate) async fn leave(connection: &Connection) {
    let _ = timeout(
        GOOD_BYE_LIMIT,
        connection.close(200, "shutting down".into()),
    )
    .await;
}

fn uri(config: &BrokerConfig, host: String, port: u16) -> AMQPUri {
    let heartbeat = u16::try_from(config.heartbeat.as_secs()).unwrap_or(u16::MAX);
    AMQPUri {
        scheme: if config.tls {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.user.clone(),
                password: config.password.expose_secret().to_owned(),
            },
            host,
            port,
        },
        vhost: config.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(heartbeat),
            ..Default::default()
        },
    }
}

/// Opens a channel of its own for a queue.
pub(crate) async fn consume(
    connection: &Connection,
    queue: &str,
    name: &str,
    prefetch: u16,
) -> Result<(Channel, lapin::Consumer), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let deliveries = channel
        .basic_consume(
            queue.into(),
            name.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((channel, deliveries))
}

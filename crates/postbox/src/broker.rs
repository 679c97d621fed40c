//! The broker's side of a relay: connect, publish a round, await every confirm. The only place
//! that publishes.

use std::collections::HashSet;
use std::time::Duration;

use futures::FutureExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::config::BrokerConfig;
use crate::failpoints::moment;
use crate::message::{OutboxRow, RowRef};
use crate::outbox::Confirmed;

/// TCP and handshake together. A frozen broker accepts the connection and then says nothing.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// AMQP's mark of a message that survives a restart.
const PERSISTENT: u8 = 2;

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
    /// A queue or exchange cannot be declared; 406 means that it exists with other arguments
    /// and must be moved out of the way by an operator.
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
}

/// Opens a connection to the first address that lets us in. lapin's own recovery stays off: a
/// session is rebuilt as one unit, connection, channel and topology.
pub(crate) async fn connect(config: &BrokerConfig, name: &str) -> Result<Connection, BrokerError> {
    let mut last = BrokerError::Silent {
        address: "no host given".into(),
    };
    for (host, port) in config.addresses() {
        let address = format!("{host}:{port}");
        let uri = uri(config, host, port);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        match timeout(CONNECT_LIMIT, Connection::connect_uri(uri, properties)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(source)) => last = BrokerError::Connect { address, source },
            Err(_) => last = BrokerError::Silent { address },
        }
    }
    Err(last)
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

/// A channel in confirm mode. Rounds on one channel never overlap, see [`Publisher::publish`].
pub(crate) struct Publisher {
    channel: Channel,
    exchange: ShortString,
    app_id: ShortString,
}

/// What became of a round: each row is in one of the first three lists.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) confirmed: Vec<Confirmed>,
    /// Returned as unroutable, or refused.
    pub(crate) back: Vec<RowRef>,
    /// The broker may have it or not: to be sent again.
    pub(crate) unknown: Vec<RowRef>,
    pub(crate) unroutable: usize,
    /// Why rows are unknown; the session is over.
    pub(crate) fault: Option<BrokerError>,
}

impl Publisher {
    pub(crate) async fn open(
        connection: &Connection,
        exchange: &str,
        app_id: &str,
    ) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            exchange: exchange.into(),
            app_id: app_id.into(),
        })
    }

    /// Publishes rows, persistent and mandatory, one after the other without waiting, then
    /// awaits all of their confirms. `silence`: how long no confirm may come.
    ///
    /// An unroutable message is acked by the broker, after a return; lapin hands the return out
    /// with *some* ack that follows, not always the message's own. So returns are matched by
    /// `message_id`, and only once the whole round is in: that is why rounds do not overlap.
    pub(crate) async fn publish(&self, rows: &[OutboxRow], silence: Duration) -> Round {
        let mut round = Round::default();
        let mut open: Vec<(RowRef, &OutboxRow, PublisherConfirm)> = Vec::with_capacity(rows.len());
        for row in rows {
            if round.fault.is_some() {
                round.unknown.push(row.row);
                continue;
            }
            match self.send(row).await {
                Ok(confirm) => open.push((row.row, row, confirm)),
                Err(error) => {
                    round.unknown.push(row.row);
                    round.fault = Some(error.into());
                }
            }
        }
        moment("relay.published");
        let mut acked = Vec::with_capacity(open.len());
        let mut returned: HashSet<String> = HashSet::new();
        for (reference, row, mut confirm) in open {
            let answer = match round.fault {
                // The deadline has passed or the connection is lost: take what is there.
                Some(_) => (&mut confirm).now_or_never(),
                None => match timeout(silence, &mut confirm).await {
                    Ok(answer) => Some(answer),
                    Err(_) => {
                        round.fault = Some(BrokerError::ConfirmsSilent(silence));
                        None
                    }
                },
            };
            match answer {
                Some(Ok(Confirmation::Ack(stray))) => {
                    acked.push((reference, row.message_id.to_string()));
                    returned.extend(stray.map(|message| message_id(&message.delivery.properties)));
                }
                Some(Ok(Confirmation::Nack(stray))) => {
                    round.back.push(reference);
                    returned.extend(stray.map(|message| message_id(&message.delivery.properties)));
                }
                Some(Ok(Confirmation::NotRequested)) | None => round.unknown.push(reference),
                Some(Err(error)) => {
                    round.unknown.push(reference);
                    round.fault.get_or_insert(error.into());
                }
            }
        }
        // A return that is none of ours cannot be told apart: then nothing counts as confirmed.
        let stranger = returned
            .iter()
            .any(|id| !acked.iter().any(|(_, acked)| acked == id));
        for (reference, id) in acked {
            if stranger || returned.contains(&id) {
                round.unroutable += 1;
                round.back.push(reference);
            } else {
                round.confirmed.push(Confirmed(reference));
            }
        }
        round
    }

    async fn send(&self, row: &OutboxRow) -> Result<PublisherConfirm, lapin::Error> {
        self.channel
            .basic_publish(
                self.exchange.clone(),
                row.kind.as_str().into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..Default::default()
                },
                row.body.as_bytes(),
                self.properties(row),
            )
            .await
    }

    fn properties(&self, row: &OutboxRow) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert(
            "schema_version".into(),
            AMQPValue::ShortInt(row.schema_version),
        );
        for (name, value) in [
            ("traceparent", &row.traceparent),
            ("x-request-id", &row.request_id),
        ] {
            if let Some(value) = value {
                headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
            }
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(row.message_id.to_string().into())
            .with_type(row.kind.as_str().into())
            .with_app_id(self.app_id.clone())
            .with_timestamp(u64::try_from(now).unwrap_or_default())
            .with_headers(headers)
    }
}

fn message_id(properties: &BasicProperties) -> String {
    properties
        .message_id()
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

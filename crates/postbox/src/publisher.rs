//! A round of messages: published whole, then all of its confirms awaited. The only place that
//! publishes.

use std::collections::HashSet;

use futures::FutureExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::broker::BrokerError;
use crate::failpoints::{moment, planted};
use crate::message::{OutboxRow, RowRef};
use crate::outbox::Confirmed;
use crate::patience::Patience;

/// AMQP's mark of a message that survives a restart.
const PERSISTENT: u8 = 2;
/// Bytes of a content header beside the three texts of a row: fixed properties, names, lengths.
const HEADER_REST: usize = 512;

/// A channel in confirm mode. Rounds on one channel never overlap, see [`Publisher::publish`].
pub(crate) struct Publisher {
    channel: Channel,
    exchange: ShortString,
    app_id: ShortString,
    /// Bytes of the largest frame that both ends agreed on; a content header is one frame.
    frame_max: usize,
}

/// What became of a round: each row is in one of the first five lists.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) confirmed: Vec<Confirmed>,
    /// Returned as unroutable, or refused.
    pub(crate) back: Vec<RowRef>,
    /// The broker may have it or not: to be sent again.
    pub(crate) unknown: Vec<RowRef>,
    /// Never left, because the session was over before.
    pub(crate) unsent: Vec<RowRef>,
    /// Cannot be a message at all, with the reason.
    pub(crate) unfit: Vec<(RowRef, String)>,
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
        if !planted("confirms_off") {
            let options = ConfirmSelectOptions::default();
            channel.confirm_select(options).await?;
        }
        Ok(Self {
            channel,
            exchange: exchange.into(),
            app_id: app_id.into(),
            frame_max: match connection.configuration().frame_max() {
                0 => usize::MAX,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
        })
    }

    /// Publishes rows, persistent and mandatory, one after the other without waiting, then
    /// awaits all of their confirms, as long as `patience` lasts.
    ///
    /// An unroutable message is acked by the broker, after a return; lapin hands the return out
    /// with *some* ack that follows, not always the message's own. So returns are matched by
    /// `message_id`, and only once the whole round is in: that is why rounds do not overlap.
    pub(crate) async fn publish(&self, rows: &[OutboxRow], mut patience: Patience<'_>) -> Round {
        let mut round = Round::default();
        let mut open: Vec<(&OutboxRow, PublisherConfirm)> = Vec::with_capacity(rows.len());
        for row in rows {
            if round.fault.is_some() {
                round.unsent.push(row.row);
                continue;
            }
            let kind = match self.kind(row) {
                Ok(kind) => kind,
                Err(why) => {
                    round.unfit.push((row.row, why));
                    continue;
                }
            };
            // A send waits for the socket: a blocked or stalled one takes nothing.
            let sent = tokio::select! {
                biased;
                sent = self.send(row, kind) => sent.map_err(BrokerError::from),
                fault = patience.over() => Err(fault),
            };
            match sent {
                Ok(confirm) => {
                    patience.seen();
                    open.push((row, confirm));
                }
                Err(error) => {
                    round.unknown.push(row.row);
                    round.fault = Some(error);
                }
            }
        }
        moment("relay.published");
        let mut acked: Vec<&OutboxRow> = Vec::with_capacity(open.len());
        let mut returned: HashSet<Option<Uuid>> = HashSet::new();
        for (row, mut confirm) in open {
            let answer = match round.fault {
                // The deadline has passed or the connection is lost: take what is there.
                Some(_) => (&mut confirm).now_or_never(),
                None => tokio::select! {
                    biased;
                    answer = &mut confirm => Some(answer),
                    fault = patience.over() => {
                        round.fault = Some(fault);
                        None
                    }
                },
            };
            match answer {
                Some(Ok(Confirmation::Ack(stray))) => {
                    patience.seen();
                    acked.push(row);
                    returned.extend(stray.map(|message| message_id(&message.delivery.properties)));
                }
                Some(Ok(Confirmation::Nack(None))) if planted("a_refusal_is_a_confirm") => {
                    acked.push(row);
                }
                Some(Ok(Confirmation::NotRequested)) if planted("confirms_off") => acked.push(row),
                Some(Ok(Confirmation::Nack(stray))) => {
                    patience.seen();
                    round.back.push(row.row);
                    returned.extend(stray.map(|message| message_id(&message.delivery.properties)));
                }
                Some(Ok(Confirmation::NotRequested)) | None => round.unknown.push(row.row),
                Some(Err(error)) => {
                    round.unknown.push(row.row);
                    // The broker's own answer says more than that a channel is closed since.
                    let error = BrokerError::from(error);
                    if round.fault.is_none() || error.blames_a_message() {
                        round.fault = Some(error);
                    }
                }
            }
        }
        if planted("returned_by_position") {
            // As if returns came in the order of the messages.
            let first = acked.iter().take(returned.len());
            returned = first.map(|row| Some(row.message_id)).collect();
        }
        // A return that is none of ours cannot be told apart: then nothing counts as confirmed.
        let stranger = returned
            .iter()
            .any(|id| !acked.iter().any(|row| Some(row.message_id) == *id));
        for row in acked {
            if !returned.is_empty() && (stranger || returned.contains(&Some(row.message_id))) {
                round.unroutable += 1;
                round.back.push(row.row);
            } else {
                round.confirmed.push(Confirmed(row.row));
            }
        }
        if planted("silence_is_a_confirm") {
            let unknown = std::mem::take(&mut round.unknown);
            round.confirmed.extend(unknown.into_iter().map(Confirmed));
        }
        round
    }

    /// An empty message to nowhere. Its confirm shows that this session can publish, so what ends
    /// the session next is to blame for it.
    pub(crate) async fn try_out(&self, mut patience: Patience<'_>) -> Result<(), BrokerError> {
        let empty = async {
            self.channel
                .basic_publish(
                    self.exchange.clone(),
                    ShortString::default(),
                    BasicPublishOptions::default(),
                    &[],
                    BasicProperties::default(),
                )
                .await?
                .await
        };
        tokio::select! {
            answer = empty => answer.map(drop).map_err(BrokerError::from),
            fault = patience.over() => Err(fault),
        }
    }

    /// The routing key of a row, if it can be a message: lapin panics at a longer name, and a
    /// header above the frame size never leaves it.
    fn kind(&self, row: &OutboxRow) -> Result<ShortString, String> {
        let kind = ShortString::try_new(row.kind.as_str())
            .map_err(|error| format!("its kind is no AMQP type: {error}"))?;
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let header = row.kind.len() + length(&row.traceparent) + length(&row.request_id);
        if header + HEADER_REST > self.frame_max {
            return Err(format!(
                "its headers take {header} bytes, and a frame of this broker {}",
                self.frame_max
            ));
        }
        Ok(kind)
    }

    async fn send(
        &self,
        row: &OutboxRow,
        kind: ShortString,
    ) -> Result<PublisherConfirm, lapin::Error> {
        self.channel
            .basic_publish(
                self.exchange.clone(),
                kind,
                BasicPublishOptions {
                    mandatory: !planted("mandatory_off"),
                    ..Default::default()
                },
                row.body.as_bytes(),
                self.properties(row),
            )
            .await
    }

    fn properties(&self, row: &OutboxRow) -> BasicProperties {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        row.properties()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id(self.app_id.clone())
            .with_timestamp(u64::try_from(now).unwrap_or_default())
    }
}

/// `None` is nobody's: our messages all have one.
fn message_id(properties: &BasicProperties) -> Option<Uuid> {
    Uuid::parse_str(properties.message_id().as_ref()?.as_str()).ok()
}

/// A planted fault: this connection becomes one that publishes, and the broker reads nothing from
/// those in an alarm, acknowledgements least of all.
pub(crate) async fn publish_nothing(connection: &Connection) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel
        .basic_publish("".into(), "nowhere".into(), options, b"", properties)
        .await?;
    Ok(())
}

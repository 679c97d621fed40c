//! What the broker gave up: from the queue `*.dead` into the table, where it is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use lapin::{Channel, Connection};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::{self, BrokerError};
use crate::consumer::{Consumer, acknowledge};
use crate::delivery;
use crate::inbox::{Committed, Handler};
use crate::parked::{self, ParkReason, Parked, Unreadable};
use crate::relay::chain;
use crate::status::TaskStatus;
use crate::wedge;

/// How moving dead letters goes, over all sessions.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// What to tell about it: `Ok` unless they cannot be moved.
    pub status: TaskStatus,
    /// The last session asked for their queue and got no answer while it lived: that may be what
    /// it died of, for the broker closes the connection of whoever asks a dead queue.
    unanswered: Arc<AtomicBool>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        let status = TaskStatus::default();
        status.set(Ok("nothing was asked for yet".into()));
        Self {
            status,
            unanswered: Arc::default(),
        }
    }
}

/// Dead letters under way at a time; they may be large, and nobody waits for them.
const PREFETCH: u16 = 20;

impl<H: Handler> Consumer<H> {
    /// Moves dead letters until `stop`, on a channel of its own: trouble with this queue never
    /// touches the live one. A queue that is gone is declared anew; the broker keeps what it
    /// cannot dead-letter meanwhile. One that does not answer is left alone and told about.
    pub(crate) async fn move_dead_letters(
        &self,
        connection: &Connection,
        name: &str,
        stop: &CancellationToken,
    ) {
        let queue = format!("{}.dead", self.topology.reads.queue);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        while !stop.is_cancelled() {
            let moving = self.move_letters(connection, &queue, name, &mut backoff, stop);
            let text = match moving.await {
                Ok(Some(())) => format!("the stream of deliveries from {queue} ended"),
                Ok(None) => return,
                Err(error) => format!("{queue}: {}", chain(&error)),
            };
            if stop.is_cancelled() {
                return;
            }
            if self.dead_letters.status.set(Err(text.clone())) {
                tracing::warn!(app = self.app_id, "consumer: {text}; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.topology.declare(connection).await {
                tracing::debug!(app = self.app_id, "consumer: {}", chain(&error));
            }
        }
    }

    /// Asks for dead letters. Where the last session did not outlive that, the queue is looked at
    /// first, on another connection. `None`: stopped.
    async fn ask(
        &self,
        connection: &Connection,
        queue: &str,
        name: &str,
        stop: &CancellationToken,
    ) -> Result<Option<(Channel, lapin::Consumer)>, BrokerError> {
        let asking = async {
            let unanswered = &self.dead_letters.unanswered;
            if unanswered.load(Ordering::Relaxed) {
                wedge::check_one(&self.broker, name, queue).await?;
            }
            unanswered.store(true, Ordering::Relaxed);
            let consuming = broker::consume(connection, queue, name, PREFETCH).await;
            // An answer, be it a refusal, unless the connection went with it.
            let answered = connection.status().connected();
            unanswered.store(!answered, Ordering::Relaxed);
            Ok(consuming?)
        };
        stop.run_until_cancelled(asking).await.transpose()
    }

    /// `Some`: the queue is gone; `None`: stopped.
    async fn move_letters(
        &self,
        connection: &Connection,
        queue: &str,
        name: &str,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<Option<()>, BrokerError> {
        let Some((channel, deliveries)) = self.ask(connection, queue, name, stop).await? else {
            return Ok(None);
        };
        let moves = format!("moves what comes to {queue}");
        self.dead_letters.status.set(Ok(moves));
        let mut batches = deliveries.ready_chunks(usize::from(PREFETCH));
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                batch = batches.next() => batch,
            };
            let Some(batch) = batch else {
                return Ok(Some(()));
            };
            let batch: Vec<Delivery> = batch.into_iter().collect::<Result<_, _>>()?;
            let Some(last) = batch.last() else { continue };
            let last_tag = last.delivery_tag;
            let letters: Vec<Parked> = batch.into_iter().map(|d| self.judge(d)).collect();
            let live = self.topology.reads.queue;
            let keep = || keep(&self.pool, live, letters.clone(), last_tag);
            let Some(committed) = self.patiently(stop, keep).await else {
                return Ok(None);
            };
            acknowledge(&channel, committed).await?;
            self.working();
            backoff.reset();
        }
    }

    /// Why a dead letter is parked: what is wrong with it, or else that it is dead. One that was
    /// delivered before is not read again: reading may be what it kills with.
    fn judge(&self, delivery: Delivery) -> Parked {
        let was_delivered = delivery.redelivered;
        let raw = Parked::of(delivery, Unreadable::unsaid());
        let dead = Unreadable::new(ParkReason::DeadLettered, cause(&raw));
        if was_delivered {
            return Parked { why: dead, ..raw };
        }
        let read = delivery::read(&*self.handler, raw);
        match read.message {
            Some(_) => Parked {
                why: dead,
                ..read.raw
            },
            None => read.raw,
        }
    }
}

/// Parks a batch under the live queue's name, where it is to go back to.
async fn keep(
    pool: &PgPool,
    queue: &str,
    letters: Vec<Parked>,
    last_tag: u64,
) -> Result<Committed, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    parked::park(&mut transaction, queue, letters).await?;
    transaction.commit().await?;
    Ok(Committed { last_tag })
}

/// What the broker says of it. The header can be forged, so it is told and nothing more.
fn cause(raw: &Parked) -> String {
    let headers = raw.properties.headers().as_ref();
    let reason = headers.and_then(|headers| {
        let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
            return None;
        };
        let Some(AMQPValue::FieldTable(last)) = deaths.as_slice().first() else {
            return None;
        };
        match last.inner().get("reason") {
            Some(AMQPValue::LongString(reason)) => Some(reason.to_string()),
            _ => None,
        }
    });
    match reason {
        Some(reason) => format!("the broker gave it up: {reason:.64}"),
        None => "found in the dead-letter queue".into(),
    }
}

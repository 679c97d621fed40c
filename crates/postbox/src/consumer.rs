//! Broker → one transaction → acknowledgement. Natural batches: what is there is taken, nothing
//! lingers. Rebuilds its session for ever; waits out its database in place.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::{Channel, Connection};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::attempts;
use crate::backoff::Backoff;
use crate::broker::{self, BrokerError};
use crate::config::{BrokerConfig, ConsumerConfig};
use crate::dead_letters::DeadLetters;
use crate::deadline;
use crate::delivery::{self, Turn};
use crate::failpoints::{moment, planted};
use crate::hand_over::Outbox;
use crate::inbox::{Committed, Handler, Read, Taken, take_in};
use crate::parked::{Parked, Unreadable};
use crate::relay::chain;
use crate::status::TaskStatus;
use crate::topology::Topology;

/// How often a batch that collides with another transaction is tried again as it is. If it still
/// does, the row in the way may stay there, and its messages are tried one by one.
const COLLISIONS: u32 = 2;
/// Longer than the other transaction needs to end.
const COLLISION_PAUSE: Duration = Duration::from_millis(30);

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
    /// What to tell about its dead letters.
    pub dead_letters: DeadLetters,
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
            // On the heap: whoever runs this would else carry all of a session on the stack.
            match Box::pin(self.session(&shutdown, &mut backoff)).await {
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
        // Before anything is taken from the broker: while the database is away, nothing is.
        let Some(suspects) = self
            .patiently(shutdown, || {
                attempts::known(&self.pool, self.topology.reads.queue)
            })
            .await
        else {
            return Ok(());
        };
        let connection = broker::connect(&self.broker, &name).await?;
        self.topology.declare(&connection).await?;
        if planted("one_connection_for_both") {
            crate::publisher::publish_nothing(&connection).await?;
        }
        let stop = shutdown.child_token();
        let live = async {
            let ended = self
                .live(&connection, &name, suspects, &stop, backoff)
                .await;
            stop.cancel();
            ended
        };
        let (live, ()) = tokio::join!(
            Box::pin(live),
            Box::pin(self.move_dead_letters(&connection, &name, &stop))
        );
        live?;
        // Unfinished deliveries go back to the queue when the connection closes.
        broker::leave(&connection).await;
        Ok(())
    }

    /// Takes the live queue in until `stop`. What was never delivered before goes together, a
    /// batch to a transaction. What was goes alone, see [`Self::alone`], each in its turn.
    ///
    /// `redelivered` is the sign. The quorum queue's `x-delivery-count` comes from the same
    /// counter and would say no more, and as a header it can be forged.
    async fn live(
        &self,
        connection: &Connection,
        name: &str,
        mut suspects: HashSet<String>,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), BrokerError> {
        let queue = self.topology.reads.queue;
        let (channel, deliveries) =
            broker::consume(connection, queue, name, self.config.prefetch.get()).await?;
        self.working();
        tracing::info!(app = self.app_id, "consumer: taking in {queue}");
        let mut batches = deliveries.ready_chunks(self.config.batch.get());
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                batch = batches.next() => match batch {
                    None if planted("the_end_of_the_stream_is_nothing") => {
                        stop.cancelled().await;
                        return Ok(());
                    }
                    batch => batch.ok_or(BrokerError::StreamEnded { queue })?,
                },
            };
            let mut whole = Vec::with_capacity(batch.len());
            let mut fault = None;
            for delivery in batch {
                match delivery {
                    Ok(delivery) => whole.push(delivery),
                    Err(error) => fault = Some(error),
                }
            }
            if let (Some(last), true) = (whole.last(), planted("acknowledged_before_the_commit")) {
                let options = BasicAckOptions { multiple: true };
                channel.basic_ack(last.delivery_tag, options).await?;
            }
            for turn in delivery::turns(whole, &suspects) {
                let committed = match turn {
                    Turn::Together(deliveries) => self.settle(deliveries, stop).await,
                    Turn::Alone(delivery) => self.alone(*delivery, &mut suspects, stop).await,
                };
                // What comes after an unfinished turn must not be acknowledged: that would take
                // in all before it.
                let Some(committed) = committed else {
                    if goes_back() && !stop.is_cancelled() {
                        give_back(&channel).await?;
                        break;
                    }
                    return Ok(());
                };
                if !planted("acknowledged_before_the_commit") {
                    acknowledge(&channel, committed).await?;
                }
                moment("consumer.acknowledged");
                backoff.reset();
            }
            if let Some(error) = fault {
                return Err(error.into());
            }
        }
    }

    /// Takes a batch in. If it fails for another reason than a server's, its messages are tried
    /// one by one, and the one that fails alone, as often as allowed, is parked.
    async fn settle(
        &self,
        deliveries: Vec<Delivery>,
        stop: &CancellationToken,
    ) -> Option<Committed> {
        let tags: Vec<u64> = deliveries
            .iter()
            .map(|delivery| delivery.delivery_tag)
            .collect();
        let last_tag = *tags.last()?;
        let mut reads: Vec<Read<H::Message>> = deliveries
            .into_iter()
            .map(|delivery| {
                delivery::read(&*self.handler, Parked::of(delivery, Unreadable::unsaid()))
            })
            .collect();
        moment("consumer.delivered");
        if reads.iter().any(|read| read.message.is_none()) && planted("poison_goes_back_once") {
            return None;
        }
        if planted("attempts_of_the_whole_batch") {
            self.count_all(&mut reads, stop).await?;
        }
        if let Some(committed) = self.attempt(&mut reads, last_tag, None, stop).await? {
            return Some(committed);
        }
        let mut committed = None;
        for (read, tag) in reads.iter_mut().zip(tags) {
            committed = Some(self.until_parked(read, tag, None, stop).await?);
        }
        committed
    }

    /// Tries one message until it is taken in; when it has failed as often as allowed, it is
    /// parked. `None`: stopped first.
    pub(crate) async fn until_parked(
        &self,
        read: &mut Read<H::Message>,
        tag: u64,
        alone: Option<&str>,
        stop: &CancellationToken,
    ) -> Option<Committed> {
        let read = std::slice::from_mut(read);
        let mut attempts = 0;
        loop {
            if let Some(done) = self.attempt(read, tag, alone, stop).await? {
                return Some(done);
            }
            attempts += 1;
            if attempts >= self.config.max_attempts.get() {
                // `attempt` has left the reason in it.
                read[0].message = None;
            }
        }
    }

    /// One transaction, waited out while a server is to blame. Outer `None`: stopped first, or
    /// given back, which only a planted fault does; inner `None`: the messages are to blame, and `raw.why` of each says how.
    async fn attempt(
        &self,
        reads: &mut [Read<H::Message>],
        last_tag: u64,
        alone: Option<&str>,
        stop: &CancellationToken,
    ) -> Option<Option<Committed>> {
        let queue = self.topology.reads.queue;
        let mut backoff = Backoff::reconnect();
        let mut is_counted = true;
        let mut collisions = 0;
        loop {
            if let (Some(identity), false) = (alone, is_counted) {
                self.patiently(stop, || self.raise(identity)).await?;
            }
            let taking = take_in(&self.pool, &*self.handler, queue, reads, last_tag, alone);
            let taking = deadline::transaction(taking);
            let outcome = match alone {
                None => Some(taking.await),
                Some(_) => attempts::in_time(taking, stop).await,
            };
            let error = match outcome {
                Some(Ok(taken)) => return Some(Some(self.done(taken))),
                Some(Err(error))
                    if error.is_collision() && reads.len() > 1 && collisions < COLLISIONS =>
                {
                    collisions += 1;
                    tokio::time::sleep(COLLISION_PAUSE).await;
                    continue;
                }
                Some(Err(error))
                    if !error.is_transient() || planted("a_server_s_fault_is_an_attempt") =>
                {
                    tracing::error!(
                        app = self.app_id,
                        messages = reads.len(),
                        "consumer: {}",
                        chain(&error)
                    );
                    for read in reads.iter_mut().filter(|read| read.message.is_some()) {
                        read.raw.why = error.exhausted();
                    }
                    return Some(None);
                }
                Some(Err(_)) if planted("a_failure_goes_back_to_the_queue") => return None,
                Some(Err(_)) if planted("acknowledged_after_an_unknown_commit") => {
                    return Some(Some(Committed { last_tag }));
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            if let Some(identity) = alone {
                // No death. Where the database is away this cannot be written, and who is killed
                // then has counted one; not more, because counting needs the database.
                let lowered = attempts::lower(&self.pool, queue, identity);
                let lowered = deadline::statement(lowered).await;
                is_counted = lowered.is_err();
            }
            self.wait(&error?, &mut backoff, stop).await?;
        }
    }

    /// Asks the database until it answers. `None`: stopped first.
    pub(crate) async fn patiently<T, F>(
        &self,
        stop: &CancellationToken,
        ask: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut backoff = Backoff::reconnect();
        loop {
            match deadline::transaction(ask()).await {
                Ok(answer) => return Some(answer),
                Err(error) => self.wait(&error, &mut backoff, stop).await?,
            }
        }
    }

    /// Says what is waited for, and waits. `None`: stopped first.
    async fn wait(
        &self,
        error: &(dyn Error + Sync),
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Option<()> {
        let text = chain(error);
        if self.status.set(Err(text.clone())) {
            tracing::warn!(app = self.app_id, "consumer: {text}; waiting");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => Some(()),
            () = stop.cancelled() => None,
        }
    }

    fn done(&self, taken: Taken<H::Message>) -> Committed {
        self.working();
        let handled = taken.applied.len() + taken.duplicates;
        self.status.count_handled(handled, taken.duplicates);
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

    pub(crate) fn working(&self) {
        self.status
            .set(Ok(format!("taking in {}", self.topology.reads.queue)));
    }
}

/// Whether a planted fault gives back what is not taken in.
fn goes_back() -> bool {
    planted("a_failure_goes_back_to_the_queue") || planted("poison_goes_back_once")
}

/// A planted fault: all that this channel holds is to be delivered again, and counts towards the
/// queue's limit.
async fn give_back(channel: &Channel) -> Result<(), lapin::Error> {
    let all = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    channel.basic_nack(0, all).await
}

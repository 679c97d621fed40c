//! One session of a relay: one connection, two lanes of one channel each. While one lane awaits
//! its confirms or marks, the other publishes.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{Stream, StreamExt, join};
use lapin::{Connection, Event};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::broker::BrokerError;
use crate::deadline;
use crate::failpoints::{moment, planted};
use crate::hand_over::Taken;
use crate::message::OutboxRow;
use crate::outbox::{self, Confirmed};
use crate::pace::Pace;
use crate::parked::{ParkReason, Unreadable};
use crate::patience::{Flow, Patience, free};
use crate::publisher::{Publisher, Round};
use crate::read_back::{Differences, read_back};
use crate::relay::{Memory, Relay, SUSPICIOUS, SessionError};
use crate::suspects;
use crate::wedge;

/// How often the connection is asked whether it still is one; as long again, and a session that
/// had nothing to do counts as one that works.
const WATCH: Duration = Duration::from_millis(500);
/// After messages came back, the topology is declared anew, no more often than this.
const REDECLARE: Duration = Duration::from_secs(1);
/// A queue that refuses is asked whether it lives no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often the queues are read back through the management API.
const READ_BACK: Duration = Duration::from_secs(30);

pub(crate) struct Session<'a> {
    relay: &'a Relay,
    connection: &'a Connection,
    memory: &'a Memory,
    shutdown: &'a CancellationToken,
    /// One part that ends ends the others, each at a point where nothing of it is under way: a
    /// round that is cut short would leave its rows unsettled until their lease is over.
    over: CancellationToken,
    flow: watch::Sender<Flow>,
    /// Messages came back: a queue or binding may be gone.
    astray: Notify,
    /// A round was refused and nothing of it confirmed: the queue may be full, or dead.
    doubt: Notify,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        relay: &'a Relay,
        connection: &'a Connection,
        memory: &'a Memory,
        shutdown: &'a CancellationToken,
    ) -> Self {
        Self {
            relay,
            connection,
            memory,
            shutdown,
            over: shutdown.child_token(),
            flow: watch::Sender::new(Flow::Free(Instant::now())),
            astray: Notify::new(),
            doubt: Notify::new(),
        }
    }

    /// Until the shutdown (`Ok`) or a fault.
    pub(crate) async fn run(&self) -> Result<(), SessionError> {
        // Before anything is published: a blocked connection is told so once.
        let events = pin!(self.connection.events_listener());
        let exchange = self.relay.topology.exchange;
        let open = async || Publisher::open(self.connection, exchange, self.relay.app_id).await;
        let first = open().await.map_err(BrokerError::from)?;
        let second = open().await.map_err(BrokerError::from)?;
        let [polled, handed] = &self.memory.paces;
        let lanes = async {
            self.search(&first).await?;
            let (polled, handed) = join!(
                self.ending(self.poll_lane(&first, polled)),
                self.ending(self.lane(&second, handed)),
            );
            polled.and(handed)
        };
        let (lanes, watched, asked, ()) = join!(
            Box::pin(self.ending(lanes)),
            self.ending(self.watch(events)),
            Box::pin(self.ending(self.ask_the_queue())),
            Box::pin(self.read_back()),
        );
        asked.and(lanes).and(watched)
    }

    /// Asks a queue that refuses whether it lives, no more often than now and then. A full one
    /// answers, and one whose process is gone does not.
    async fn ask_the_queue(&self) -> Result<(), SessionError> {
        let relay = self.relay;
        let name = format!("paidonce-{}-relay", relay.app_id);
        while self
            .over
            .run_until_cancelled(self.doubt.notified())
            .await
            .is_some()
        {
            let check = wedge::check(&relay.broker, &name, &relay.topology);
            // If it lives, or there was nobody to ask, the lanes will tell.
            if let Some(Err(fault @ (BrokerError::Wedged { .. } | BrokerError::Healed { .. }))) =
                self.over.run_until_cancelled(check).await
            {
                // The next session asks before it publishes.
                self.memory.silent.store(SUSPICIOUS, Ordering::Relaxed);
                return Err(fault.into());
            }
            self.over.run_until_cancelled(sleep(ASK_AGAIN)).await;
        }
        Ok(())
    }

    /// Reads the queues back, now and then: a policy may come at any time. Beside everything else:
    /// what it finds is shown, and holds nothing up.
    async fn read_back(&self) {
        let mut tick = interval(READ_BACK);
        while self.over.run_until_cancelled(tick.tick()).await.is_some() {
            let read = read_back(&self.relay.broker, &self.relay.topology);
            let Some(read) = self.over.run_until_cancelled(read).await else {
                return;
            };
            let seen = read.as_ref().map(Differences::text).map_err(Clone::clone);
            if self.memory.board.differs(seen)
                && let Ok(differences) = read
            {
                for text in differences.danger.iter().chain(&differences.notes) {
                    tracing::warn!(app = self.relay.app_id, "relay: {text}");
                }
            }
        }
    }

    /// Runs a part of the session, and ends the session with it.
    async fn ending<T>(&self, part: impl Future<Output = T>) -> T {
        let outcome = part.await;
        self.over.cancel();
        outcome
    }

    /// Publishes what is handed over and, each interval, what is due. The tick wins over the
    /// hand-over, or load would starve it; a full batch is followed by the next at once.
    async fn poll_lane(&self, publisher: &Publisher, pace: &Pace) -> Result<(), SessionError> {
        let mut tick = interval(self.relay.config.poll_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.may_publish().await {
            tokio::select! {
                biased;
                _ = tick.tick(), if !planted("what_is_due_is_not_polled") => loop {
                    let most = pace.rows();
                    let limit = i64::try_from(most).unwrap_or(i64::MAX);
                    let rows = deadline::statement(outbox::claim_due(&self.relay.pool, limit)).await?;
                    if !rows.is_empty() {
                        moment("relay.claimed");
                    }
                    let full = rows.len() == most;
                    self.publish(publisher, pace, rows).await?;
                    if !full || self.over.is_cancelled() || self.is_blocked() {
                        break;
                    }
                },
                () = self.relay.outbox.handed() => self.publish_handed(publisher, pace).await?,
                () = self.over.cancelled() => break,
            }
        }
        self.empty(publisher, pace).await
    }

    async fn lane(&self, publisher: &Publisher, pace: &Pace) -> Result<(), SessionError> {
        while self.may_publish().await {
            tokio::select! {
                () = self.relay.outbox.handed() => self.publish_handed(publisher, pace).await?,
                () = self.over.cancelled() => break,
            }
        }
        self.empty(publisher, pace).await
    }

    /// Waits while the broker blocks us: rows taken meanwhile would only lie in a socket. False
    /// if the session ends first.
    async fn may_publish(&self) -> bool {
        let mut flow = self.flow.subscribe();
        tokio::select! {
            biased;
            () = self.over.cancelled() => false,
            () = free(&mut flow) => true,
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(*self.flow.borrow(), Flow::Blocked)
    }

    /// The last rows before a stop; nothing if the session ends for another reason.
    async fn empty(&self, publisher: &Publisher, pace: &Pace) -> Result<(), SessionError> {
        while self.shutdown.is_cancelled() && !self.is_blocked() && !self.relay.outbox.is_empty() {
            self.publish_handed(publisher, pace).await?;
        }
        Ok(())
    }

    async fn publish_handed(&self, publisher: &Publisher, pace: &Pace) -> Result<(), SessionError> {
        let rows = match self.relay.outbox.take(pace.rows()) {
            Taken::Rows(rows) => rows,
            Taken::References(rows) => {
                deadline::statement(outbox::read_back(&self.relay.pool, &rows)).await?
            }
            Taken::Nothing => return Ok(()),
        };
        moment("relay.taken");
        self.publish(publisher, pace, rows).await
    }

    /// One round, and what it leaves open: sent again soon, not at the end of the lease; by
    /// halves if the broker ended the session over one of its rows.
    async fn publish(
        &self,
        publisher: &Publisher,
        pace: &Pace,
        rows: Vec<OutboxRow>,
    ) -> Result<(), SessionError> {
        if rows.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let round = self.round(publisher, &rows).await?;
        // What an alarm has held up says nothing about how fast the broker is.
        if matches!(*self.flow.borrow(), Flow::Free(since) if since <= began) {
            pace.learn(began.elapsed(), round.unknown.is_empty());
        }
        let Some(fault) = round.fault else {
            return Ok(());
        };
        let mut again = round.unsent;
        if fault.blames_a_message() {
            self.memory
                .suspects
                .add(suspects::pick(rows, &round.unknown));
        } else {
            again.extend(round.unknown);
        }
        deadline::statement(outbox::release(&self.relay.pool, &again)).await?;
        Err(fault.into())
    }

    /// Tries the rows that were under way when the broker ended a session, group by group and
    /// with nothing else under way; what ends sessions while it is alone is parked.
    async fn search(&self, publisher: &Publisher) -> Result<(), SessionError> {
        while let Some(mut group) = self.memory.suspects.next() {
            if group.is_alone()
                && let Err(fault) = publisher.try_out(self.patience()).await
            {
                self.memory.suspects.add(group.rows);
                return Err(fault.into());
            }
            let round = self.round(publisher, &group.rows).await?;
            let Some(fault) = round.fault else {
                continue;
            };
            if fault.blames_a_message() {
                self.memory
                    .suspects
                    .add(suspects::pick(group.rows.clone(), &round.unsent));
                group.rows = suspects::pick(group.rows, &round.unknown);
                if let Some(row) = self.memory.suspects.blame(group) {
                    self.park(&row, crate::relay::chain(&fault)).await?;
                }
            } else {
                let again = [round.unknown, round.unsent].concat();
                deadline::statement(outbox::release(&self.relay.pool, &again)).await?;
            }
            return Err(fault.into());
        }
        Ok(())
    }

    /// Publishes, awaits all confirms, marks in one statement. No transaction is open meanwhile.
    /// What is unknown or unsent is left to the caller.
    async fn round(
        &self,
        publisher: &Publisher,
        rows: &[OutboxRow],
    ) -> Result<Round, SessionError> {
        let (pool, board) = (&self.relay.pool, &self.memory.board);
        if planted("marked_before_the_confirm") {
            let rows: Vec<Confirmed> = rows.iter().map(|row| Confirmed(row.row)).collect();
            deadline::statement(outbox::mark_published(pool, &rows)).await?;
        }
        let mut round = publisher.publish(rows, self.patience()).await;
        moment("relay.confirmed");
        deadline::statement(outbox::mark_published(pool, &round.confirmed)).await?;
        moment("relay.marked");
        if !round.confirmed.is_empty() {
            self.memory.worked.store(true, Ordering::Relaxed);
            self.memory.silent.store(0, Ordering::Relaxed);
            board.published(round.confirmed.len());
        }
        if !round.back.is_empty() {
            tracing::warn!(
                app = self.relay.app_id,
                unroutable = round.unroutable,
                refused = round.back.len() - round.unroutable,
                "relay: the broker gave messages back; they stay pending and are tried again later"
            );
            deadline::statement(outbox::put_back(pool, &round.back)).await?;
        }
        if !round.back.is_empty() || !round.confirmed.is_empty() {
            board.returned(round.back.len());
        }
        if round.unroutable > 0 {
            self.astray.notify_one();
        }
        if round.back.len() > round.unroutable && round.confirmed.is_empty() {
            self.doubt.notify_one();
        }
        for (unfit, why) in std::mem::take(&mut round.unfit) {
            for row in rows.iter().filter(|row| row.row == unfit) {
                self.park(row, why.clone()).await?;
            }
        }
        Ok(round)
    }

    async fn park(&self, row: &OutboxRow, detail: String) -> Result<(), SessionError> {
        let why = Unreadable::new(ParkReason::Attempts, detail);
        let queue = self.relay.topology.sends.queue;
        if deadline::transaction(outbox::park(&self.relay.pool, queue, row, why)).await? {
            tracing::error!(
                app = self.relay.app_id,
                message_id = %row.message_id,
                "relay: a message that cannot be sent is parked"
            );
        }
        Ok(())
    }

    fn patience(&self) -> Patience<'_> {
        let limit = self.relay.config.confirm_timeout;
        Patience::new(limit, self.flow.subscribe(), &self.over, &self.memory.board)
    }

    /// Sees what the broker says beside confirms, and ends with a lost connection.
    async fn watch(
        &self,
        mut events: impl Stream<Item = Event> + Unpin,
    ) -> Result<(), SessionError> {
        let (mut tick, mut ticks) = (interval(WATCH), 0_u32);
        let mut declared = Instant::now();
        loop {
            tokio::select! {
                () = self.over.cancelled() => return Ok(()),
                Some(event) = events.next() => self.told(event),
                () = self.astray.notified() => if declared.elapsed() >= REDECLARE {
                    self.relay.topology.declare(self.connection).await?;
                    declared = Instant::now();
                },
                _ = tick.tick() => {
                    if !self.connection.status().connected() {
                        return Err(BrokerError::gone().into());
                    }
                    ticks += 1;
                    if ticks == 3 {
                        self.memory.worked.store(true, Ordering::Relaxed);
                        self.memory.board.works();
                    }
                }
            }
        }
    }

    fn told(&self, event: Event) {
        let app = self.relay.app_id;
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(app, "relay: the broker blocks publishers: {reason}");
                self.flow.send_replace(Flow::Blocked);
                self.memory.board.blocked(Some(reason));
            }
            Event::ConnectionUnblocked => {
                tracing::info!(app, "relay: the broker takes messages again");
                self.flow.send_replace(Flow::Free(Instant::now()));
                self.memory.board.blocked(None);
            }
            _ => {}
        }
    }
}

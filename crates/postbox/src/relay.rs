//! Outbox → broker. Publishes what was just committed from memory, and what is due from the
//! table; marks what was confirmed; rebuilds its session for ever.

use std::time::Duration;

use futures::join;
use lapin::Connection;
use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::broker::{self, BrokerError, Publisher, Round};
use crate::config::{BrokerConfig, RelayConfig};
use crate::failpoints::moment;
use crate::hand_over::{Outbox, Taken};
use crate::message::OutboxRow;
use crate::outbox;
use crate::status::TaskStatus;
use crate::topology::Topology;

/// How often the connection is asked whether the broker has blocked it.
const WATCH: Duration = Duration::from_millis(500);
/// Confirms silent for this long are shown as red, before they are given up.
const SILENT: Duration = Duration::from_secs(5);

/// The relay of one service. One per process; any number of processes.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Pool of its own; `synchronous_commit` may be off on it.
    pub pool: PgPool,
    /// Where rows are handed over.
    pub outbox: Outbox,
    /// Which broker.
    pub broker: BrokerConfig,
    /// What to declare and where to publish.
    pub topology: Topology,
    /// Batch, interval, deadline.
    pub config: RelayConfig,
    /// AMQP `app_id`; the connection is named `paidonce-<app_id>-relay`.
    pub app_id: &'static str,
    /// What to tell about it.
    pub status: TaskStatus,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot read the outbox")]
    Store(#[from] sqlx::Error),
}

impl Relay {
    /// Relays until `shutdown`; then sends what is already handed over, gives up the leases of
    /// the rest, and returns. Every other end of a session is a fault: it is rebuilt, with
    /// capped back-off, for ever.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut backoff = Backoff::reconnect();
        while !shutdown.is_cancelled() {
            match self.session(&shutdown, &mut backoff).await {
                Ok(()) => break,
                Err(error) => {
                    let text = chain(&error);
                    if self.status.set(Err(text.clone())) {
                        tracing::warn!(app = self.app_id, "relay: {text}; trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.cancelled() => {}
            }
        }
        let left = self.outbox.take_references();
        if let Err(error) = outbox::release(&self.pool, &left).await {
            tracing::warn!(
                rows = left.len(),
                "relay: rows stay leased until they fall due: {error}"
            );
        }
        self.status.set(Err("stopped".into()));
    }

    /// One connection, its channels and topology. Two lanes of one channel each: while one
    /// awaits its confirms or marks, the other publishes.
    async fn session(
        &self,
        shutdown: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), SessionError> {
        let name = format!("paidonce-{}-relay", self.app_id);
        let connection = broker::connect(&self.broker, &name).await?;
        self.topology.declare(&connection).await?;
        let open = async || Publisher::open(&connection, self.topology.exchange, self.app_id).await;
        let first = open().await.map_err(BrokerError::from)?;
        let second = open().await.map_err(BrokerError::from)?;
        self.status.set(Ok("publishing".into()));
        tracing::info!(app = self.app_id, "relay: connected to the broker");
        backoff.reset();
        // One that ends ends the others, each at a point where nothing of it is under way: a round
        // that is cut short would leave its rows unsettled until their lease is over.
        let over = shutdown.child_token();
        let (polled, handed, watched) = join!(
            ending(&over, self.poll_lane(&first, shutdown, &over)),
            ending(&over, self.lane(&second, shutdown, &over)),
            ending(&over, self.watch(&connection, &over)),
        );
        polled.and(handed).and(watched)?;
        // The rest of the shutdown does not depend on a polite good-bye.
        let _ = connection.close(200, "shutting down".into()).await;
        Ok(())
    }

    /// Publishes what is handed over and, each interval, what is due. The tick wins over the
    /// hand-over, or load would starve it; a full batch is followed by the next at once.
    async fn poll_lane(
        &self,
        publisher: &Publisher,
        shutdown: &CancellationToken,
        over: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut tick = interval(self.config.poll_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => loop {
                    let limit = i64::try_from(self.config.batch).unwrap_or(i64::MAX);
                    let rows = outbox::claim_due(&self.pool, limit).await?;
                    if !rows.is_empty() {
                        moment("relay.claimed");
                    }
                    let full = rows.len() == self.config.batch;
                    self.publish(publisher, rows).await?;
                    if !full || over.is_cancelled() {
                        break;
                    }
                },
                () = self.outbox.handed() => self.publish_handed(publisher).await?,
                () = over.cancelled() => return self.empty(publisher, shutdown).await,
            }
        }
    }

    async fn lane(
        &self,
        publisher: &Publisher,
        shutdown: &CancellationToken,
        over: &CancellationToken,
    ) -> Result<(), SessionError> {
        loop {
            tokio::select! {
                () = self.outbox.handed() => self.publish_handed(publisher).await?,
                () = over.cancelled() => return self.empty(publisher, shutdown).await,
            }
        }
    }

    /// The last rows before a stop; nothing if the session ends for another reason.
    async fn empty(
        &self,
        publisher: &Publisher,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        while shutdown.is_cancelled() && !self.outbox.is_empty() {
            self.publish_handed(publisher).await?;
        }
        Ok(())
    }

    async fn publish_handed(&self, publisher: &Publisher) -> Result<(), SessionError> {
        let rows = match self.outbox.take(self.config.batch) {
            Taken::Rows(rows) => rows,
            Taken::References(rows) => outbox::read_back(&self.pool, &rows).await?,
            Taken::Nothing => return Ok(()),
        };
        moment("relay.taken");
        self.publish(publisher, rows).await
    }

    /// One round: publish, await all confirms, mark in one statement. No transaction is open
    /// meanwhile.
    async fn publish(
        &self,
        publisher: &Publisher,
        rows: Vec<OutboxRow>,
    ) -> Result<(), SessionError> {
        if rows.is_empty() {
            return Ok(());
        }
        let round = publisher.publish(&rows, self.config.confirm_timeout);
        tokio::pin!(round);
        let Round {
            confirmed,
            back,
            unknown,
            unroutable,
            fault,
        } = tokio::select! {
            round = &mut round => round,
            () = tokio::time::sleep(SILENT) => {
                self.status.set(Err(format!("waiting for confirms for {SILENT:?} already")));
                let round = round.await;
                self.status.set(Ok("publishing".into()));
                round
            }
        };
        moment("relay.confirmed");
        outbox::mark_published(&self.pool, &confirmed).await?;
        moment("relay.marked");
        if !back.is_empty() {
            tracing::warn!(
                app = self.app_id,
                unroutable,
                refused = back.len() - unroutable,
                "relay: the broker gave messages back; they stay pending and are tried again later"
            );
            outbox::put_back(&self.pool, &back).await?;
        }
        // Not left to the end of their lease: what may not have arrived is sent again soon.
        outbox::put_back(&self.pool, &unknown).await?;
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Shows a blocked connection (an alarm at the broker), and ends with a lost one.
    async fn watch(
        &self,
        connection: &Connection,
        over: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut was_blocked = false;
        while over
            .run_until_cancelled(tokio::time::sleep(WATCH))
            .await
            .is_some()
        {
            let status = connection.status();
            if !status.connected() {
                let state = lapin::ErrorKind::InvalidConnectionState(lapin::ConnectionState::Error);
                return Err(BrokerError::Lost(state.into()).into());
            }
            if status.blocked() {
                was_blocked = true;
                let alarm = "the broker blocks publishers (memory or disk alarm)";
                self.status.set(Err(alarm.into()));
            } else if was_blocked {
                was_blocked = false;
                self.status.set(Ok("publishing".into()));
            }
        }
        Ok(())
    }
}

/// Runs a part of a session, and ends the session with it.
async fn ending<T>(over: &CancellationToken, part: impl Future<Output = T>) -> T {
    let outcome = part.await;
    over.cancel();
    outcome
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

//! Outbox → broker, for ever: a session after the other, and what is known from one to the next.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::board::Board;
use crate::broker::{self, BrokerError};
use crate::config::{BrokerConfig, RelayConfig};
use crate::deadline;
use crate::hand_over::Outbox;
use crate::message::RowRef;
use crate::outbox;
use crate::pace::Pace;
use crate::session::Session;
use crate::status::TaskStatus;
use crate::suspects::Suspects;
use crate::topology::Topology;
use crate::wedge;

/// So many sessions that end in silence, each fresh and not blocked, and the queue is asked
/// whether it lives.
pub(crate) const SUSPICIOUS: u32 = 2;

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
pub(crate) enum SessionError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot read the outbox")]
    Store(#[from] sqlx::Error),
}

/// What one session leaves to the next.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) board: Board,
    pub(crate) suspects: Suspects,
    /// How many rows each lane publishes at a time.
    pub(crate) paces: [Pace; 2],
    /// Sessions in a row that ended in silence, and had nothing confirmed.
    pub(crate) silent: AtomicU32,
    /// Whether the session did more than to connect.
    pub(crate) worked: AtomicBool,
}

impl Relay {
    /// Relays until `shutdown`; then sends what is already handed over, gives up the leases of
    /// the rest, and returns. Every other end of a session is a fault: it is rebuilt, with
    /// capped back-off, for ever.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut backoff = Backoff::reconnect();
        let memory = Memory {
            board: Board::new(self.status.clone()),
            suspects: Suspects::default(),
            paces: [(); 2].map(|()| Pace::new(self.config.batch.get())),
            silent: AtomicU32::new(0),
            worked: AtomicBool::new(false),
        };
        while !shutdown.is_cancelled() {
            // On the heap: whoever runs this would else carry all of a session on the stack.
            match Box::pin(self.session(&shutdown, &memory)).await {
                Ok(()) => break,
                Err(error) => {
                    if let SessionError::Broker(BrokerError::ConfirmsSilent(_)) = error {
                        memory.silent.fetch_add(1, Ordering::Relaxed);
                    }
                    let text = chain(&error);
                    if memory.board.fault(text.clone()) {
                        tracing::warn!(app = self.app_id, "relay: {text}; trying again");
                    }
                }
            }
            // The search for a message that ends sessions is not to last.
            if memory.worked.swap(false, Ordering::Relaxed) || !memory.suspects.is_empty() {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = shutdown.cancelled() => {}
            }
        }
        let left = self.outbox.take_references().into_iter();
        let left: Vec<RowRef> = left.chain(memory.suspects.take_references()).collect();
        if let Err(error) = deadline::statement(outbox::release(&self.pool, &left)).await {
            tracing::warn!(
                rows = left.len(),
                "relay: rows stay leased until they fall due: {error}"
            );
        }
        self.status.set(Err("stopped".into()));
    }

    async fn session(
        &self,
        shutdown: &CancellationToken,
        memory: &Memory,
    ) -> Result<(), SessionError> {
        let name = format!("paidonce-{}-relay", self.app_id);
        let connection = broker::connect(&self.broker, &name).await?;
        self.topology.declare(&connection).await?;
        if memory.silent.load(Ordering::Relaxed) >= SUSPICIOUS {
            Box::pin(wedge::check(&self.broker, &name, &self.topology)).await?;
        }
        tracing::info!(app = self.app_id, "relay: connected to the broker");
        Box::pin(Session::new(self, &connection, memory, shutdown).run()).await?;
        broker::leave(&connection).await;
        Ok(())
    }
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

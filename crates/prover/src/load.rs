//! Load on the public API that follows each order to its final status: closed loop (each client
//! places its next order on the answer to the last) or open loop (a fixed rate, whatever the
//! answers do).
//!
//! How the figures are made:
//!
//! - `post`: from the moment a request was due to its complete answer. In the open loop "due" is
//!   the schedule, so a slow service does not hide behind requests that were sent late.
//! - `settle`: from the same moment to when the final status was seen. Given the orders database,
//!   one query every few milliseconds asks for all open orders, and every order is timed. Without
//!   it one order in 32 (all of them at low rates) is read by its own GET, 5 ms apart at first and
//!   then at a tenth of its age, so a settle time is at most about a tenth too long; all others
//!   are found by listing each user's orders, which is not timed.
//! - `finished_per_second`: FINISHED orders over the time from the first POST to the last final
//!   status seen. The look-outs take at most about a tenth of the time while orders are placed,
//!   and look more often when all are placed.

mod follow;
mod place;
mod result;
mod setup;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::Money;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::eventually::eventually;
use follow::Tracker;
pub use result::{LoadResult, Percentiles, Thresholds};

/// What load to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How requests follow each other.
    pub pace: Pace,
    /// How many.
    pub length: Length,
    /// How many users have an account with enough money for all their orders; orders go round all
    /// users. 1 makes a hot account.
    pub users: u32,
    /// How many further users have an empty account; their orders must end CANCELLED.
    pub users_without_money: u32,
    /// Id of the first user; the others follow. They must not exist yet.
    pub first_user: i64,
    /// Amount of each order.
    pub amount: Money,
    /// How long after the last POST an order may stay open before it counts as unsettled.
    pub settle_within: Duration,
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many clients, each with one request at a time.
    Closed {
        /// At least 1.
        clients: u32,
    },
    /// A fixed rate.
    Open {
        /// Orders per second, at least 1.
        per_second: u32,
        /// How many requests may be open at a time; beyond that they wait, and the waiting counts.
        in_flight_max: u32,
    },
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many POSTs, successful or not.
    Orders(u64),
    /// After this time.
    For(Duration),
}

impl Default for Plan {
    /// 5,000 orders of 1.50 by 32 clients for 200 new users.
    fn default() -> Self {
        Self {
            pace: Pace::Closed { clients: 32 },
            length: Length::Orders(5000),
            users: 200,
            users_without_money: 0,
            first_user: Self::new_users(),
            amount: Money::try_from(rust_decimal::Decimal::new(150, 2)).unwrap_or(Money::ZERO),
            settle_within: Duration::from_secs(60),
        }
    }
}

impl Plan {
    /// A first user id that no earlier run has used, most likely: one of 2^31 blocks of a million.
    #[must_use]
    pub fn new_users() -> i64 {
        1_000_000 * i64::from(rand::random_range(1..=i32::MAX))
    }

    fn user_of(&self, nth_order: u64) -> i64 {
        let users = u64::from(self.users) + u64::from(self.users_without_money);
        let nth_user = nth_order % users.max(1);
        self.first_user.saturating_add_unsigned(nth_user)
    }

    fn has_money(&self, user_id: i64) -> bool {
        user_id < self.first_user.saturating_add(i64::from(self.users))
    }

    fn all_users(&self) -> impl Iterator<Item = i64> + use<> {
        let users = i64::from(self.users) + i64::from(self.users_without_money);
        self.first_user..self.first_user.saturating_add(users)
    }
}

/// How far a run is; for a progress bar. Read it while the run goes on.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    settled: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    /// Orders answered with a success.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Orders seen final.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.0.settled.load(Ordering::Relaxed)
    }

    /// POSTs answered otherwise, or not at all.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }
}

/// Load could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan has no users or no clients.
    #[error("a load needs {0}")]
    Plan(&'static str),
    /// An account could not be prepared.
    #[error("cannot prepare the account of user {user_id}")]
    Setup {
        /// Whose.
        user_id: i64,
        /// What came instead of a success.
        #[source]
        source: crate::client::NotOk,
    },
    /// A part of the load generator itself died.
    #[error("a client of the load generator died")]
    Died(#[from] tokio::task::JoinError),
}

/// Prepares accounts, places the orders, follows them to their end. Faults of single requests are
/// part of the result.
///
/// With `orders_database` (a login that may `set role audit_ro`) statuses are read there.
///
/// # Errors
/// [`LoadError`] when the load could not be made.
pub async fn run(
    client: &Client,
    plan: &Plan,
    orders_database: Option<&PgConnectOptions>,
    progress: &Progress,
) -> Result<LoadResult, LoadError> {
    if plan.users == 0 && plan.users_without_money == 0 {
        return Err(LoadError::Plan("at least one user"));
    }
    setup::accounts(client, plan).await?;

    let tracker = Arc::new(Tracker::new(*plan, progress.clone()));
    // Dropping the set ends the look-outs, whatever happens in between.
    let mut look_outs = JoinSet::new();
    match orders_database {
        Some(login) => {
            look_outs.spawn(follow::by_database(login.clone(), Arc::clone(&tracker)));
        }
        None => {
            look_outs.spawn(follow::by_lists(client.clone(), Arc::clone(&tracker)));
        }
    }
    let timed = if orders_database.is_some() {
        place::Timed::All
    } else {
        place::Timed::Some
    };

    let began = Instant::now();
    let posts = place::orders(client, plan, timed, &tracker).await?;
    let posting = began.elapsed();
    tracker.all_placed();
    let settled = eventually(
        plan.settle_within,
        "every order is final",
        async || match tracker.open_count() {
            0 => Ok(()),
            open => Err(open),
        },
    )
    .await;
    if let Err(error) = settled {
        tracing::warn!(%error, "orders are left open");
    }
    drop(look_outs);
    Ok(result::put_together(posts, &tracker, began, posting))
}

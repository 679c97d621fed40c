//! Orders that keep coming in while something else happens to the system, at a steady pace whatever is answered, as
//! customers do.
//!
//! Not here: what is expected of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use contracts::Money;
use prover::client::{Client, Order};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// One order in this time: enough that some are always under way, and not so much that two cores choke.
const PACE: Duration = Duration::from_millis(15);
/// Customers do not wait in an endless line either.
const UNDER_WAY_MAX: usize = 64;

/// What became of the orders so far.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<String>,
}

/// Orders coming in. Dropping it stops them.
#[derive(Debug)]
pub(crate) struct Rush {
    amount: Money,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Tried>>,
}

/// One order that was sent.
#[derive(Debug)]
pub(crate) struct Tried {
    /// By whom.
    pub(crate) user_id: i64,
    /// The order, if it was accepted.
    pub(crate) accepted: Option<Order>,
    /// Whether it is certain that nothing came of it.
    pub(crate) had_no_effect: bool,
}

impl Rush {
    /// Lets the customers order in turn, for `amount` each time.
    pub(crate) fn start(client: Client, customers: Vec<i64>, amount: Money) -> Self {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keep_ordering(
            client,
            customers,
            amount,
            Arc::clone(&counts),
            stopped,
        ));
        Self {
            amount,
            counts,
            stop,
            task,
        }
    }

    /// What each order is for.
    pub(crate) fn amount(&self) -> Money {
        self.amount
    }

    /// How many orders were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// How many were not accepted, or nobody knows, so far.
    pub(crate) fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// What the last one of them was told.
    pub(crate) fn last_failure(&self) -> String {
        lock(&self.counts.last_failure).clone()
    }

    /// Sends no more, and returns all that were sent.
    ///
    /// # Errors
    /// If the task has panicked.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Tried>> {
        // The task has ended already if nobody listens any more.
        self.stop.send(true).ok();
        self.task.await.context("the orders' task broke")
    }
}

async fn keep_ordering(
    client: Client,
    customers: Vec<i64>,
    amount: Money,
    counts: Arc<Counts>,
    mut stopped: watch::Receiver<bool>,
) -> Vec<Tried> {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    let mut tried = Vec::new();
    for user_id in customers.into_iter().cycle() {
        tokio::select! {
            // An error means that the rush was dropped.
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = pace.tick() => {}
        }
        while under_way.len() >= UNDER_WAY_MAX {
            tried.extend(under_way.join_next().await.and_then(Result::ok));
        }
        while let Some(Ok(done)) = under_way.try_join_next() {
            tried.push(done);
        }
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        under_way.spawn(async move {
            let outcome = client
                .place_order(user_id, &amount.to_string(), "rush")
                .await;
            let had_no_effect = outcome.had_no_effect();
            let accepted = match outcome.ok() {
                Ok(order) => Some(order),
                Err(why) => {
                    *lock(&counts.last_failure) = why.to_string();
                    None
                }
            };
            let count = if accepted.is_some() {
                &counts.accepted
            } else {
                &counts.failed
            };
            count.fetch_add(1, Ordering::Relaxed);
            Tried {
                user_id,
                accepted,
                had_no_effect,
            }
        });
    }
    while let Some(done) = under_way.join_next().await {
        tried.extend(done.ok());
    }
    tried
}

/// A lock whose holder panicked still holds a text.
fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Placing orders at a pace. Knows nothing of their end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contracts::Money;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::follow::{self, Tracker};
use super::result::{micros, new_histogram};
use super::{Length, LoadError, Pace, Plan};
use crate::client::{Client, Order, Outcome};
use crate::eventually::pause;
use crate::seen::Seen;

/// Without the orders database one order in so many is timed.
const TIMED_ONE_IN: u64 = 32;
/// Up to this rate all of them are.
const TIMED_PER_SECOND: u64 = 50;
/// A client that was not answered with a success waits a little, so that a service that is down
/// is not asked without pause.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Which orders are timed to their end by reading them one by one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timed {
    /// None: the look-out in the database times all.
    All,
    /// A sample.
    Some,
}

/// What became of the POSTs.
pub(super) struct Posts {
    pub(super) latency: Histogram<u64>,
    pub(super) accepted: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) seen: Seen,
}

/// What one client needs to place an order.
#[derive(Clone)]
struct Placing {
    client: Client,
    plan: Plan,
    tracker: Arc<Tracker>,
    timed_one_in: Option<u64>,
}

pub(super) async fn orders(
    client: &Client,
    plan: &Plan,
    timed: Timed,
    tracker: &Arc<Tracker>,
) -> Result<Posts, LoadError> {
    let placing = Placing {
        client: client.clone(),
        plan: *plan,
        tracker: Arc::clone(tracker),
        timed_one_in: match (timed, plan.pace) {
            (Timed::All, _) => None,
            (Timed::Some, Pace::Closed { .. }) => Some(TIMED_ONE_IN),
            (Timed::Some, Pace::Open { per_second, .. }) => {
                Some((u64::from(per_second) / TIMED_PER_SECOND).clamp(1, TIMED_ONE_IN))
            }
        },
    };
    match plan.pace {
        Pace::Closed { clients: 0 } => Err(LoadError::Plan("at least one client")),
        Pace::Closed { clients } => closed_loop(placing, clients).await,
        Pace::Open { per_second: 0, .. }
        | Pace::Open {
            in_flight_max: 0, ..
        } => Err(LoadError::Plan("a rate and at least one request in flight")),
        Pace::Open {
            per_second,
            in_flight_max,
        } => open_loop(placing, per_second, in_flight_max).await,
    }
}

async fn closed_loop(placing: Placing, clients: u32) -> Result<Posts, LoadError> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (placing, next) = (placing.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut posts = Posts::none();
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let due = Instant::now();
                if placing.is_over(nth, due.duration_since(began)) {
                    return posts;
                }
                let post = placing.place(nth, due).await;
                let failed = !matches!(post.outcome, Outcome::Ok(_));
                posts.note(post, placing.plan.amount);
                if failed {
                    pause(AFTER_FAILURE).await;
                }
            }
        });
    }
    let mut all = Posts::none();
    while let Some(posts) = tasks.join_next().await {
        all.join(posts?);
    }
    Ok(all)
}

async fn open_loop(
    placing: Placing,
    per_second: u32,
    in_flight_max: u32,
) -> Result<Posts, LoadError> {
    let began = Instant::now();
    let mut schedule = interval(Duration::from_secs(1) / per_second);
    // What is late is made up for at once, and its latency counts from when it was due.
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    let mut posts = Posts::none();
    let amount = placing.plan.amount;
    for nth in 0.. {
        let due = schedule.tick().await;
        if placing.is_over(nth, due.duration_since(began)) {
            break;
        }
        while tasks.len() >= in_flight_max as usize
            && let Some(post) = tasks.join_next().await
        {
            posts.note(post?, amount);
        }
        while let Some(post) = tasks.try_join_next() {
            posts.note(post?, amount);
        }
        let placing = placing.clone();
        tasks.spawn(async move { placing.place(nth, due).await });
    }
    while let Some(post) = tasks.join_next().await {
        posts.note(post?, amount);
    }
    Ok(posts)
}

impl Placing {
    /// Whether the run has ended before its nth order, due so long after the first.
    fn is_over(&self, nth: u64, due: Duration) -> bool {
        match self.plan.length {
            Length::Orders(orders) => nth >= orders,
            Length::For(time) => due >= time,
        }
    }

    async fn place(&self, nth: u64, due: Instant) -> Post {
        let amount = self.plan.amount.to_string();
        let user_id = self.plan.user_of(nth);
        let outcome = self.client.place_order(user_id, &amount, "load").await;
        let latency = due.elapsed();
        if let Outcome::Ok(order) = &outcome {
            self.tracker.placed(order.id, user_id, due);
            if self
                .timed_one_in
                .is_some_and(|one_in| nth.is_multiple_of(one_in))
            {
                let (client, tracker) = (self.client.clone(), Arc::clone(&self.tracker));
                follow::by_reading(client, tracker, order.id, user_id, due);
            }
        } else {
            self.tracker.failed();
        }
        Post {
            user_id,
            latency,
            outcome,
        }
    }
}

/// One request and its answer.
struct Post {
    user_id: i64,
    latency: Duration,
    outcome: Outcome<Order>,
}

impl Posts {
    fn none() -> Self {
        Self {
            latency: new_histogram(),
            accepted: 0,
            failures: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn note(&mut self, post: Post, amount: Money) {
        if !post.outcome.had_no_effect() {
            self.seen.invoked(post.user_id, amount);
        }
        let why = match post.outcome {
            Outcome::Ok(order) => {
                self.latency.saturating_record(micros(post.latency));
                self.accepted += 1;
                self.seen.acknowledged(order.id, post.user_id, amount);
                return;
            }
            Outcome::Refused { status, .. } => format!("refused with {status}"),
            Outcome::Unsent { why } => format!("not sent: {why}"),
            Outcome::Unknown { why } => format!("unknown: {why}"),
        };
        *self.failures.entry(why).or_default() += 1;
    }

    fn join(&mut self, other: Posts) {
        self.latency
            .add(&other.latency)
            .expect("histograms of the same bounds can be added");
        self.accepted += other.accepted;
        for (why, times) in other.failures {
            *self.failures.entry(why).or_default() += times;
        }
        self.seen.join(other.seen);
    }
}

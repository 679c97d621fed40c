//! Following orders to their final status, by one of three look-outs: the orders database, the
//! lists of the API, or single orders of a sample. None of them may become the load itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use hdrhistogram::Histogram;
use sqlx::postgres::PgConnectOptions;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::result::{micros, new_histogram};
use super::{Plan, Progress};
use crate::audit::{Audit, AuditError, Databases, Side};
use crate::client::{Client, Outcome, Status};
use crate::eventually::pause;

/// Shortest time between two looks into the database.
const DATABASE_TICK: Duration = Duration::from_millis(4);
/// Shortest time between two rounds of lists: while orders are placed, and after.
const LIST_TICK: Duration = Duration::from_millis(500);
const LAST_LIST_TICK: Duration = Duration::from_millis(30);
/// How many lists are asked for at a time.
const LISTS_AT_A_TIME: usize = 4;
/// Shortest time between two readings of a single order.
const READ_TICK: Duration = Duration::from_millis(5);
/// A look-out rests so many times as long as it looks.
const REST_TO_LOOK: u32 = 9;

/// The open orders of one run, and what is known of the others.
#[derive(Debug)]
pub(super) struct Tracker {
    plan: Plan,
    progress: Progress,
    all_placed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: BTreeMap<i64, Open>,
    settle: Histogram<u64>,
    finished: u64,
    cancelled: u64,
    misjudged: u64,
    last_final: Option<Instant>,
    readers: Vec<AbortHandle>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    user_id: i64,
    due: Instant,
}

/// What became of all orders.
pub(super) struct Settled {
    pub(super) finished: u64,
    pub(super) cancelled: u64,
    pub(super) misjudged: u64,
    pub(super) open: u64,
    pub(super) last_final: Option<Instant>,
    pub(super) latency: Histogram<u64>,
}

impl Tracker {
    pub(super) fn new(plan: Plan, progress: Progress) -> Self {
        let state = State {
            open: BTreeMap::new(),
            settle: new_histogram(),
            finished: 0,
            cancelled: 0,
            misjudged: 0,
            last_final: None,
            readers: Vec::new(),
        };
        Self {
            plan,
            progress,
            all_placed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn placed(&self, order_id: i64, user_id: i64, due: Instant) {
        self.state().open.insert(order_id, Open { user_id, due });
        self.progress.0.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.progress.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all_placed(&self) {
        self.all_placed.store(true, Ordering::Relaxed);
    }

    pub(super) fn open_count(&self) -> usize {
        self.state().open.len()
    }

    fn open_orders(&self) -> Vec<i64> {
        self.state().open.keys().copied().collect()
    }

    fn users_with_open_orders(&self) -> BTreeSet<i64> {
        self.state()
            .open
            .values()
            .map(|open| open.user_id)
            .collect()
    }

    /// An order was seen with its final status; the first look-out that says so counts. Answers
    /// when the order was due, the first time.
    fn saw_final(&self, order_id: i64, status: Status, seen_at: Instant) -> Option<Instant> {
        let mut state = self.state();
        let Open { user_id, due } = state.open.remove(&order_id)?;
        let expected = if self.plan.has_money(user_id) {
            Status::Finished
        } else {
            Status::Cancelled
        };
        match status {
            Status::Finished => state.finished += 1,
            Status::Cancelled => state.cancelled += 1,
            Status::New => {}
        }
        state.misjudged += u64::from(status != expected);
        state.last_final = state.last_final.max(Some(seen_at));
        self.progress.0.settled.fetch_add(1, Ordering::Relaxed);
        Some(due)
    }

    fn timed(&self, settle: Duration) {
        self.state().settle.saturating_record(micros(settle));
    }

    /// What became of all orders; ends the readers that are still waiting.
    pub(super) fn settled(&self) -> Settled {
        let mut state = self.state();
        for reader in state.readers.drain(..) {
            reader.abort();
        }
        Settled {
            finished: state.finished,
            cancelled: state.cancelled,
            misjudged: state.misjudged,
            open: state.open.len() as u64,
            last_final: state.last_final,
            latency: state.settle.clone(),
        }
    }
}

/// Looks into the orders database for ever; times every order.
pub(super) async fn by_database(login: PgConnectOptions, tracker: Arc<Tracker>) {
    let databases = Databases::new(login.clone(), login);
    let mut audit = None;
    loop {
        let (looked, took) = look(&databases, &mut audit, &tracker).await;
        let tick = match looked {
            Ok(()) => DATABASE_TICK,
            // The database may be the one that is being stopped; it comes back.
            Err(error) => {
                tracing::debug!(%error, "the orders database cannot be asked");
                audit = None;
                LIST_TICK
            }
        };
        pause(tick.max(took * REST_TO_LOOK)).await;
    }
}

/// One look, and how long it took; a login before it does not count.
async fn look(
    databases: &Databases,
    audit: &mut Option<Audit>,
    tracker: &Tracker,
) -> (Result<(), AuditError>, Duration) {
    let audit = match audit {
        Some(audit) => audit,
        None => match Audit::connect(databases, Side::Orders).await {
            Ok(connected) => audit.insert(connected),
            Err(error) => return (Err(error), Duration::ZERO),
        },
    };
    let began = Instant::now();
    let looked = look_at_open(audit, tracker).await;
    (looked, began.elapsed())
}

async fn look_at_open(audit: &mut Audit, tracker: &Tracker) -> Result<(), AuditError> {
    let open = tracker.open_orders();
    if open.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i64, String)> = audit
        .rows_of(
            "select order_id, status from audit.orders
              where order_id = any($1) and status in ('FINISHED', 'CANCELLED')",
            &open,
        )
        .await?;
    let seen_at = Instant::now();
    for (order_id, status) in rows {
        let status = match status.as_str() {
            "FINISHED" => Status::Finished,
            _ => Status::Cancelled,
        };
        if let Some(due) = tracker.saw_final(order_id, status, seen_at) {
            tracker.timed(seen_at.duration_since(due));
        }
    }
    Ok(())
}

/// Lists the orders of every user that has open ones, for ever; times none.
pub(super) async fn by_lists(client: Client, tracker: Arc<Tracker>) {
    loop {
        let all_placed = tracker.all_placed.load(Ordering::Relaxed);
        let began = Instant::now();
        let users = tracker.users_with_open_orders();
        let list = |user_id: i64| {
            let client = &client;
            async move { (client.orders(user_id).await, Instant::now()) }
        };
        let mut lists = stream::iter(users.into_iter().map(list)).buffer_unordered(LISTS_AT_A_TIME);
        while let Some((listed, seen_at)) = lists.next().await {
            let Outcome::Ok(orders) = listed else {
                continue;
            };
            for order in orders.iter().filter(|order| order.status.is_final()) {
                tracker.saw_final(order.id, order.status, seen_at);
            }
        }
        let tick = if all_placed {
            LAST_LIST_TICK
        } else {
            LIST_TICK
        };
        let rest = if all_placed { 1 } else { REST_TO_LOOK };
        pause(tick.max(began.elapsed() * rest)).await;
    }
}

/// Reads one order until it is final, in a task of its own, and times it.
pub(super) fn by_reading(
    client: Client,
    tracker: Arc<Tracker>,
    order_id: i64,
    user_id: i64,
    due: Instant,
) {
    let reading = Arc::clone(&tracker);
    let reader = tokio::spawn(async move {
        loop {
            if let Outcome::Ok(order) = client.order(user_id, order_id).await
                && order.status.is_final()
            {
                let seen_at = Instant::now();
                reading.timed(seen_at.duration_since(due));
                reading.saw_final(order_id, order.status, seen_at);
                return;
            }
            pause(READ_TICK.max(due.elapsed() / 10)).await;
        }
    });
    tracker.state().readers.push(reader.abort_handle());
}

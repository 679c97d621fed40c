//! Everything that runs beside the requests: supervised loops, writes that outlive their caller,
//! and the wait for both at the end. The only place of the services that spawns.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::http;

/// A task that ends this often within [`FAULT_WINDOW`] is given up, and the service with it.
const FAULTS_TO_FAIL: usize = 3;
const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// A task that was started again is shown as unwell for this long (rule L6).
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// The tasks of one service. Clones share the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    supervised: Mutex<Vec<Arc<Supervised>>>,
    writes: AtomicUsize,
    failed: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Supervised {
    name: &'static str,
    restarts: AtomicU64,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    faults: VecDeque<Instant>,
    failed: bool,
    ended: bool,
}

/// How a supervised task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Running, and without a fault of late.
    Up,
    /// Running again after a fault a moment ago.
    Restarting,
    /// Given up after three faults within a minute.
    Failed,
}

/// The state of a supervised task and how often it was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskHealth {
    /// How it is doing now.
    pub state: TaskState,
    /// Restarts since the service began.
    pub restarts: u64,
}

/// What had not ended when the time to drain was over.
#[derive(Debug, thiserror::Error)]
#[error("still running: {}", .names.join(", "))]
pub struct StillRunning {
    /// Names of supervised tasks, and the number of writes under way.
    pub names: Vec<String>,
}

impl Tasks {
    /// No tasks yet; all of them are to end soon after `shutdown` fires.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                shutdown,
                tracker: TaskTracker::new(),
                supervised: Mutex::default(),
                writes: AtomicUsize::new(0),
                failed: watch::Sender::new(None),
            }),
        }
    }

    /// The token that tells every task to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    /// Runs a loop that lives as long as the service; `make` builds its future anew each time.
    ///
    /// A panic starts it again at once, and so does an early end: a loop that stops without being
    /// told to has lost its work. The third such fault within a minute fails the service, see
    /// [`Tasks::failed`].
    pub fn supervise<F, Fut>(&self, name: &'static str, make: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let task = Arc::new(Supervised {
            name,
            restarts: AtomicU64::new(0),
            life: Mutex::default(),
        });
        lock(&self.shared.supervised).push(Arc::clone(&task));
        let shared = Arc::clone(&self.shared);
        let life = async move {
            loop {
                // Building the future is the task's code like the rest, so it is guarded too.
                let made = std::panic::catch_unwind(AssertUnwindSafe(&make));
                if !run_once(name, made, &shared.shutdown).await {
                    break;
                }
                if !task.note_fault() {
                    tracing::error!(task = name, "task {name} failed for good");
                    shared.failed.send_if_modified(|failed| {
                        let first = failed.is_none();
                        failed.get_or_insert_with(|| name.to_owned());
                        first
                    });
                    break;
                }
                task.restarts.fetch_add(1, Ordering::Relaxed);
            }
            lock(&task.life).ended = true;
        };
        self.shared
            .tracker
            .spawn(life.instrument(tracing::info_span!("task", name)));
    }

    /// Runs a write to its end even when the caller's future is dropped because the client hung
    /// up. A panic inside goes on in the caller. The request's id and span go with it.
    ///
    /// Writes may still begin after shutdown; [`Tasks::drain`] waits for them.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let context = http::current();
        let under_way = UnderWay::begin(Arc::clone(&self.shared));
        let work = async move {
            let _under_way = under_way;
            http::within(context, work).await
        };
        match self.shared.tracker.spawn(work.in_current_span()).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime cancels a tracked task; nobody is left to answer.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Resolves with the name of the first supervised task that failed for good.
    pub async fn failed(&self) -> String {
        let mut receiver = self.shared.failed.subscribe();
        // The guard is let go of before anything else is awaited: the future must be `Send`.
        let name = receiver
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|name| name.clone());
        match name {
            Some(name) => name,
            // The sender lives in `self`.
            None => std::future::pending().await,
        }
    }

    /// [`Tasks::drain`] at the end of a process: what is left when the time is over is named in
    /// the log and given up, which is as safe as a crash.
    pub async fn wind_up(&self, limit: Duration) {
        if let Err(left) = self.drain(limit).await {
            tracing::warn!("stopping all the same: {left}");
        }
    }

    /// Waits until all tasks and writes have ended, at most `limit`. Fires no token itself.
    ///
    /// # Errors
    /// Names what is left when the time is over.
    pub async fn drain(&self, limit: Duration) -> Result<(), StillRunning> {
        self.shared.tracker.close();
        if tokio::time::timeout(limit, self.shared.tracker.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let mut names: Vec<String> = lock(&self.shared.supervised)
            .iter()
            .filter(|task| !lock(&task.life).ended)
            .map(|task| task.name.to_owned())
            .collect();
        match self.shared.writes.load(Ordering::Relaxed) {
            0 => {}
            1 => names.push("1 write".to_owned()),
            writes => names.push(format!("{writes} writes")),
        }
        Err(StillRunning { names })
    }

    /// The health of every supervised task, in the order they were started.
    pub fn health(&self) -> Vec<(&'static str, TaskHealth)> {
        lock(&self.shared.supervised)
            .iter()
            .map(|task| (task.name, task.health()))
            .collect()
    }
}

/// Runs the task's future to its end. True when that end is a fault.
async fn run_once(
    name: &'static str,
    made: std::thread::Result<impl Future<Output = ()>>,
    shutdown: &CancellationToken,
) -> bool {
    let end = match made {
        Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    match end {
        Err(panic) => {
            tracing::error!(task = name, "task {name} panicked: {}", panic_text(&*panic));
            // A panic on the way out is told, but there is nothing left to restart for.
            !shutdown.is_cancelled()
        }
        Ok(()) if shutdown.is_cancelled() => false,
        Ok(()) => {
            tracing::error!(task = name, "task {name} ended before shutdown");
            true
        }
    }
}

impl Supervised {
    /// Counts a fault. False when it was one too many.
    fn note_fault(&self) -> bool {
        let mut life = lock(&self.life);
        life.faults.push_back(Instant::now());
        life.forget_old_faults();
        life.failed = life.faults.len() >= FAULTS_TO_FAIL;
        !life.failed
    }

    fn health(&self) -> TaskHealth {
        let mut life = lock(&self.life);
        life.forget_old_faults();
        TaskHealth {
            state: match (life.failed, life.faults.back()) {
                (true, _) => TaskState::Failed,
                (false, Some(last)) if last.elapsed() < SHOWN_FOR => TaskState::Restarting,
                (false, _) => TaskState::Up,
            },
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }
}

impl Life {
    fn forget_old_faults(&mut self) {
        while self
            .faults
            .front()
            .is_some_and(|at| at.elapsed() > FAULT_WINDOW)
        {
            self.faults.pop_front();
        }
    }
}

/// Counts one write while it lives.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: Arc<Shared>) -> Self {
        shared.writes.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Calls `work` every `period` until `shutdown`; the first call comes after one period, missed
/// ticks are skipped, and a call under way is finished. Errors are the work's own business.
pub async fn every<F, Fut>(period: Duration, shutdown: CancellationToken, mut work: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick of an interval is immediate.
    ticks.tick().await;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        work().await;
    }
}

/// The text of a panic, as far as it carries one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

/// A panic elsewhere leaves these plain values whole, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const SOON: Duration = Duration::from_secs(5);

    fn tasks() -> Tasks {
        Tasks::new(CancellationToken::new())
    }

    #[tokio::test]
    async fn a_panicking_task_is_started_again() {
        let tasks = tasks();
        let runs = Arc::new(AtomicUsize::new(0));
        let (alive, mut is_alive) = watch::channel(false);
        let stop = tasks.shutdown().clone();
        let counted = Arc::clone(&runs);
        tasks.supervise("fragile", move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            let (alive, stop) = (alive.clone(), stop.clone());
            async move {
                assert_ne!(run, 0, "the first run breaks");
                alive.send_replace(true);
                stop.cancelled().await;
            }
        });
        tokio::time::timeout(SOON, is_alive.wait_for(|alive| *alive))
            .await
            .expect("starts again at once")
            .expect("the sender lives in the task");
        let restarted = TaskHealth {
            state: TaskState::Restarting,
            restarts: 1,
        };
        assert_eq!(tasks.health(), [("fragile", restarted)]);
        tasks.shutdown().cancel();
        tasks.drain(SOON).await.expect("ends when told to");
    }

    #[tokio::test]
    async fn the_third_fault_within_a_minute_fails_the_service() {
        let tasks = tasks();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        // An early end is a fault just as a panic is.
        tasks.supervise("broken", move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(run == 1, "breaks") }
        });
        let name = tokio::time::timeout(SOON, tasks.failed())
            .await
            .expect("fails soon");
        assert_eq!(name, "broken");
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        let given_up = TaskHealth {
            state: TaskState::Failed,
            restarts: 2,
        };
        assert_eq!(tasks.health(), [("broken", given_up)]);
        // Nothing is left running, so nothing holds up the end.
        tasks.drain(SOON).await.expect("a failed task has ended");
    }

    #[tokio::test]
    async fn a_write_survives_its_caller() {
        let tasks = tasks();
        let (go, wait) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let caller = tokio::spawn({
            let tasks = tasks.clone();
            async move {
                tasks
                    .write(async move {
                        wait.await.expect("is told to go on");
                        done.send("written").expect("somebody listens");
                    })
                    .await;
            }
        });
        while tasks.shared.writes.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        caller.abort();
        assert!(caller.await.expect_err("was cut").is_cancelled());
        let left = tasks
            .drain(Duration::from_millis(20))
            .await
            .expect_err("the write is under way");
        assert_eq!(left.to_string(), "still running: 1 write");
        go.send(()).expect("the write still waits");
        assert_eq!(is_done.await, Ok("written"));
        tasks.drain(SOON).await.expect("the write has ended");
    }

    #[tokio::test]
    async fn a_panic_in_a_write_goes_on_in_the_caller() {
        let tasks = tasks();
        let caller =
            tokio::spawn(async move { tasks.write(async { panic!("in the write") }).await });
        let panic = caller.await.expect_err("panics").into_panic();
        assert_eq!(panic_text(&*panic), "in the write");
    }

    #[tokio::test]
    async fn drain_names_the_task_that_does_not_end() {
        let tasks = tasks();
        tasks.supervise("deaf", std::future::pending);
        tasks.shutdown().cancel();
        let left = tasks
            .drain(Duration::from_millis(20))
            .await
            .expect_err("never ends");
        assert_eq!(left.names, ["deaf"]);
    }

    #[tokio::test]
    async fn every_calls_again_and_again_until_shutdown() {
        let shutdown = CancellationToken::new();
        let mut calls = 0;
        let stop = shutdown.clone();
        every(Duration::from_millis(1), shutdown, || {
            calls += 1;
            if calls == 3 {
                stop.cancel();
            }
            async {}
        })
        .await;
        assert_eq!(calls, 3);
    }
}

//! What a relay or consumer says of itself, for readiness and for whoever counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The state of one task, shared with whoever answers health questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    state: Arc<Mutex<Result<String, String>>>,
    counts: Arc<Counts>,
}

/// Since the process began.
#[derive(Debug, Default)]
struct Counts {
    published: AtomicU64,
    handled: AtomicU64,
    duplicates: AtomicU64,
    blocked: AtomicBool,
}

impl Default for TaskStatus {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(Err("not started".into()))),
            counts: Arc::default(),
        }
    }
}

impl TaskStatus {
    /// `Ok` while the task does its work, `Err` while it cannot; the text says which and why.
    ///
    /// # Errors
    /// The reason why the task does not work at present.
    pub fn check(&self) -> Result<String, String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Messages that a relay had confirmed and has marked as sent.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.counts.published.load(Ordering::Relaxed)
    }

    /// Messages that a consumer has taken in, duplicates among them.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.counts.handled.load(Ordering::Relaxed)
    }

    /// Messages that a consumer had seen before, or whose order it had.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.counts.duplicates.load(Ordering::Relaxed)
    }

    /// Whether the broker blocks a relay by an alarm.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.counts.blocked.load(Ordering::Relaxed)
    }

    pub(crate) fn count_published(&self, messages: usize) {
        add(&self.counts.published, messages);
    }

    pub(crate) fn count_handled(&self, messages: usize, duplicates: usize) {
        add(&self.counts.handled, messages);
        add(&self.counts.duplicates, duplicates);
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.counts.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Sets the state; true if it is another than before, so that a log line is due.
    pub fn set(&self, state: Result<String, String>) -> bool {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != state;
        *current = state;
        changed
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

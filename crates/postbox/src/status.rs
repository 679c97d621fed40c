//! What a relay or consumer says of itself, for readiness.

use std::sync::{Arc, Mutex, PoisonError};

/// The state of one task, shared with whoever answers health questions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    state: Arc<Mutex<Result<String, String>>>,
}

impl Default for TaskStatus {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(Err("not started".into()))),
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

    /// Sets the state; true if it is another than before, so that a log line is due.
    pub(crate) fn set(&self, state: Result<String, String>) -> bool {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != state;
        *current = state;
        changed
    }
}

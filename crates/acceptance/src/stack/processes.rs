//! The processes that run, one by one and all together.
//!
//! Not here: starting them (`stack`), and what one process does (`process`).

use anyhow::Context as _;

use super::Stack;
use crate::process::{Instance, Process};

impl Stack {
    /// Whether a process has been started and neither killed nor stopped since.
    pub(crate) fn runs(&self, instance: Instance) -> bool {
        self.running.contains_key(&instance)
    }

    /// Takes a running process out of the stack, to be killed or stopped.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn take(&mut self, instance: Instance) -> anyhow::Result<Process> {
        self.running
            .remove(&instance)
            .with_context(|| format!("{instance} does not run"))
    }

    /// A running process, to be frozen, thawed or limited.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn process(&mut self, instance: Instance) -> anyhow::Result<&mut Process> {
        self.running
            .get_mut(&instance)
            .with_context(|| format!("{instance} does not run"))
    }

    /// Whether each process that was started still runs.
    ///
    /// # Errors
    /// If one has ended by itself, with how.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        self.running
            .values_mut()
            .try_for_each(Process::ensure_alive)
    }

    /// Ends all processes, at once.
    pub(crate) async fn end_all(&mut self) {
        for (_, process) in std::mem::take(&mut self.running) {
            // One that has ended by itself was reported by whoever waited for it.
            process.kill().await.ok();
        }
    }
}

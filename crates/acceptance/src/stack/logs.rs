//! What the processes of a scenario have said.
//!
//! Not here: what is made of it.

use std::path::PathBuf;

use super::Stack;
use crate::process::Instance;

/// Lines of each log that are printed for a scenario that failed.
const LOG_LINES: usize = 60;

impl Stack {
    /// The end of every service's log.
    pub(crate) fn last_logs(&self) -> String {
        let mut text = String::new();
        for instance in self.ports.keys().copied() {
            let Ok(log) = std::fs::read_to_string(self.log(instance)) else {
                continue;
            };
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
            text.push_str(&format!(
                "--- {instance}: last {} of {} lines\n",
                shown.len(),
                lines.len()
            ));
            for line in shown {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    pub(crate) fn log(&self, instance: Instance) -> PathBuf {
        self.logs.path().join(format!("{instance}.log"))
    }
}

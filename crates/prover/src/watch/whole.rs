//! The look at everything, beside the other: as often as it takes no more than a tenth of the
//! time, so that large databases are not read without a pause.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::known::Breach;
use crate::audit::{AuditError, Databases};
use crate::invariants;
use crate::verdict::{At, Verdict};

/// Of so many parts of the time it takes one.
const SHARE: u32 = 10;
/// A look that takes longer has lost its database.
const LIMIT: Duration = Duration::from_secs(3600);

/// A database that has come back is looked at soon; one that is too slow is let alone for as long
/// as it was asked.
const AFTER_A_FAULT: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Whole {
    running: Option<Running>,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    task: JoinHandle<Result<Vec<Breach>, Failure>>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("no answer within {LIMIT:?}")]
    TooSlow(#[from] tokio::time::error::Elapsed),
    #[error("the look broke off")]
    BrokeOff(#[from] tokio::task::JoinError),
}

impl Whole {
    /// What was found, if a look has ended; begins one when it is time to. Waits for its end for
    /// `patience` and leaves it running then.
    pub(super) async fn look(
        &mut self,
        databases: &Databases,
        at_once: bool,
        patience: Duration,
    ) -> Option<Result<Vec<Breach>, Failure>> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None if !at_once && self.rests_until.is_some_and(|at| Instant::now() < at) => {
                return None;
            }
            None => Running {
                since: Instant::now(),
                task: tokio::spawn(everything(databases.clone())),
            },
        };
        match tokio::time::timeout(patience, &mut running.task).await {
            Ok(ended) => {
                let took = running.since.elapsed();
                let ended = ended.unwrap_or_else(|error| Err(error.into()));
                let rest = match &ended {
                    Ok(_) => took * (SHARE - 1),
                    Err(_) => took.max(AFTER_A_FAULT),
                };
                self.rests_until = Some(Instant::now() + rest);
                Some(ended)
            }
            Err(_) => {
                self.running = Some(running);
                None
            }
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

async fn everything(databases: Databases) -> Result<Vec<Breach>, Failure> {
    let report = tokio::time::timeout(LIMIT, invariants::judge_in_full(&databases, At::Live, None))
        .await??;
    let mut found = Vec::new();
    for finding in report.findings {
        if let Verdict::Broken { examples, .. } = finding.verdict {
            let parse = |example: &String| Breach::parse(finding.id, example);
            found.extend(examples.iter().map(parse));
        }
    }
    Ok(found)
}

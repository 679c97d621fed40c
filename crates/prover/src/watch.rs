//! Looking again and again, for as long as the system runs: what each of two databases cannot show
//! alone, and neither service may ask the other's.
//!
//! Two looks share the work. [`Recent`] goes over S4 to S6 for what is new, each time. The whole
//! look is [`judge`](crate::judge) under traffic, and takes a tenth of the time. Neither compares
//! two databases in an order that traffic could get between, and all the same a breach is named
//! only when it is found a second time.

mod known;
mod recent;
mod whole;

use std::time::Duration;

use crate::audit::Databases;
use known::{Eye, Known};
use whole::Whole;

pub use known::{Breach, Change};
pub use recent::Recent;

/// The rules that are looked at.
pub const RULES: [&str; 10] = ["S1", "S2", "S3", "S4", "S5", "S6", "S8", "S9", "S15", "S18"];

/// Databases that do not answer a look within this time do not answer.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How long a look waits for the whole to be looked at as well. Longer ones go on beside it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon a suspicion is looked at again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// What one look has brought.
#[derive(Debug, Default)]
pub struct Looked {
    /// What began and what ended.
    pub changes: Vec<Change>,
    /// Why nothing new can be said about what is new or about the whole; nothing if all is seen.
    pub blind: Option<String>,
}

/// A watch over both databases.
#[derive(Debug)]
pub struct Watch {
    databases: Databases,
    recent: Recent,
    whole: Whole,
    known: Known,
    /// Why the last whole look that ended has failed.
    whole_failed: Option<String>,
    has_named: bool,
}

impl Watch {
    /// A watch that has not looked yet.
    #[must_use]
    pub fn new(databases: Databases) -> Self {
        Self {
            databases,
            recent: Recent::default(),
            whole: Whole::default(),
            known: Known::default(),
            whole_failed: None,
            has_named: false,
        }
    }

    /// Looks once. A database that does not answer is told and is asked again the next time; what
    /// was known stays known meanwhile.
    pub async fn look(&mut self) -> Looked {
        let mut looked = Looked::default();
        let recent = tokio::time::timeout(LOOK_LIMIT, self.recent.look(&self.databases));
        match recent.await {
            Ok(Ok(found)) => looked.changes.extend(self.known.note(Eye::Recent, found)),
            Ok(Err(error)) => looked.blind = Some(with_causes(error)),
            Err(_) => looked.blind = Some(format!("no answer within {LOOK_LIMIT:?}")),
        }
        // Also while the recent ones cannot be seen: the rules beyond S4 to S6 are seen here alone.
        let at_once = self.known.suspects(Eye::Whole);
        let whole = self.whole.look(&self.databases, at_once, PATIENCE);
        match whole.await {
            Some(Ok(found)) => {
                self.whole_failed = None;
                looked.changes.extend(self.known.note(Eye::Whole, found));
            }
            Some(Err(error)) => self.whole_failed = Some(with_causes(error)),
            None => {}
        }
        if looked.blind.is_none() {
            looked.blind.clone_from(&self.whole_failed);
        }
        let began = |change: &Change| matches!(change, Change::Began(_));
        self.has_named |= looked.changes.iter().any(began);
        looked
    }

    /// How long to wait before the next look: `interval`, or less while there is a suspicion.
    #[must_use]
    pub fn pause(&self, interval: Duration) -> Duration {
        let suspects = self.known.suspects(Eye::Recent) || self.known.suspects(Eye::Whole);
        if suspects {
            interval.min(SECOND_LOOK)
        } else {
            interval
        }
    }

    /// How many breaches of a rule are named now. Of one rule a thousand are told apart.
    #[must_use]
    pub fn named(&self, rule: &str) -> usize {
        self.known.named(rule)
    }

    /// Whether any breach was ever named.
    #[must_use]
    pub fn has_named(&self) -> bool {
        self.has_named
    }
}

/// With its causes: this text is all that is left of the error.
fn with_causes(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

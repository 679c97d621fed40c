//! What can be said of one rule: held, broken with examples, or not looked at. No SQL here.

use serde::Serialize;

/// How many examples of a broken rule a report has; the count goes on beyond them.
pub const EXAMPLES_MAX: usize = 5;
/// How many are found at all, for a [watch](crate::watch) that tells them apart.
pub(crate) const FOUND_MAX: usize = 1000;

/// In which state the system is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// Nothing is under way: see [`crate::quiescence::until_at_rest`]. That this is so is itself
    /// checked, and conservation of money is checked over both databases.
    Rest,
    /// Under traffic. Only what holds at every moment is checked, in an order of snapshots that
    /// gives no false alarm.
    Live,
}

/// One rule and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `S1` to `S18` and `L1` to `L6`, or `rest`: the state that the others assume.
    pub id: &'static str,
    /// What was looked at, and no more than that.
    pub title: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was found of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was looked at is as it must be.
    Holds {
        /// How many things (orders, accounts, amounts) were looked at; it may be 0.
        checked: u64,
    },
    /// At least one thing is not as it must be.
    Broken {
        /// How many things were looked at.
        checked: u64,
        /// How many of them are wrong; one thing can be wrong in several ways.
        found: u64,
        /// The first [`EXAMPLES_MAX`] of them, with order or user ids and amounts.
        examples: Vec<String>,
    },
    /// Nothing was looked at.
    NotChecked {
        /// What would be needed.
        why: &'static str,
    },
}

impl Verdict {
    /// Leaves no more than [`EXAMPLES_MAX`] examples.
    pub(crate) fn shorten(&mut self) {
        if let Self::Broken { examples, .. } = self {
            examples.truncate(EXAMPLES_MAX);
        }
    }
}

/// Counts what is looked at and keeps the first faults.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    checked: u64,
    found: u64,
    examples: Vec<String>,
}

impl Tally {
    pub(crate) fn looked_at(&mut self, more: u64) {
        self.checked += more;
    }

    /// The text is made only while there is room for it. It names the subject, then `: `, then what
    /// is wrong with it.
    pub(crate) fn fault(&mut self, describe: impl FnOnce() -> String) {
        self.found += 1;
        if self.examples.len() < FOUND_MAX {
            self.examples.push(describe());
        }
    }

    pub(crate) fn fault_without_example(&mut self) {
        self.found += 1;
    }

    pub(crate) fn verdict(self) -> Verdict {
        if self.found == 0 {
            Verdict::Holds {
                checked: self.checked,
            }
        } else {
            Verdict::Broken {
                checked: self.checked,
                found: self.found,
                examples: self.examples,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_breaks_a_rule_and_five_examples_are_told() {
        let mut tally = Tally::default();
        tally.looked_at(10);
        for order in 1..=7 {
            tally.fault(|| format!("order {order}"));
        }
        let mut verdict = tally.verdict();
        verdict.shorten();
        let Verdict::Broken {
            checked,
            found,
            examples,
        } = verdict
        else {
            panic!("seven faults must break the rule");
        };
        assert_eq!((checked, found), (10, 7));
        assert_eq!(examples.len(), EXAMPLES_MAX);
        assert_eq!(examples[0], "order 1");
    }

    #[test]
    fn a_tally_without_faults_holds() {
        let mut tally = Tally::default();
        tally.looked_at(3);
        assert_eq!(tally.verdict(), Verdict::Holds { checked: 3 });
    }
}

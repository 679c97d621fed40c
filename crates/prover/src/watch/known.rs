//! What is known to be broken: suspected when it is found, named when it is found again, over when
//! it is looked for and not found. Knows no SQL and no time.

use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// `S1` to `S18`.
    pub rule: &'static str,
    /// Which order, debit or user. Stays the same for as long as the breach lasts.
    pub subject: String,
    /// In which way. Amounts in it may change meanwhile.
    pub detail: String,
}

impl Breach {
    /// An example of a report: what stands in front of the first `: ` is the subject.
    pub(crate) fn parse(rule: &'static str, example: &str) -> Self {
        let (subject, detail) = example.split_once(": ").unwrap_or((example, ""));
        Self {
            rule,
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Found twice in a row: this is broken.
    Began(Breach),
    /// Looked for and not found any more.
    Ended(Breach),
}

/// Who looked. Each sees another part, so what one does not find may still be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Eye {
    Recent,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Suspected,
    Named,
}

type Key = (&'static str, String);

#[derive(Debug, Default)]
struct Entry {
    detail: String,
    seen: BTreeMap<Eye, Stage>,
}

impl Entry {
    fn is_named(&self) -> bool {
        self.seen.values().any(|stage| *stage == Stage::Named)
    }
}

/// All breaches that are suspected or named.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: BTreeMap<Key, Entry>,
}

impl Known {
    /// Takes in all that one eye has found this time.
    pub(super) fn note(&mut self, eye: Eye, found: Vec<Breach>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen_now = BTreeSet::new();
        for breach in found {
            let key = (breach.rule, breach.subject.clone());
            if !seen_now.insert(key.clone()) {
                continue;
            }
            let entry = self.entries.entry(key).or_default();
            entry.detail.clone_from(&breach.detail);
            let was_named = entry.is_named();
            let stage = entry
                .seen
                .get(&eye)
                .map_or(Stage::Suspected, |_| Stage::Named);
            entry.seen.insert(eye, stage);
            if entry.is_named() && !was_named {
                changes.push(Change::Began(breach));
            }
        }
        self.entries.retain(|key, entry| {
            if seen_now.contains(key) {
                return true;
            }
            let was_named = entry.is_named();
            entry.seen.remove(&eye);
            if was_named && !entry.is_named() {
                changes.push(Change::Ended(Breach {
                    rule: key.0,
                    subject: key.1.clone(),
                    detail: std::mem::take(&mut entry.detail),
                }));
            }
            !entry.seen.is_empty()
        });
        changes
    }

    /// Whether something was found that must be looked for a second time.
    pub(super) fn suspects(&self, eye: Eye) -> bool {
        self.entries
            .values()
            .any(|entry| entry.seen.get(&eye) == Some(&Stage::Suspected))
    }

    /// How many breaches of a rule are named.
    pub(super) fn named(&self, rule: &str) -> usize {
        self.entries
            .iter()
            .filter(|((of, _), entry)| *of == rule && entry.is_named())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(detail: &str) -> Breach {
        Breach {
            rule: "S4",
            subject: "order 1".to_owned(),
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn a_breach_is_named_at_the_second_look_and_only_once() {
        let mut known = Known::default();
        let found = breach("never debited");
        assert_eq!(known.note(Eye::Recent, vec![found.clone()]), []);
        assert!(known.suspects(Eye::Recent) && known.named("S4") == 0);
        let began = [Change::Began(found.clone())];
        assert_eq!(known.note(Eye::Recent, vec![found.clone()]), began);
        assert!(!known.suspects(Eye::Recent) && known.named("S4") == 1);
        let again = breach("debited with 3.00");
        assert_eq!(known.note(Eye::Recent, vec![again.clone()]), []);
        let ended = [Change::Ended(again)];
        assert_eq!(known.note(Eye::Recent, Vec::new()), ended);
        assert_eq!(known.named("S4"), 0);
    }

    #[test]
    fn what_is_gone_at_the_second_look_is_never_named() {
        let mut known = Known::default();
        known.note(Eye::Whole, vec![breach("never debited")]);
        assert_eq!(known.note(Eye::Whole, Vec::new()), []);
        assert_eq!(
            known.note(Eye::Whole, vec![breach("never debited")]),
            [],
            "found again after a break, it is a new suspicion"
        );
    }

    #[test]
    fn two_eyes_name_it_once_and_it_lasts_as_long_as_one_of_them_sees_it() {
        let mut known = Known::default();
        let found = breach("never debited");
        for eye in [Eye::Recent, Eye::Whole] {
            known.note(eye, vec![found.clone()]);
        }
        let began = [Change::Began(found.clone())];
        assert_eq!(known.note(Eye::Whole, vec![found.clone()]), began);
        assert_eq!(known.note(Eye::Recent, vec![found.clone()]), []);
        assert_eq!(known.note(Eye::Recent, Vec::new()), []);
        assert_eq!(known.named("S4"), 1);
        let ended = [Change::Ended(found)];
        assert_eq!(known.note(Eye::Whole, Vec::new()), ended);
    }

    #[test]
    fn an_example_is_taken_apart_behind_its_subject() {
        let breach = Breach::parse("S4", "order 1 of user 7 for 3.00: FINISHED: never");
        assert_eq!(breach.subject, "order 1 of user 7 for 3.00");
        assert_eq!(breach.detail, "FINISHED: never");
    }
}

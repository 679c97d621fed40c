//! The fault matrix: what can go wrong, what must happen then, and which scenario shows it. Scenarios carry a fault's
//! id as their tag; `docs/guarantee.md` is written from both and from what came out of a run (`outcomes.rs`), and a
//! test holds it up to date.
//!
//! Not here: the page (`document.rs`); how a fault is made (that is in the steps and in `sandbox`).

mod broker;
mod database;
mod document;
mod life;
mod messages;
pub(crate) mod moments;
mod outcomes;
mod surroundings;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use cucumber::gherkin::{Feature, GherkinEnv};

pub(crate) use document::{OUTCOMES, document};

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Also the tag of its scenarios.
    pub(crate) id: &'static str,
    what: &'static str,
    answer: &'static str,
    shown: Shown,
}

/// What shows that the answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Those that carry the tag.
    Scenarios,
    /// The compiler, see the doc tests of postbox.
    ByType,
    /// Tests below the whole system, and scenarios if there are any.
    Tests(&'static str),
    /// It cannot be tried here, for this reason.
    NotHere(&'static str),
}

const fn scenarios(id: &'static str, what: &'static str, answer: &'static str) -> Fault {
    Fault {
        id,
        what,
        answer,
        shown: Shown::Scenarios,
    }
}

const fn by_type(id: &'static str, what: &'static str, answer: &'static str) -> Fault {
    Fault {
        id,
        what,
        answer,
        shown: Shown::ByType,
    }
}

const fn tests(
    id: &'static str,
    what: &'static str,
    answer: &'static str,
    tests: &'static str,
) -> Fault {
    Fault {
        id,
        what,
        answer,
        shown: Shown::Tests(tests),
    }
}

const fn not_here(
    id: &'static str,
    what: &'static str,
    answer: &'static str,
    reason: &'static str,
) -> Fault {
    Fault {
        id,
        what,
        answer,
        shown: Shown::NotHere(reason),
    }
}

const GROUPS: [(&str, &[Fault]); 5] = [
    ("On an order's way", life::FAULTS),
    ("The broker", broker::FAULTS),
    ("Messages", messages::FAULTS),
    ("PostgreSQL", database::FAULTS),
    (
        "Processes, time, network, and what was found by trying",
        surroundings::FAULTS,
    ),
];

/// All rows.
pub(crate) fn faults() -> impl Iterator<Item = &'static Fault> {
    GROUPS.iter().flat_map(|(_, faults)| faults.iter())
}

/// The faults among a scenario's tags and those of what it stands in.
pub(crate) fn faults_of<'a>(tags: impl IntoIterator<Item = &'a String>) -> Vec<&'static str> {
    let tags: Vec<&String> = tags.into_iter().collect();
    faults()
        .map(|fault| fault.id)
        .filter(|id| tags.iter().any(|tag| tag == id))
        .collect()
}

/// Which scenarios show which fault.
type Shows = BTreeMap<&'static str, Vec<String>>;

/// Reads the features of a folder.
///
/// # Errors
/// One cannot be read, or carries a tag that looks like a fault and is none.
fn read(features: &Path) -> anyhow::Result<Shows> {
    let mut shows = Shows::new();
    let mut paths: Vec<_> = std::fs::read_dir(features)
        .with_context(|| format!("cannot read {}", features.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "feature"))
    {
        let feature = Feature::parse_path(path, GherkinEnv::default())
            .with_context(|| format!("cannot read {}", path.display()))?;
        for scenario in &feature.scenarios {
            let tags: Vec<&String> = feature.tags.iter().chain(&scenario.tags).collect();
            for tag in &tags {
                let known = faults().any(|fault| fault.id == tag.as_str());
                ensure!(
                    known || !looks_like_a_fault(tag),
                    "{}: there is no fault {tag}",
                    path.display()
                );
            }
            for id in faults_of(tags) {
                shows
                    .entry(id)
                    .or_default()
                    .push(format!("{}: {}", feature.name, scenario.name));
            }
        }
    }
    Ok(shows)
}

fn looks_like_a_fault(tag: &str) -> bool {
    let mut letters = tag.chars();
    letters
        .next()
        .is_some_and(|first| ('A'..='F').contains(&first))
        && letters.clone().next().is_some()
        && letters.all(|digit| digit.is_ascii_digit())
}

impl Fault {
    fn is_shown(&self, shows: &Shows) -> bool {
        matches!(self.shown, Shown::ByType | Shown::Tests(_)) || shows.contains_key(self.id)
    }

    /// What a run says of a fault that has no scenario: what shows it else, or why nothing does.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        match self.shown {
            Shown::Scenarios => None,
            Shown::ByType => Some("shown by the compiler, see the doc tests of postbox".to_owned()),
            Shown::Tests(tests) => Some(format!("shown by {tests}")),
            Shown::NotHere(reason) => Some(format!("not tried: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn no_fault_stands_twice() {
        let ids: BTreeSet<&str> = faults().map(|fault| fault.id).collect();
        assert_eq!(ids.len(), faults().count());
    }

    #[test]
    fn each_fault_is_shown_or_says_why_it_is_not() -> anyhow::Result<()> {
        let shows = read(&root().join("features"))?;
        for fault in faults() {
            let is_told = matches!(fault.shown, Shown::NotHere(_));
            assert!(
                is_told || fault.is_shown(&shows),
                "{} is not shown",
                fault.id
            );
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_tried_here_has_no_scenario() -> anyhow::Result<()> {
        let shows = read(&root().join("features"))?;
        for fault in faults().filter(|fault| matches!(fault.shown, Shown::NotHere(_))) {
            assert!(
                !shows.contains_key(fault.id),
                "{} has a scenario all the same",
                fault.id
            );
        }
        Ok(())
    }

    #[test]
    fn a_tag_that_means_no_fault_is_told() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(
            folder.path().join("x.feature"),
            "Feature: x\n  @A99\n  Scenario: y\n    Given z\n",
        )?;
        let error = read(folder.path())
            .expect_err("there is no such fault")
            .to_string();
        assert!(error.contains("no fault A99"), "{error}");
        Ok(())
    }

    #[test]
    fn only_ids_look_like_faults() {
        for tag in ["A1", "F15", "B99"] {
            assert!(looks_like_a_fault(tag), "{tag}");
        }
        for tag in ["serial", "A", "L5", "Ana", "A1x"] {
            assert!(!looks_like_a_fault(tag), "{tag}");
        }
    }
}

//! The command line, read before anything is started: a mistake in it must leave nothing behind.
//!
//! Not here: what is done with it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use sandbox::Backend;

use crate::plants::{self, Plant};

/// Name of this test among those of a `cargo test` run.
const TEST_NAME: &str = "acceptance";

const USAGE: &str = "usage: acceptance [--backend auto|local|docker] [--tags EXPR] [--name REGEX] [-c N] \
                     [--exhaustive] [--seed N] [--planted all|NAME,...] [--features DIR] | --guarantee";

/// Scenarios at a time, those tagged `@serial` aside. More gain nothing on two cores.
const CONCURRENCY: usize = 4;

/// Whether these arguments ask for one of the three services, or for what an operator does to them.
pub fn is_service(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let first = arguments.into_iter().nth(1);
    first.is_some_and(|first| {
        ["gateway", "orders", "payments", "parked", "verify"]
            .iter()
            .any(|name| first == *name)
    })
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The list of tests, as `cargo nextest` reads it; empty when it asks for the ignored ones.
    List {
        /// Whether this test is in it.
        listed: bool,
    },
    /// Other tests than this one.
    Others,
    /// The text of `docs/guarantee.md`.
    Guarantee(PathBuf),
    /// The features.
    Features(Plan),
}

/// Which features, and on what.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As given; `None` means the best that is there.
    pub(crate) backend: Option<Backend>,
    /// A tag expression.
    pub(crate) tags: Option<String>,
    /// A regular expression for scenarios' names.
    pub(crate) name: Option<String>,
    /// Scenarios at a time.
    pub(crate) concurrency: usize,
    /// Also the scenarios that are too many for every change.
    pub(crate) exhaustive: bool,
    /// What chance is to follow from; `None` means a new number.
    pub(crate) seed: Option<u32>,
    /// Not the scenarios for themselves: those that must catch these faults.
    pub(crate) planted: Option<Vec<&'static Plant>>,
    /// Folder, or one file.
    pub(crate) features: PathBuf,
}

/// Reads the arguments after the program's name. Those of Rust's own test harness are known and change nothing, but
/// for a name: that selects tests, and this whole suite is the one test `acceptance`.
///
/// # Errors
/// An unknown option, or one without its value.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Asked> {
    let mut plan = Plan {
        backend: None,
        tags: None,
        name: None,
        concurrency: CONCURRENCY,
        exhaustive: false,
        seed: None,
        planted: None,
        features: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../features")),
    };
    let (mut list, mut ignored, mut exact, mut guarantee) = (false, false, false, false);
    let mut filters = Vec::new();
    let mut skips = Vec::new();
    let mut rest = arguments.into_iter().skip(1);
    while let Some(argument) = rest.next() {
        let argument = argument
            .into_string()
            .ok()
            .context("an argument is not UTF-8")?;
        let (option, inline) = match argument.split_once('=') {
            Some((option, value)) if option.starts_with('-') => (option, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value = || {
            let next = || rest.next().and_then(|value| value.into_string().ok());
            inline
                .clone()
                .or_else(next)
                .with_context(|| format!("{option} needs a value; {USAGE}"))
        };
        match option {
            "--backend" => plan.backend = backend(&value()?)?,
            "--tags" | "-t" => plan.tags = Some(value()?),
            "--name" | "-n" => plan.name = Some(value()?),
            "-c" | "--concurrency" => plan.concurrency = concurrency(&value()?)?,
            "--features" => plan.features = PathBuf::from(value()?),
            "--planted" => plan.planted = Some(plants::select(&value()?)?),
            "--seed" => plan.seed = Some(seed(&value()?)?),
            "--exhaustive" => plan.exhaustive = true,
            "--guarantee" => guarantee = true,
            "--list" => list = true,
            "--ignored" => ignored = true,
            "--exact" => exact = true,
            "--skip" => skips.push(value()?),
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(value()?),
            "--nocapture" | "--no-capture" | "--include-ignored" | "--show-output" | "--quiet"
            | "-q" | "--test" | "--report-time" | "--ensure-time" => {}
            unknown if unknown.starts_with('-') => bail!("unknown option {unknown}; {USAGE}"),
            filter => filters.push(filter.to_owned()),
        }
    }
    if plan.tags.is_some() && plan.name.is_some() {
        bail!("--tags and --name exclude each other");
    }
    if plan.planted.is_some() && (plan.tags.is_some() || plan.name.is_some()) {
        bail!("--planted names its scenarios itself, so without --tags and --name");
    }
    if guarantee {
        return Ok(Asked::Guarantee(plan.features));
    }
    let means_this = |filter: &String| match exact {
        true => filter == TEST_NAME,
        false => TEST_NAME.contains(filter.as_str()),
    };
    let selected = filters.is_empty() || filters.iter().any(means_this);
    let selected = selected && !skips.iter().any(means_this) && !ignored;
    Ok(match (list, selected) {
        (true, listed) => Asked::List { listed },
        (false, false) => Asked::Others,
        (false, true) => Asked::Features(plan),
    })
}

fn backend(name: &str) -> anyhow::Result<Option<Backend>> {
    Ok(match name {
        "auto" => None,
        "local" => Some(Backend::Local),
        "docker" => Some(Backend::Docker),
        other => bail!("no backend is called {other}; {USAGE}"),
    })
}

fn concurrency(text: &str) -> anyhow::Result<usize> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.with_context(|| format!("-c takes a number from 1 to 64, not {text}"))
}

fn seed(text: &str) -> anyhow::Result<u32> {
    let number = text.parse().ok();
    number.with_context(|| format!("--seed takes a number from 0 to {}, not {text}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> anyhow::Result<Asked> {
        parse(
            std::iter::once("acceptance")
                .chain(arguments.iter().copied())
                .map(OsString::from),
        )
    }

    #[test]
    fn nextest_sees_one_test_and_no_ignored_ones() {
        let listed = |arguments: &[&str]| match asked(arguments).expect("known options") {
            Asked::List { listed } => listed,
            other => panic!("a list was asked for, not {other:?}"),
        };
        assert!(listed(&["--list", "--format", "terse"]));
        assert!(!listed(&["--list", "--format", "terse", "--ignored"]));
    }

    #[test]
    fn a_name_selects_tests_as_the_usual_harness_does() {
        let runs = |arguments: &[&str]| {
            matches!(asked(arguments).expect("known options"), Asked::Features(_))
        };
        assert!(runs(&[]));
        assert!(runs(&["--exact", "--nocapture", "acceptance"]));
        assert!(runs(&["accept"]));
        assert!(!runs(&["accept", "--exact"]));
        assert!(!runs(&["a_declined_order_stays_declined"]));
        assert!(!runs(&["--skip", "acceptance"]));
    }

    #[test]
    fn a_misspelt_option_stops_the_run_instead_of_running_everything() {
        for wrong in [
            &["--tgas", "@serial"][..],
            &["--tags"],
            &["-c", "0"],
            &["--seed", "red"],
            &["--backend", "dokcer"],
            &["--planted", "everything"],
            &["--planted", "all", "--tags", "@serial"],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn our_own_options_are_taken_in_both_spellings() {
        let Asked::Features(plan) =
            asked(&["--tags=@serial", "-c", "2", "--backend", "local"]).expect("known options")
        else {
            panic!("features were asked for");
        };
        assert_eq!(plan.tags.as_deref(), Some("@serial"));
        assert_eq!(plan.concurrency, 2);
        assert_eq!(plan.backend, Some(Backend::Local));
    }

    #[test]
    fn only_the_three_services_are_services() {
        let service = |first: &str| is_service(["acceptance", first].map(OsString::from));
        assert!(service("gateway") && service("orders") && service("payments"));
        assert!(service("parked") && service("verify"));
        assert!(!service("acceptance") && !service("--list"));
    }
}

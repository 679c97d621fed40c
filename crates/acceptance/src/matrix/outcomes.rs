//! What came out of the last whole run, as `./dev faults` keeps it: `docs/outcomes.txt`, a line for each thing said.
//!
//! Not here: the page that is written from it; the run.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::faults;

/// The kinds of servers, and what the page calls them.
pub(super) const BACKENDS: [(&str, &str); 2] =
    [("local", "as processes"), ("docker", "in containers")];

/// What a run says once for each kind of servers.
const OF_EACH: [&str; 4] = ["servers", "scenarios", "crash moments", "planted"];

/// A run on both kinds of servers, to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// By its subject: `date`, `servers on local`.
    said: BTreeMap<String, String>,
    /// By fault and backend, how many scenarios have passed and how many have not.
    faults: BTreeMap<(&'static str, &'static str), (usize, usize)>,
}

impl Outcomes {
    /// Reads the file; none is no run.
    ///
    /// # Errors
    /// It cannot be read, or says something else than a whole run does.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let said = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text
                .map_err(anyhow::Error::from)
                .and_then(|text| Self::parse(&text)),
        };
        said.map(Some)
            .with_context(|| format!("{}, as `./dev faults` writes it", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut run = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            run.take(line)
                .with_context(|| format!("line {number}, {line:?}"))?;
        }
        let of_each = OF_EACH.map(|what| BACKENDS.map(|(name, _)| format!("{what} on {name}")));
        let wanted = ["date", "commit"].map(str::to_owned).into_iter();
        for subject in wanted.chain(of_each.into_iter().flatten()) {
            ensure!(
                run.said.contains_key(&subject),
                "it says nothing of {subject:?}"
            );
        }
        Ok(run)
    }

    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        let (subject, said) = line.split_once(": ").context("not `WHAT: WHAT CAME OUT`")?;
        let is_new = if let Some((what, backend)) = subject.split_once(" on ") {
            let backend = known(backend)?;
            if let Some(fault) = what.strip_prefix("fault ") {
                let counts = numbers(said, " passed, ", " failed")?;
                let fault = faults().map(|fault| fault.id).find(|id| *id == fault);
                let fault = fault.with_context(|| format!("there is no {what}"))?;
                self.faults.insert((fault, backend), counts).is_none()
            } else {
                check(what, said)?;
                self.said
                    .insert(subject.to_owned(), said.to_owned())
                    .is_none()
            }
        } else {
            check_origin(subject, said)?;
            self.said
                .insert(subject.to_owned(), said.to_owned())
                .is_none()
        };
        ensure!(is_new, "it was said before");
        Ok(())
    }

    /// As it was said: `date`, `commit`, `servers on local`.
    pub(super) fn said(&self, subject: &str) -> &str {
        self.said.get(subject).map_or("", String::as_str)
    }

    /// What became of a fault, if the run had it: `12 passed, 14 passed in containers`.
    pub(super) fn of(&self, fault: &'static str) -> Option<String> {
        let outcome = |(backend, place): (&'static str, &str)| {
            let came_out = match self.faults.get(&(fault, backend))? {
                (passed, 0) => format!("{passed} passed"),
                (_, failed) => format!("{failed} failed"),
            };
            Some(match backend {
                "local" => came_out,
                _ => format!("{came_out} {place}"),
            })
        };
        let outcomes: Vec<String> = BACKENDS.into_iter().filter_map(outcome).collect();
        (!outcomes.is_empty()).then(|| outcomes.join(", "))
    }
}

fn known(backend: &str) -> anyhow::Result<&'static str> {
    let mut names = BACKENDS.into_iter().map(|(name, _)| name);
    names
        .find(|name| *name == backend)
        .with_context(|| format!("no servers are called {backend:?}"))
}

/// Where a run comes from.
fn check_origin(subject: &str, said: &str) -> anyhow::Result<()> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match subject {
        "date" => {
            let parts: Vec<&str> = said.split('-').collect();
            let is_day =
                parts.iter().map(|part| part.len()).eq([4, 2, 2]) && parts.into_iter().all(digits);
            ensure!(is_day, "not a day as in 2026-01-31");
        }
        "commit" => {
            let hash = said.strip_suffix("-dirty").unwrap_or(said);
            let is_hash = hash.len() >= 4 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(is_hash || said == "unknown", "not a commit, nor `unknown`");
        }
        _ => bail!("a run says nothing of {subject:?}"),
    }
    Ok(())
}

/// What is said of one kind of servers, faults aside.
fn check(what: &str, said: &str) -> anyhow::Result<()> {
    match what {
        "servers" => ensure!(!said.contains('|'), "not the names of servers"),
        "scenarios" => drop(numbers(said, " passed, ", " failed")?),
        "crash moments" => drop(numbers(said, " of ", " survived")?),
        "planted" => drop(numbers(said, " of ", " caught")?),
        _ => bail!("a run says nothing of {what:?}"),
    }
    Ok(())
}

/// The two in a text such as `3 of 4 caught`.
fn numbers(said: &str, between: &str, after: &str) -> anyhow::Result<(usize, usize)> {
    let numbers = || {
        let (first, second) = said.strip_suffix(after)?.split_once(between)?;
        Some((first.parse().ok()?, second.parse().ok()?))
    };
    numbers().with_context(|| format!("not `N{between}N{after}`"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::matrix) const RUN: &str = "commit: 9b7ccec-dirty\n\
        date: 2026-03-01\n\
        servers on docker: PostgreSQL 17.2, RabbitMQ 4.0.5\n\
        servers on local: PostgreSQL 15.18, RabbitMQ 3.10.8\n\
        crash moments on docker: 30 of 31 survived\n\
        crash moments on local: 31 of 31 survived\n\
        planted on docker: 34 of 35 caught\n\
        planted on local: 35 of 35 caught\n\
        scenarios on docker: 340 passed, 3 failed\n\
        scenarios on local: 330 passed, 0 failed\n\
        fault A1 on docker: 14 passed, 0 failed\n\
        fault A1 on local: 12 passed, 0 failed\n\
        fault A10 on docker: 5 passed, 3 failed\n\
        fault A10 on local: 6 passed, 0 failed\n\
        fault D11 on docker: 2 passed, 0 failed\n";

    pub(in crate::matrix) fn run() -> Outcomes {
        Outcomes::parse(RUN).expect("a whole run")
    }

    /// Why a text is refused.
    fn refused(text: &str) -> String {
        let error = Outcomes::parse(text).expect_err(text);
        format!("{error:#}")
    }

    #[test]
    fn a_run_says_where_it_comes_from_and_how_it_closed() {
        let run = run();
        assert_eq!(run.said("date"), "2026-03-01");
        assert_eq!(run.said("commit"), "9b7ccec-dirty");
        let servers = "PostgreSQL 17.2, RabbitMQ 4.0.5";
        assert_eq!(run.said("servers on docker"), servers);
        assert_eq!(run.said("crash moments on docker"), "30 of 31 survived");
        assert_eq!(run.said("planted on local"), "35 of 35 caught");
        assert_eq!(run.said("scenarios on local"), "330 passed, 0 failed");
        let without_git = Outcomes::parse(&RUN.replace("9b7ccec-dirty", "unknown"));
        assert!(without_git.is_ok(), "{without_git:?}");
    }

    #[test]
    fn a_fault_has_its_outcome_on_each_kind_of_servers() {
        let outcome = |fault| run().of(fault);
        let expected = "12 passed, 14 passed in containers";
        assert_eq!(outcome("A1").as_deref(), Some(expected));
        let expected = "6 passed, 3 failed in containers";
        assert_eq!(outcome("A10").as_deref(), Some(expected));
        assert_eq!(outcome("D11").as_deref(), Some("2 passed in containers"));
        assert_eq!(outcome("A2"), None);
    }

    #[test]
    fn what_is_no_line_of_a_run_is_told_with_its_number() {
        for (line, why) in [
            ("", "not `WHAT: WHAT CAME OUT`"),
            ("hello", "not `WHAT: WHAT CAME OUT`"),
            ("weather: fine", "a run says nothing of \"weather\""),
            ("date: yesterday", "not a day as in 2026-01-31"),
            ("commit: the last one", "not a commit"),
            ("servers on moon: X 1", "no servers are called \"moon\""),
            ("tests on local: 1 passed, 0 failed", "nothing of \"tests\""),
            ("fault A99 on local: 1 passed, 0 failed", "no fault A99"),
            ("fault A2 on local: well", "not `N passed, N failed`"),
            ("planted on local: all caught", "not `N of N caught`"),
            (
                "fault A1 on local: 12 passed, 0 failed",
                "it was said before",
            ),
            ("date: 2026-03-01", "it was said before"),
        ] {
            let told = refused(&format!("{RUN}{line}\n"));
            assert!(told.contains(why), "{line:?}: {told}");
            assert!(told.contains("line 16"), "{line:?}: {told}");
        }
    }

    #[test]
    fn a_run_that_did_not_come_to_its_end_is_refused() {
        for subject in [
            "date",
            "commit",
            "servers on local",
            "scenarios on docker",
            "crash moments on local",
            "planted on docker",
        ] {
            let begins = format!("{subject}: ");
            let lines = RUN.lines().filter(|line| !line.starts_with(&begins));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            let told = refused(&text);
            assert!(told.contains(&format!("nothing of {subject:?}")), "{told}");
        }
    }

    #[test]
    fn no_file_is_no_run_and_a_wrong_one_is_named() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("outcomes.txt");
        assert_eq!(Outcomes::read(&path)?, None);
        std::fs::write(&path, RUN)?;
        assert_eq!(Outcomes::read(&path)?, Some(run()));
        std::fs::write(&path, "hello\n")?;
        let told = format!("{:#}", Outcomes::read(&path).expect_err("no run"));
        assert!(told.contains("outcomes.txt"), "{told}");
        Ok(())
    }
}

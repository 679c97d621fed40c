//! The page `docs/guarantee.md`: the rows of the matrix, and what shows each of them.
//!
//! Not here: the rows; which scenario shows which.

use std::fmt::Write as _;
use std::path::Path;

use super::outcomes::{BACKENDS, Outcomes};
use super::{Fault, GROUPS, Shown, Shows, faults, read};
use crate::plants::PLANTS;

/// Where `./dev faults` keeps what came out.
pub(crate) const OUTCOMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/outcomes.txt");

/// `docs/guarantee.md`, from the rows, the features' tags and what came out of a run.
///
/// # Errors
/// Those of [`read`] and of [`Outcomes::read`].
pub(crate) fn document(features: &Path, outcomes: &Path) -> anyhow::Result<String> {
    let shows = read(features)?;
    let outcomes = Outcomes::read(outcomes)?;
    Ok(write(&shows, outcomes.as_ref())?)
}

fn write(shows: &Shows, outcomes: Option<&Outcomes>) -> Result<String, std::fmt::Error> {
    let shown = faults().filter(|fault| fault.is_shown(shows)).count();
    let not_here = faults()
        .filter(|fault| matches!(fault.shown, Shown::NotHere(_)))
        .count();
    let all = faults().count();
    let mut text = format!(
        "# What can go wrong, and what happens then\n\n\
         Delivered at least once, applied exactly once, whatever of this happens. This page is written from the\n\
         tags of `features/` and from what came out of `./dev faults`, by\n\
         `cargo test --workspace --test acceptance -- --guarantee`, and a test holds it up to date. After each\n\
         scenario the invariants are checked over both databases (`crates/prover`).\n\n\
         Of {all} faults {shown} are shown by a scenario, a test or the compiler; {not_here} cannot be tried here, \
         with the reason. The outcome of a fault is that of its scenarios, and `-` where it has none.\n",
    );
    write_run(&mut text, outcomes)?;
    for (title, faults) in GROUPS {
        write!(
            text,
            "\n## {title}\n\n\
             | | fault | what happens | outcome | shown by |\n| --- | --- | --- | --- | --- |\n"
        )?;
        for fault in faults {
            let Fault {
                id, what, answer, ..
            } = fault;
            let outcome = fault.outcome(shows, outcomes);
            let evidence = fault.evidence(shows);
            writeln!(
                text,
                "| {id} | {what} | {answer} | {outcome} | {evidence} |"
            )?;
        }
    }
    write_plants(&mut text)?;
    Ok(text)
}

/// Which run the outcomes are of, and how it closed.
fn write_run(text: &mut String, outcomes: Option<&Outcomes>) -> std::fmt::Result {
    let Some(run) = outcomes else {
        return writeln!(
            text,
            "\nNo whole run of `./dev faults` is recorded, so nothing is said of outcomes."
        );
    };
    let servers = BACKENDS.map(|(backend, place)| {
        let versions = run.said(&format!("servers on {backend}"));
        format!("{place} ({versions})")
    });
    writeln!(
        text,
        "\nThe outcomes are those of the run of {} at commit {}, with servers {}.\n\n| | {} |\n| --- | --- | --- |",
        run.said("date"),
        run.said("commit"),
        servers.join(" and then "),
        BACKENDS.map(|(_, place)| place).join(" | "),
    )?;
    for (title, what) in [
        ("scenarios", "scenarios"),
        ("crash moments", "crash moments"),
        ("planted faults", "planted"),
    ] {
        let [processes, containers] =
            BACKENDS.map(|(backend, _)| run.said(&format!("{what} on {backend}")));
        writeln!(text, "| {title} | {processes} | {containers} |")?;
    }
    Ok(())
}

fn write_plants(text: &mut String) -> std::fmt::Result {
    write!(
        text,
        "\n## Planted faults\n\n\
         Mistakes that this product does not make, each compiled into the services of the suite alone and switched \
         on by name: the scenario fails with these words. What in the database would hide the mistake is taken away \
         first; with that alone, the scenario passes. {} of them, by `./dev faults`; a part by `./dev test`.\n\n\
         | mistake | hidden by | caught by | which says |\n| --- | --- | --- | --- |\n",
        PLANTS.len()
    )?;
    for plant in PLANTS {
        let hidden_by: Vec<String> = plant
            .hidden_by
            .iter()
            .map(|(_, statement)| format!("`{statement}`"))
            .collect();
        writeln!(
            text,
            "| `{}` | {} | *{}* | {} |",
            plant.name,
            hidden_by.join(", "),
            plant.scenario,
            plant.says
        )?;
    }
    Ok(())
}

impl Fault {
    /// What came out where its scenarios were run.
    fn outcome(&self, shows: &Shows, outcomes: Option<&Outcomes>) -> String {
        match (shows.contains_key(self.id), outcomes) {
            (false, _) => "-".to_owned(),
            (true, None) => "no whole run recorded".to_owned(),
            (true, Some(run)) => {
                let outcome = run.of(self.id);
                outcome.unwrap_or_else(|| "not in that run".to_owned())
            }
        }
    }

    fn evidence(&self, shows: &Shows) -> String {
        let scenarios = shows.get(self.id).map(|names| {
            let names: Vec<String> = names.iter().map(|name| format!("*{name}*")).collect();
            names.join("; ")
        });
        match (self.shown, scenarios) {
            (Shown::ByType, _) => "doc tests of `crates/postbox`".to_owned(),
            (Shown::Tests(tests), None) => tests.to_owned(),
            (Shown::Tests(tests), Some(scenarios)) => format!("{tests}; {scenarios}"),
            (_, Some(scenarios)) => scenarios,
            (Shown::NotHere(reason), None) => format!("not tried: {reason}"),
            (Shown::Scenarios, None) => "not shown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::outcomes;
    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// The row of a fault.
    fn row<'a>(text: &'a str, fault: &str) -> &'a str {
        let begins = format!("| {fault} | ");
        let row = text.lines().find(|line| line.starts_with(&begins));
        row.expect("each fault has a row")
    }

    fn shows() -> Shows {
        ["A1", "A2"]
            .map(|fault| (fault, vec!["It is tried".to_owned()]))
            .into()
    }

    #[test]
    fn each_row_says_what_came_out() -> anyhow::Result<()> {
        let text = write(&shows(), Some(&outcomes::tests::run()))?;
        let tried = "| 12 passed, 14 passed in containers | *It is tried* |";
        assert!(row(&text, "A1").ends_with(tried), "{text}");
        let new = "| not in that run | *It is tried* |";
        assert!(row(&text, "A2").ends_with(new), "{text}");
        let by_type = "| - | doc tests of `crates/postbox` |";
        assert!(row(&text, "A8").ends_with(by_type), "{text}");
        // Its scenarios are gone since.
        assert!(row(&text, "A10").contains(" | - | "), "{text}");
        Ok(())
    }

    #[test]
    fn the_head_says_which_run_it_was_and_how_it_closed() -> anyhow::Result<()> {
        let text = write(&shows(), Some(&outcomes::tests::run()))?;
        for said in [
            "of 2026-03-01 at commit 9b7ccec-dirty",
            "as processes (PostgreSQL 15.18, RabbitMQ 3.10.8)",
            "in containers (PostgreSQL 17.2, RabbitMQ 4.0.5)",
            "| | as processes | in containers |",
            "| scenarios | 330 passed, 0 failed | 340 passed, 3 failed |",
            "| crash moments | 31 of 31 survived | 30 of 31 survived |",
            "| planted faults | 35 of 35 caught | 34 of 35 caught |",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        Ok(())
    }

    #[test]
    fn without_a_run_nothing_is_said_to_have_come_out() -> anyhow::Result<()> {
        let text = write(&shows(), None)?;
        assert!(text.contains("No whole run"), "{text}");
        let tried = "| no whole run recorded | *It is tried* |";
        assert!(row(&text, "A1").ends_with(tried), "{text}");
        assert!(row(&text, "A8").contains(" | - | "), "{text}");
        assert!(!text.contains("as processes"), "{text}");
        Ok(())
    }

    #[test]
    fn the_document_says_what_the_tags_and_the_run_say() -> anyhow::Result<()> {
        let written = std::fs::read_to_string(root().join("docs/guarantee.md"))?;
        assert!(
            written == document(&root().join("features"), Path::new(OUTCOMES))?,
            "docs/guarantee.md is stale: cargo test --workspace --test acceptance -- --guarantee > docs/guarantee.md"
        );
        Ok(())
    }
}

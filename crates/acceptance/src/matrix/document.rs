//! The page `docs/guarantee.md`: the rows of the matrix, and what shows each of them.
//!
//! Not here: the rows; which scenario shows which.

use std::fmt::Write as _;
use std::path::Path;

use super::{Fault, GROUPS, Shown, Shows, faults, read};
use crate::plants::PLANTS;

/// `docs/guarantee.md`, from the rows and the features' tags.
///
/// # Errors
/// See [`read`].
pub(crate) fn document(features: &Path) -> anyhow::Result<String> {
    let shows = read(features)?;
    let shown = faults().filter(|fault| fault.is_shown(&shows)).count();
    let not_here = faults()
        .filter(|fault| matches!(fault.shown, Shown::NotHere(_)))
        .count();
    let all = faults().count();
    let mut text = format!(
        "# What can go wrong, and what happens then\n\n\
         Delivered at least once, applied exactly once, whatever of this happens. This page is written from the\n\
         tags of `features/` by `cargo test --workspace --test acceptance -- --guarantee`, and a test holds it\n\
         up to date. After each scenario the invariants are checked over both databases (`crates/prover`).\n\n\
         Of {all} faults {shown} are shown by a scenario, a test or the compiler; {not_here} cannot be tried here, \
         with the reason.\n",
    );
    for (title, faults) in GROUPS {
        write!(
            text,
            "\n## {title}\n\n| | fault | what happens | shown by |\n| --- | --- | --- | --- |\n"
        )?;
        for fault in faults {
            let Fault {
                id, what, answer, ..
            } = fault;
            writeln!(
                text,
                "| {id} | {what} | {answer} | {} |",
                fault.evidence(&shows)
            )?;
        }
    }
    write_plants(&mut text)?;
    Ok(text)
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

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn the_document_says_what_the_tags_say() -> anyhow::Result<()> {
        let written = std::fs::read_to_string(root().join("docs/guarantee.md"))?;
        assert!(
            written == document(&root().join("features"))?,
            "docs/guarantee.md is stale: cargo test --workspace --test acceptance -- --guarantee > docs/guarantee.md"
        );
        Ok(())
    }
}

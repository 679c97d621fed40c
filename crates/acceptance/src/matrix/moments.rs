//! Coverage of the moments at which a process can be told to die, n of n: each one that the sources name, in each
//! service that comes to it, alone and beside another process, back at once and after a while.
//!
//! Not here: what such a death must leave (the features).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cucumber::gherkin::Scenario;

/// `SERVICE MOMENT, COMPANY, RETURN`, as a failure names it.
pub(crate) type Cells = BTreeSet<String>;

const ALONE: &str = "alone";
const BESIDE: &str = "beside another one";
const AT_ONCE: &str = "back at once";
const LATER: &str = "back after a while";

/// Where the moments are, and which services come to them.
const ROOMS: [(&str, &[&str]); 3] = [
    ("postbox", &["Orders", "Payments"]),
    ("orders", &["Orders"]),
    ("payments", &["Payments"]),
];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The moments that the sources of a folder name.
fn moments(sources: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(sources)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(moments(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path)?;
            let named = text.split("moment(\"").skip(1);
            found.extend(named.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    Ok(found)
}

/// The whole product.
///
/// # Errors
/// If the sources cannot be read.
pub(crate) fn wanted() -> anyhow::Result<Cells> {
    let mut cells = Cells::new();
    for (room, services) in ROOMS {
        for moment in moments(&root().join("crates").join(room).join("src"))? {
            for service in services {
                for company in [ALONE, BESIDE] {
                    for back in [AT_ONCE, LATER] {
                        cells.insert(cell(service, &moment, company, back));
                    }
                }
            }
        }
    }
    Ok(cells)
}

fn cell(service: &str, moment: &str, company: &str, back: &str) -> String {
    format!("{service} {moment}, {company}, {back}")
}

/// What one scenario shows. Only a death that is seen counts, and a return that follows it.
pub(crate) fn shown(scenario: &Scenario) -> Cells {
    let mut cells = Cells::new();
    // Of each service: where it is to die, where it has died, and whether a second process runs.
    let mut told: BTreeMap<&str, &str> = BTreeMap::new();
    let mut dead: BTreeMap<&str, &str> = BTreeMap::new();
    let mut company: BTreeSet<&str> = BTreeSet::new();
    for step in scenario.steps.iter().map(|step| step.value.as_str()) {
        for service in ["Orders", "Payments"] {
            if step.strip_prefix("the second ") == Some(&format!("{service} is running")) {
                company.insert(service);
            }
            let Some(says) = step.strip_prefix(service).map(str::trim_start) else {
                continue;
            };
            let back = match says {
                "is dead" => {
                    dead.extend(told.remove_entry(service));
                    continue;
                }
                "comes back at once" | "starts again" => AT_ONCE,
                "comes back after a while" => LATER,
                told_to if told_to.starts_with("will die ") => {
                    told.extend(told_to.split('"').nth(1).map(|moment| (service, moment)));
                    continue;
                }
                _ => continue,
            };
            let beside = match company.contains(service) {
                true => BESIDE,
                false => ALONE,
            };
            cells.extend(
                dead.remove(service)
                    .map(|moment| cell(service, moment, beside, back)),
            );
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use cucumber::feature::Ext as _;
    use cucumber::gherkin::{Feature, GherkinEnv};

    use super::*;

    fn all_shown() -> anyhow::Result<Cells> {
        let path = root().join("features/crash_at_every_moment.feature");
        let feature = Feature::parse_path(path, GherkinEnv::default())?.expand_examples()?;
        Ok(feature.scenarios.iter().flat_map(shown).collect())
    }

    #[test]
    fn each_moment_has_a_death_of_each_kind() -> anyhow::Result<()> {
        let (wanted, shown) = (wanted()?, all_shown()?);
        let missing: Vec<&String> = wanted.difference(&shown).collect();
        assert!(missing.is_empty(), "nobody dies at {missing:#?}");
        let unknown: Vec<&String> = shown.difference(&wanted).collect();
        assert!(unknown.is_empty(), "there is no such moment: {unknown:#?}");
        assert!(
            wanted.len() >= 140,
            "the moments are not where they were: {wanted:?}"
        );
        Ok(())
    }
}

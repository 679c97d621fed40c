//! Planted faults: mistakes of the kind that lose or double money, each in the product behind a name, and the scenario
//! that catches it. A suite that stays green with one of them in it would prove nothing.
//!
//! The services have all of them compiled in (`crates/postbox/src/failpoints.rs`) and at most one switched on.
//!
//! Not here: the mistakes themselves (`planted("...")` in the product); how scenarios are run.

mod faults;
mod parser;

use anyhow::{Context, ensure};

pub(crate) use faults::PLANTS;
pub(crate) use parser::Sown;

use crate::process::Service;

/// One planted fault.
#[derive(Debug)]
pub(crate) struct Plant {
    /// As the product asks for it.
    pub(crate) name: &'static str,
    /// What of the database would hide it, and is taken away.
    pub(crate) hidden_by: &'static [(Service, &'static str)],
    /// The scenario that fails because of it; the first one of that name.
    pub(crate) scenario: &'static str,
    /// What the failure says.
    pub(crate) says: &'static str,
}

/// What a scenario is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soil {
    /// The fault, and what would hide it taken away: the scenario must fail.
    Planted(&'static Plant),
    /// What would hide the fault taken away, and no fault: the scenario must pass.
    Bare(&'static Plant),
}

impl PartialEq for Plant {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Plant {}

impl Soil {
    pub(crate) fn plant(self) -> &'static Plant {
        match self {
            Self::Planted(plant) | Self::Bare(plant) => plant,
        }
    }

    /// The tag under which the runner finds it again.
    fn tag(self) -> String {
        match self {
            Self::Planted(plant) => format!("planted:{}", plant.name),
            Self::Bare(plant) => format!("bare:{}", plant.name),
        }
    }

    /// Read back from a scenario's tags.
    pub(crate) fn of(tags: &[String]) -> Option<Self> {
        PLANTS
            .iter()
            .flat_map(|plant| [Self::Planted(plant), Self::Bare(plant)])
            .find(|soil| tags.contains(&soil.tag()))
    }

    /// What a service says when it comes to the fault.
    pub(crate) fn mark(self) -> String {
        format!("has the fault {}, as told", self.plant().name)
    }

    /// What became of it, in a word and a sentence: `Ok` if it did what it must. `was_met`: whether a service has
    /// come to the fault.
    pub(crate) fn judge(self, failure: Option<&str>, was_met: bool) -> Result<String, String> {
        match (self, failure) {
            (Self::Planted(plant), _) if !was_met => Err(format!(
                "planted {}: no service came to it in {:?}",
                plant.name, plant.scenario
            )),
            (Self::Planted(plant), Some(failure)) if failure.contains(plant.says) => Ok(format!(
                "planted {}: caught by {:?}",
                plant.name, plant.scenario
            )),
            (Self::Planted(plant), Some(failure)) => Err(format!(
                "planted {}: {:?} failed, but for another reason than {:?}: {failure}",
                plant.name, plant.scenario, plant.says
            )),
            (Self::Planted(plant), None) => Err(format!(
                "planted {}: NOT caught by {:?}",
                plant.name, plant.scenario
            )),
            (Self::Bare(plant), None) => Ok(format!(
                "without {}: {:?} passes with {} constraints less",
                plant.name,
                plant.scenario,
                plant.hidden_by.len()
            )),
            (Self::Bare(plant), Some(failure)) => Err(format!(
                "without {}: {:?} fails all the same: {failure}",
                plant.name, plant.scenario
            )),
        }
    }
}

/// The plants that are asked for: `all`, or names with commas between them.
///
/// # Errors
/// A name that is none.
pub(crate) fn select(names: &str) -> anyhow::Result<Vec<&'static Plant>> {
    if names == "all" {
        return Ok(PLANTS.iter().collect());
    }
    names
        .split(',')
        .map(|name| {
            let plant = PLANTS.iter().find(|plant| plant.name == name);
            plant.with_context(|| format!("no planted fault is called {name}"))
        })
        .collect()
}

/// Each plant, and each one without it where something is taken away for it.
pub(crate) fn soils(plants: &[&'static Plant]) -> Vec<Soil> {
    let bare = plants.iter().filter(|plant| !plant.hidden_by.is_empty());
    let planted = plants.iter().map(|plant| Soil::Planted(plant));
    planted.chain(bare.map(|plant| Soil::Bare(plant))).collect()
}

/// All soils must have been tried: a scenario that is renamed must not let its plants vanish.
///
/// # Errors
/// Those that were not.
pub(crate) fn ensure_all_tried(wanted: &[Soil], tried: &[Soil]) -> anyhow::Result<()> {
    let missing: Vec<String> = wanted
        .iter()
        .filter(|soil| !tried.contains(soil))
        .map(|soil| format!("{} ({:?})", soil.tag(), soil.plant().scenario))
        .collect();
    ensure!(
        missing.is_empty(),
        "no scenario was run for {}",
        missing.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use cucumber::Parser as _;
    use futures::StreamExt as _;

    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    fn collect(folder: &Path, names: &mut BTreeSet<String>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                collect(&path, names)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path)?;
                let rest = text.split("planted(\"").skip(1);
                names.extend(rest.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
            }
        }
        Ok(())
    }

    /// Coverage, n of n: a fault in the product that no scenario catches, or one here that is nowhere planted.
    #[test]
    fn each_planted_fault_of_the_product_has_its_scenario() -> anyhow::Result<()> {
        let mut in_the_product = BTreeSet::new();
        for room in ["postbox", "orders", "payments"] {
            collect(
                &root().join("crates").join(room).join("src"),
                &mut in_the_product,
            )?;
        }
        let here: BTreeSet<String> = PLANTS.iter().map(|plant| plant.name.to_owned()).collect();
        assert_eq!(here, in_the_product);
        assert!(here.len() >= 20, "{} planted faults", here.len());
        Ok(())
    }

    /// Renamed, it would no longer be found when the faults are tried.
    #[test]
    fn each_scenario_is_in_the_features() {
        let wanted = soils(&PLANTS.iter().collect::<Vec<_>>());
        let features = Sown(wanted.clone()).parse(root().join("features"), Default::default());
        let features: Vec<_> = futures::executor::block_on(features.collect());
        let found: Vec<Soil> = features
            .iter()
            .flatten()
            .flat_map(|feature| feature.scenarios.iter())
            .filter_map(|scenario| Soil::of(&scenario.tags))
            .collect();
        assert_eq!(found.len(), wanted.len());
        assert!(ensure_all_tried(&wanted, &found).is_ok());
    }

    #[test]
    fn a_failure_for_another_reason_catches_nothing() {
        let plant = &PLANTS[0];
        let (planted, bare) = (Soil::Planted(plant), Soil::Bare(plant));
        assert!(planted.judge(Some(plant.says), true).is_ok());
        assert!(planted.judge(Some(plant.says), false).is_err());
        assert!(planted.judge(Some("the broker is on fire"), true).is_err());
        assert!(planted.judge(None, true).is_err());
        assert!(bare.judge(Some(plant.says), false).is_err());
        assert!(bare.judge(None, false).is_ok());
    }

    #[test]
    fn a_plant_whose_scenario_is_gone_is_told() {
        let soils = soils(&[&PLANTS[0], &PLANTS[1]]);
        assert!(ensure_all_tried(&soils, &soils).is_ok());
        assert!(ensure_all_tried(&soils, &soils[1..]).is_err());
    }
}

//! Reads the features and keeps of them, once for each planted fault, the scenario that must catch it.

use std::path::Path;

use cucumber::gherkin::{Feature, Scenario};
use cucumber::parser::{self, Basic, Parser};
use futures::StreamExt as _;
use futures::stream::LocalBoxStream;

use super::Soil;

/// The soils in which scenarios are to be run.
pub(crate) struct Sown(pub(crate) Vec<Soil>);

impl<I: AsRef<Path>> Parser<I> for Sown {
    type Cli = parser::basic::Cli;
    type Output = LocalBoxStream<'static, parser::Result<Feature>>;

    fn parse(self, input: I, cli: Self::Cli) -> Self::Output {
        let mut soils = self.0;
        Basic::default()
            .parse(input, cli)
            .map(move |feature| feature.map(|feature| sow(feature, &mut soils)))
            .boxed_local()
    }
}

/// Takes the soils whose scenario is in this feature, so that a second scenario of that name gets none.
fn sow(feature: Feature, soils: &mut Vec<Soil>) -> Feature {
    let mut scenarios = Vec::new();
    for scenario in &feature.scenarios {
        let (here, elsewhere) = soils
            .drain(..)
            .partition(|soil| soil.plant().scenario == scenario.name);
        *soils = elsewhere;
        let here: Vec<Soil> = here;
        scenarios.extend(here.into_iter().map(|soil| in_soil(scenario, soil)));
    }
    Feature {
        scenarios,
        ..feature
    }
}

fn in_soil(scenario: &Scenario, soil: Soil) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.tags.push(soil.tag());
    scenario
}

//! The run in which scenarios must fail: each planted fault is switched on where it is to be caught.
//!
//! Not here: which faults there are, and which scenario catches which.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cucumber::event::ScenarioFinished;
use cucumber::writer::{self, Coloring};
use cucumber::{World as _, WriterExt as _};
use futures::FutureExt as _;

use super::{CucumberOptions, failure_of};
use crate::arguments::Plan;
use crate::check;
use crate::plants::{self, Plant, Soil, Sown};
use crate::world::World;

/// What was run in which soil, and whether that went as it must.
type Tried = Arc<Mutex<Vec<(Soil, bool)>>>;

/// Runs the scenarios that are to catch these faults; true if all do.
///
/// # Errors
/// A fault for which no scenario was run.
pub(super) async fn run(
    plan: Plan,
    planted: &[&'static Plant],
    options: CucumberOptions<writer::basic::Cli>,
) -> anyhow::Result<bool> {
    let soils = plants::soils(planted);
    let tried = Tried::default();
    let noted = Arc::clone(&tried);
    World::cucumber::<PathBuf>()
        .with_parser(Sown(soils.clone()))
        // What it would print are failures, and failures are wanted here.
        .with_writer(
            writer::Basic::raw(io::sink(), Coloring::Never, 0)
                .normalized()
                .summarized(),
        )
        .max_concurrent_scenarios(plan.concurrency)
        .before(|_, _, scenario, world| {
            world.settings.soil = Soil::of(&scenario.tags);
            futures::future::ready(()).boxed_local()
        })
        .after(move |_, _, scenario, finished, world| {
            let soil = Soil::of(&scenario.tags);
            finish(soil, finished, world, Arc::clone(&noted)).boxed_local()
        })
        .fail_on_skipped()
        .with_cli(options)
        .run(plan.features)
        .await;

    let tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<Soil> = tried.iter().map(|(soil, _)| *soil).collect();
    let passed: Vec<Soil> = tried.iter().filter(|t| t.1).map(|t| t.0).collect();
    let is_planted = |soil: &&Soil| matches!(soil, Soil::Planted(_));
    let caught = passed.iter().filter(is_planted).count();
    println!("planted: {caught} of {} caught", planted.len());
    let (passed, failed) = (passed.len(), soils.len() - passed.len());
    println!("acceptance: {passed} passed, {failed} failed");
    plants::ensure_all_tried(&soils, &all)?;
    Ok(failed == 0)
}

/// The end of one scenario: it is judged as any other, and then whether that is the right outcome here.
async fn finish(
    soil: Option<Soil>,
    finished: &ScenarioFinished,
    world: Option<&mut World>,
    tried: Tried,
) {
    let mut failure = failure_of(finished);
    let Some(world) = world else {
        return;
    };
    if failure.is_none() {
        let judged = check::judge_at_rest(world).await;
        failure = judged.err().map(|error| format!("{error:#}"));
    }
    if let Some(soil) = soil {
        let was_met = world
            .stack()
            .is_ok_and(|stack| stack.logs_contain(&soil.mark()));
        let judged = soil.judge(failure.as_deref(), was_met);
        match &judged {
            Ok(text) => println!("{text}"),
            Err(text) => {
                let why = failure.as_deref().unwrap_or_default();
                println!("{text}\n{}", check::describe(world, why).await);
            }
        }
        tried
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((soil, judged.is_ok()));
    }
    if let Err(error) = check::clean_up(world).await {
        println!("cannot clean up: {error:#}");
    }
}

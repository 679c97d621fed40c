//! The run: servers up, features through cucumber with the guards it needs, servers down, one closing line.
//!
//! Not here: steps; what is judged after each scenario.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use cucumber::cli::{Empty, Opts, Parser};
use cucumber::event::ScenarioFinished;
use cucumber::writer::Stats as _;
use cucumber::{World as _, parser, runner, writer};
use futures::FutureExt;
use sandbox::{Backend, Data, Options, Sandbox};

use crate::arguments::{self, Asked, Plan};
use crate::check;
use crate::matrix;
use crate::world::{World, set_sandbox};

/// The whole suite has at least this many scenarios: a misspelt keyword makes them vanish without an error.
const SCENARIOS_MIN: usize = 60;

/// Marks scenarios that are too many for every change.
const EXHAUSTIVE: &str = "exhaustive";

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// For each fault, how many of its scenarios have passed and how many have not.
    faults: BTreeMap<&'static str, (usize, usize)>,
}

/// Runs the suite as the arguments say. The code is 0 when all scenarios that were asked for have passed.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let plan = match arguments::parse(arguments) {
        Ok(Asked::Features(plan)) => plan,
        Ok(Asked::List { listed }) => {
            if listed {
                println!("acceptance: test");
            }
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Others) => {
            println!("acceptance: not asked for");
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Guarantee(features)) => return print(matrix::document(&features)),
        Err(error) => {
            eprintln!("acceptance: {error:#}");
            return ExitCode::from(2);
        }
    };
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")
        .and_then(|runtime| runtime.block_on(run_features(plan)));
    match ran {
        Ok(code) => code,
        Err(error) => {
            eprintln!("acceptance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(document: anyhow::Result<String>) -> ExitCode {
    match document {
        Ok(document) => {
            print!("{document}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("acceptance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_features(plan: Plan) -> anyhow::Result<ExitCode> {
    let backend = plan
        .backend
        .map_or_else(Backend::choose_for_acceptance, Ok)?;
    let (options, scenarios_min) = options(&plan, backend)?;
    let sandbox = Sandbox::start(Options {
        backend,
        data: Data::Temporary,
    })
    .await?;
    println!("acceptance: backend {}", sandbox.describe());
    set_sandbox(Some(Arc::new(sandbox)));

    let tally = Arc::new(Mutex::new(Tally::default()));
    let counted = Arc::clone(&tally);
    let writer = World::cucumber()
        .max_concurrent_scenarios(plan.concurrency)
        .after(move |feature, _, scenario, finished, world| {
            let ran = Ran {
                name: format!("{}: {}", feature.name, scenario.name),
                faults: matrix::faults_of(feature.tags.iter().chain(&scenario.tags)),
            };
            finish(ran, finished, world, Arc::clone(&counted)).boxed_local()
        })
        .fail_on_skipped()
        .with_cli(options)
        .run(plan.features)
        .await;

    let sandbox = set_sandbox(None).and_then(Arc::into_inner);
    sandbox
        .context("a scenario still holds the servers")?
        .stop()
        .await?;
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(close(&tally, scenarios_min, writer.execution_has_failed()))
}

/// A scenario that has run.
struct Ran {
    name: String,
    /// What its tags name.
    faults: Vec<&'static str>,
}

/// The end of one scenario: judged if its steps have passed, explained if not, freed and counted in any case.
async fn finish(
    Ran { name, faults }: Ran,
    finished: &ScenarioFinished,
    world: Option<&mut World>,
    tally: Arc<Mutex<Tally>>,
) {
    let passed = matches!(finished, ScenarioFinished::StepPassed);
    let outcome = match world {
        Some(world) => {
            let judged = if passed {
                check::judge_at_rest(world).await
            } else {
                Ok(())
            };
            if !passed || judged.is_err() {
                eprintln!("=== {name}\n{}===", check::describe(world));
            }
            let cleaned = check::clean_up(world).await.context("cannot clean up");
            judged.and(cleaned)
        }
        None => Ok(()),
    };
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let passed = passed && outcome.is_ok();
    for fault in faults {
        let (good, bad) = tally.faults.entry(fault).or_default();
        *if passed { good } else { bad } += 1;
    }
    if passed {
        tally.passed += 1;
    } else {
        tally.failed.push(name);
    }
    drop(tally);
    // cucumber takes a panic of this hook as the scenario's failure, and knows no other way.
    if let Err(error) = outcome {
        panic!("{error:#}");
    }
}

fn close(tally: &Tally, scenarios_min: usize, cucumber_failed: bool) -> ExitCode {
    for name in &tally.failed {
        println!("failed: {name}");
    }
    for fault in matrix::faults() {
        if let Some((good, bad)) = tally.faults.get(fault.id) {
            println!("fault {}: {good} passed, {bad} failed", fault.id);
        }
    }
    let (passed, failed) = (tally.passed, tally.failed.len());
    let ran = passed + failed;
    let enough = ran >= scenarios_min;
    if !enough {
        println!("{ran} scenarios ran, and there must be at least {scenarios_min}");
    }
    if cucumber_failed && failed == 0 {
        println!("a feature could not be read; see above");
    }
    println!("acceptance: {passed} passed, {failed} failed");
    if enough && failed == 0 && !cucumber_failed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

type CucumberOptions = Opts<parser::basic::Cli, runner::basic::Cli, writer::basic::Cli, Empty>;

/// What cucumber is to be told, and how many scenarios must run.
fn options(plan: &Plan, backend: Backend) -> anyhow::Result<(CucumberOptions, usize)> {
    let mut arguments = vec![String::from("acceptance")];
    let mut tags = plan.tags.clone();
    if backend == Backend::External {
        ensure!(
            plan.name.is_none(),
            "given servers may not be harmed, so select by --tags and not by --name"
        );
        println!(
            "acceptance: the servers are given and may not be harmed: scenarios tagged @serial do not run"
        );
        tags = Some(tags.map_or_else(
            || String::from("not @serial"),
            |tags| format!("({tags}) and not @serial"),
        ));
    }
    let whole = plan.tags.is_none() && plan.name.is_none();
    if whole && !plan.exhaustive {
        tags = Some(match tags {
            Some(tags) => format!("({tags}) and not @{EXHAUSTIVE}"),
            None => format!("not @{EXHAUSTIVE}"),
        });
    }
    if let Some(tags) = &tags {
        arguments.extend([String::from("--tags"), tags.clone()]);
    }
    if let Some(name) = &plan.name {
        arguments.extend([String::from("--name"), name.clone()]);
    }
    let options = Opts::try_parse_from(arguments).context("cannot select scenarios")?;
    Ok((options, if whole { SCENARIOS_MIN } else { 1 }))
}

//! The run: servers up, features through cucumber with the guards it needs, servers down, one closing line.
//!
//! Not here: steps; what is judged after each scenario.

mod planted;
mod time_line;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use cucumber::cli::{Args, Compose, Empty, Opts, Parser};
use cucumber::event::ScenarioFinished;
use cucumber::writer::Stats as _;
use cucumber::{World as _, WriterExt as _, parser, runner, writer};
use futures::FutureExt as _;
use sandbox::{Backend, Data, Options, Sandbox};

use crate::arguments::{self, Asked, Plan};
use crate::check;
use crate::matrix::{self, moments};
use crate::process;
use crate::seed;
use crate::world::{World, set_sandbox};

/// The whole suite has at least this many scenarios: a misspelt keyword makes them vanish without an error.
const SCENARIOS_MIN: usize = 200;

/// Marks scenarios that are too many for every change.
const EXHAUSTIVE: &str = "exhaustive";

/// Marks scenarios that need what only containers have: a broker of three nodes, a small disk.
const CONTAINERS: &str = "containers";

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    /// By name, with the first line of why.
    failed: Vec<(String, String)>,
    /// For each fault, how many of its scenarios have passed and how many have not.
    faults: BTreeMap<&'static str, (usize, usize)>,
    /// For each kind of death, the same; see [`moments`].
    deaths: BTreeMap<String, (usize, usize)>,
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
        Ok(Asked::Guarantee(features)) => {
            return print(matrix::document(&features, Path::new(matrix::OUTCOMES)));
        }
        Err(error) => {
            eprintln!("acceptance: {error:#}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = process::allow_files() {
        eprintln!("acceptance: {error:#}");
        return ExitCode::FAILURE;
    }
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
    println!("acceptance: seed {}", seed::plant(plan.seed));
    match plan.planted.clone() {
        Some(plants) => {
            let (options, _) = options(&plan, backend)?;
            on_servers(backend, planted::run(plan, &plants, options)).await
        }
        None => {
            let (options, scenarios_min) = options(&plan, backend)?;
            let whole = plan.exhaustive && scenarios_min > 1;
            let all_deaths = whole.then(moments::wanted).transpose()?;
            let selected = run_selected(plan, options, backend, scenarios_min, all_deaths);
            on_servers(backend, selected.map(Ok)).await
        }
    }
}

/// Servers up, a run on them, servers down.
async fn on_servers(
    backend: Backend,
    run: impl Future<Output = anyhow::Result<bool>>,
) -> anyhow::Result<ExitCode> {
    let sandbox = Sandbox::start(Options {
        backend,
        data: Data::Temporary,
    })
    .await?;
    println!("acceptance: backend {}", sandbox.describe());
    set_sandbox(Some(Arc::new(sandbox)));
    let ran = run.await;
    let sandbox = set_sandbox(None).and_then(Arc::into_inner);
    sandbox
        .context("a scenario still holds the servers")?
        .stop()
        .await?;
    Ok(match ran? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

type WriterOptions = Compose<writer::basic::Cli, Empty>;

async fn run_selected(
    plan: Plan,
    options: CucumberOptions<WriterOptions>,
    backend: Backend,
    scenarios_min: usize,
    all_deaths: Option<moments::Cells>,
) -> bool {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let counted = Arc::clone(&tally);
    let time_lines = time_line::TimeLines::default().assert_normalized();
    let writer = World::cucumber()
        .with_writer(
            writer::Basic::stdout()
                .summarized()
                .tee::<World, _>(time_lines.discard_stats_writes()),
        )
        .max_concurrent_scenarios(plan.concurrency)
        .after(move |feature, _, scenario, finished, world| {
            let ran = Ran {
                name: format!("{}: {}", feature.name, scenario.name),
                faults: matrix::faults_of(feature.tags.iter().chain(&scenario.tags)),
                deaths: moments::shown(scenario),
            };
            finish(ran, finished, world, Arc::clone(&counted)).boxed_local()
        })
        .fail_on_skipped()
        .with_cli(options)
        .run(plan.features)
        .await;
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    close(
        &tally,
        backend,
        scenarios_min,
        all_deaths.as_ref(),
        writer.execution_has_failed(),
    )
}

/// A scenario that has run.
struct Ran {
    name: String,
    /// What its tags name.
    faults: Vec<&'static str>,
    /// What deaths its steps name.
    deaths: moments::Cells,
}

/// The end of one scenario: judged if its steps have passed, explained if not, freed and counted in any case.
async fn finish(
    ran: Ran,
    finished: &ScenarioFinished,
    world: Option<&mut World>,
    tally: Arc<Mutex<Tally>>,
) {
    let step = failure_of(finished);
    let outcome = match world {
        Some(world) => {
            let judged = match step.is_none() {
                true => check::judge_at_rest(world).await,
                false => Ok(()),
            };
            if let Some(failure) = step.clone().or_else(|| reason(&judged)) {
                eprintln!(
                    "=== {}\n{}===",
                    ran.name,
                    check::describe(world, &failure).await
                );
            }
            let cleaned = check::clean_up(world).await.context("cannot clean up");
            judged.and(cleaned)
        }
        None => Ok(()),
    };
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let why = step.or_else(|| reason(&outcome));
    let passed = why.is_none();
    let count = |(good, bad): &mut (usize, usize)| *if passed { good } else { bad } += 1;
    for fault in ran.faults {
        count(tally.faults.entry(fault).or_default());
    }
    for death in ran.deaths {
        count(tally.deaths.entry(death).or_default());
    }
    match why {
        None => tally.passed += 1,
        Some(why) => {
            let first = why.lines().next().unwrap_or_default();
            tally.failed.push((ran.name, first.to_owned()));
        }
    }
    drop(tally);
    // cucumber takes a panic of this hook as the scenario's failure, and knows no other way.
    if let Err(error) = outcome {
        panic!("{error:#}");
    }
}

fn reason(outcome: &anyhow::Result<()>) -> Option<String> {
    outcome.as_ref().err().map(|error| format!("{error:#}"))
}

/// Why a scenario's steps have not all passed.
fn failure_of(finished: &ScenarioFinished) -> Option<String> {
    match finished {
        ScenarioFinished::StepPassed => None,
        ScenarioFinished::StepFailed(_, _, error) => Some(error.to_string()),
        ScenarioFinished::StepSkipped => Some("a step is not there".to_owned()),
        ScenarioFinished::BeforeHookFailed(_) => Some("it did not begin".to_owned()),
    }
}

fn close(
    tally: &Tally,
    backend: Backend,
    scenarios_min: usize,
    all_deaths: Option<&moments::Cells>,
    cucumber_failed: bool,
) -> bool {
    for fault in matrix::faults() {
        if let Some((good, bad)) = tally.faults.get(fault.id) {
            println!(
                "fault {} on {backend}: {good} passed, {bad} failed",
                fault.id
            );
        } else if let (true, Some(text)) = (scenarios_min > 1, fault.elsewhere()) {
            println!("fault {}: {text}", fault.id);
        }
    }
    let all_survived = close_deaths(&tally.deaths, all_deaths);
    let (passed, failed) = (tally.passed, tally.failed.len());
    let ran = passed + failed;
    let enough = ran >= scenarios_min;
    if !enough {
        println!("{ran} scenarios ran, and there must be at least {scenarios_min}");
    }
    if cucumber_failed && failed == 0 {
        println!("a feature could not be read; see above");
    }
    // Last, since the end of a log is what is kept and looked at first.
    for (name, why) in &tally.failed {
        println!("failed: {name}: {why}");
    }
    println!("acceptance: {passed} passed, {failed} failed");
    enough && failed == 0 && !cucumber_failed && all_survived
}

/// Says how many of the deaths that there are were survived, or of those that were asked for.
fn close_deaths(ran: &BTreeMap<String, (usize, usize)>, all: Option<&moments::Cells>) -> bool {
    let survived = |death: &&String| ran.get(*death).is_some_and(|(_, bad)| *bad == 0);
    let Some(all) = all else {
        if !ran.is_empty() {
            let survived = ran.keys().filter(survived).count();
            println!("crash moments: {survived} of {} survived", ran.len());
        }
        return true;
    };
    let survived = all.iter().filter(survived).count();
    for missing in all.iter().filter(|death| !ran.contains_key(*death)) {
        println!("nobody died: {missing}");
    }
    println!("crash moments: {survived} of {} survived", all.len());
    survived == all.len()
}

/// With those of the writer.
type CucumberOptions<W> = Opts<parser::basic::Cli, runner::basic::Cli, W, Empty>;

/// What cucumber is to be told, and how many scenarios must run.
fn options<W: Args>(plan: &Plan, backend: Backend) -> anyhow::Result<(CucumberOptions<W>, usize)> {
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
        tags = Some(and_not(tags, "serial"));
    }
    if backend == Backend::Local && plan.name.is_none() {
        println!(
            "acceptance: the servers are processes, and a broker of three nodes or a small disk needs containers \
             (--backend docker): scenarios tagged @{CONTAINERS} do not run"
        );
        tags = Some(and_not(tags, CONTAINERS));
    }
    let whole = plan.tags.is_none() && plan.name.is_none() && plan.planted.is_none();
    if whole && !plan.exhaustive {
        tags = Some(and_not(tags, EXHAUSTIVE));
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

/// A tag expression without the scenarios of one more tag.
fn and_not(tags: Option<String>, tag: &str) -> String {
    tags.map_or_else(
        || format!("not @{tag}"),
        |tags| format!("({tags}) and not @{tag}"),
    )
}

//! `paidonce demo`: the story in a minute, and the proof at its end.

use std::time::Duration;

use anyhow::{Context, ensure};
use chassis::ports::BindError;
use prover::client::Client;
use prover::duplicator::{Copies, CopyId, Duplicator};
use prover::eventually::eventually;
use prover::load::{self, Length, LoadResult, Pace, Plan, Progress};
use prover::quiescence::{in_flight, until_at_rest};
use prover::{At, Databases, Seen, judge};
use sandbox::{Data, Sandbox};

use crate::cli::DemoArgs;
use crate::services::on_signal;
use crate::system::{self, System};
use crate::tell::{self, Story};
use crate::up;

const USERS: u32 = 15;
const POOR_USERS: u32 = 5;
const ORDERS: u64 = 200;
/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(5);
/// Load before, during and after the outage.
const LOAD: Duration = Duration::from_secs(12);
const RATE: u32 = 40;
/// A system that has not come to rest by then has lost something.
const SETTLE: Duration = Duration::from_secs(90);

/// What the steps share.
struct Stage {
    sandbox: Sandbox,
    system: System,
    client: Client,
    databases: Databases,
    seen: Seen,
}

pub(crate) async fn demo(args: DemoArgs) -> anyhow::Result<bool> {
    chassis::telemetry::init_quiet();
    let stop = on_signal()?;
    let mut story = Story::of(5);
    let set = stop.run_until_cancelled(set(&mut story)).await;
    let mut stage = set.context("stopped before it began")??;
    let told = tokio::select! {
        told = tell_story(&mut story, &mut stage) => told,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped before the end")),
    };
    if let Err(error) = &told {
        eprintln!("      ✗ {error:#}");
    }
    if args.keep {
        up::print_addresses(&stage.system, Some(&stage.sandbox));
        stop.cancelled().await;
    }
    stage.system.stop().await?;
    stage.sandbox.stop().await?;
    Ok(told.unwrap_or(false))
}

async fn tell_story(story: &mut Story, stage: &mut Stage) -> anyhow::Result<bool> {
    let duplicator = start_duplicator(stage).await?;
    orders_with_duplicates(story, stage, &duplicator).await?;
    outage(story, stage).await?;
    let copies = drain(story, stage, duplicator).await?;
    prove(story, stage, copies).await
}

/// Servers, services, readiness.
async fn set(story: &mut Story) -> anyhow::Result<Stage> {
    story.step("a private PostgreSQL and RabbitMQ, and the three services");
    let (sandbox, _) = system::private_servers(Data::Temporary).await?;
    let mut system = System::start(system::vars_of(&sandbox)).await;
    if system.as_ref().is_err_and(|error| error.is::<BindError>()) {
        story.note("the usual ports are taken; using free ones");
        let mut vars = system::vars_of(&sandbox);
        system::take_free_ports(&mut vars);
        system = System::start(vars).await;
    }
    let system = system?;
    until_ready(&system).await?;
    story.shown(format!("{}, API at {}", sandbox.describe(), system.url()));
    Ok(Stage {
        client: Client::new(&system.url())?,
        databases: system::databases(&sandbox)?,
        seen: Seen::default(),
        sandbox,
        system,
    })
}

/// Waits until both services have their database, their relay and their consumer.
async fn until_ready(system: &System) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    for service in ["orders", "payments"] {
        let ops = system.ops(service).context("no ops port")?;
        let url = format!("{}/health/ready", system::url(ops));
        eventually(
            Duration::from_secs(60),
            &format!("{service} is ready"),
            || async {
                let response = http
                    .get(&url)
                    .send()
                    .await
                    .map_err(|error| error.to_string())?;
                if response.status().is_success() {
                    return Ok(());
                }
                Err(response.text().await.unwrap_or_default())
            },
        )
        .await?;
    }
    Ok(())
}

/// A queue of our own on the exchange sends each message to its destination once more.
async fn start_duplicator(stage: &Stage) -> anyhow::Result<Duplicator> {
    let rabbitmq = &stage.sandbox.rabbitmq;
    Ok(Duplicator::start(&rabbitmq.url("/"), CopyId::Same).await?)
}

async fn orders_with_duplicates(
    story: &mut Story,
    stage: &mut Stage,
    duplicator: &Duplicator,
) -> anyhow::Result<()> {
    story.step(&format!(
        "{USERS} users with money, {POOR_USERS} without, {ORDERS} orders, every message sent twice"
    ));
    let plan = Plan {
        pace: Pace::Closed { clients: 8 },
        length: Length::Orders(ORDERS),
        ..story_plan()
    };
    let result = run(stage, &plan, ORDERS).await?;
    story.note(format!(
        "{} accepted: {} FINISHED, {} CANCELLED",
        result.accepted, result.finished, result.cancelled
    ));
    ensure!(
        result.accepted == ORDERS,
        "{} of {ORDERS} orders were accepted",
        result.accepted
    );
    ensure!(
        result.cancelled > 0 && result.finished > 0,
        "both outcomes must be seen"
    );
    let messages = 2 * ORDERS;
    let copies = eventually(
        Duration::from_secs(30),
        "each message was sent twice",
        || async {
            let copies = duplicator.copies();
            let sent = copies.requests + copies.results;
            if sent >= messages {
                Ok(sent)
            } else {
                Err(format!("{sent} copies"))
            }
        },
    )
    .await?;
    story.shown(format!("{copies} copies of {messages} messages"));
    Ok(())
}

/// Kills the broker in the middle of load; orders go on being accepted.
async fn outage(story: &mut Story, stage: &mut Stage) -> anyhow::Result<()> {
    story.step(&format!(
        "the broker is killed for {} s under load",
        OUTAGE.as_secs()
    ));
    let plan = Plan {
        pace: Pace::Open {
            per_second: RATE,
            in_flight_max: 200,
        },
        length: Length::For(LOAD),
        settle_within: SETTLE,
        ..story_plan()
    };
    let (client, databases) = (stage.client.clone(), stage.databases.clone());
    let progress = Progress::default();
    let load = tokio::spawn({
        let (plan, progress) = (plan, progress.clone());
        async move { load::run(&client, &plan, None, &progress).await }
    });
    eventually(Duration::from_secs(30), "orders are under way", || async {
        let accepted = progress.accepted();
        if accepted >= u64::from(RATE) {
            Ok(())
        } else {
            Err(format!("{accepted} accepted"))
        }
    })
    .await?;
    stage.sandbox.rabbitmq.kill().await?;
    let killed = tokio::time::Instant::now();
    let before = progress.accepted();
    tokio::time::sleep_until(killed + OUTAGE).await;
    let unsent = in_flight(&databases).await?.unsent_by_orders;
    let accepted = progress.accepted() - before;
    ensure!(
        unsent > 0,
        "no outage was felt: nothing waits in the outbox"
    );
    ensure!(
        accepted > 0,
        "no order was accepted while the broker was away"
    );
    story.note(format!(
        "meanwhile {accepted} orders were accepted, {unsent} messages wait in the outbox"
    ));
    stage.sandbox.rabbitmq.start().await?;
    let result = load.await.context("the load broke")??;
    ensure!(
        result.failed() == 0,
        "{} requests failed: {:?}",
        result.failed(),
        result.failures
    );
    ensure!(
        result.unsettled == 0,
        "{} orders stay NEW",
        result.unsettled
    );
    ensure!(
        result.misjudged == 0,
        "{} orders ended as they must not",
        result.misjudged
    );
    story.shown(format!(
        "{} orders in all, none refused, none lost",
        result.accepted
    ));
    stage.seen.join(result.seen);
    Ok(())
}

async fn drain(story: &mut Story, stage: &Stage, duplicator: Duplicator) -> anyhow::Result<Copies> {
    story.step("everything drains");
    let took = until_at_rest(&stage.databases, SETTLE).await?;
    let copies = duplicator.stop().await?;
    story.shown(format!("at rest after {:.1} s", took.as_secs_f32()));
    Ok(copies)
}

async fn prove(story: &mut Story, stage: &Stage, copies: Copies) -> anyhow::Result<bool> {
    story.step("verify: every rule that two databases can decide");
    let report = judge(&stage.databases, At::Rest, Some(&stage.seen)).await?;
    println!("{}", report.to_table());
    story.note(format!(
        "{} acknowledged orders; {} copies of requests and {} of results changed nothing",
        stage.seen.acknowledged_count(),
        copies.requests,
        copies.results
    ));
    if report.holds() {
        story.shown("paid once, each of them");
    }
    Ok(report.holds())
}

fn story_plan() -> Plan {
    Plan {
        users: USERS,
        users_without_money: POOR_USERS,
        ..Plan::default()
    }
}

async fn run(stage: &mut Stage, plan: &Plan, orders: u64) -> anyhow::Result<LoadResult> {
    let progress = Progress::default();
    let load = load::run(&stage.client, plan, None, &progress);
    let mut result = tell::watched(&tell::bar(orders), || progress.settled(), load).await?;
    stage.seen.join(std::mem::take(&mut result.seen));
    Ok(result)
}

//! Services that die at a named moment of their work: between two effects, where nothing but the design saves them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cucumber::{given, then, when};

use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::{Instance, Service};
use crate::seed;
use crate::steps::contention::until_the_queue;
use crate::steps::services::a_service_starts_again;
use crate::world::World;

/// Long enough that heartbeats and retries of the others have noticed; leases last longer.
const A_WHILE: Duration = Duration::from_secs(5);

#[given(expr = "{service} will die when it comes to {string}")]
#[when(expr = "{service} will die when it comes to {string}")]
async fn will_die(world: &mut World, service: Which, moment: String) -> Step {
    let stack = world.prepare().await?;
    stack.tell_once(service.0, "PAIDONCE_DIES_AT", moment);
    Ok(())
}

/// Late enough that orders are under way before (as many as the step `orders keep coming in` waits for), soon enough that
/// every moment is come to so often within seconds.
#[given(expr = "{service} will die at one of the times it comes to {string}")]
async fn will_die_some_time(world: &mut World, service: Which, moment: String) -> Step {
    let count = seed::pick(&format!("{} {moment}", service.0), 30..=70);
    let moment = format!("{moment}:{count}");
    let stack = world.prepare().await?;
    stack.tell_once(service.0, "PAIDONCE_DIES_AT", moment);
    Ok(())
}

/// As above.
#[given(expr = "{service} will freeze at one of the times it comes to {string}")]
async fn will_freeze_some_time(world: &mut World, service: Which, moment: String) -> Step {
    let count = seed::pick(&format!("{} {moment}", service.0), 30..=70);
    let stack = world.prepare().await?;
    stack.tell_once(
        service.0,
        "PAIDONCE_FREEZES_AT",
        format!("{moment}:{count}"),
    );
    Ok(())
}

/// Nobody else consumes yet, so what is delivered and not acknowledged is with it.
#[then("Payments is frozen with requests in its hands, alone")]
async fn is_frozen_with_requests(world: &mut World) -> Step {
    let payments = Service::Payments.first();
    let stack = world.stack_mut()?;
    let second = Instance {
        number: 2,
        ..payments
    };
    require!(!stack.runs(second), "the requests may be with the second");
    stack.process(payments)?.froze().await?;
    Ok(until_the_queue(world, |depth| depth.unacked > 0).await?)
}

/// Only the death that was asked for counts: a process that ended otherwise has shown nothing.
#[then(expr = "{service} is dead")]
async fn is_dead(world: &mut World, service: Which) -> Step {
    Ok(world.stack_mut()?.take(service.0)?.died().await?)
}

#[when(expr = "{service} comes back after a while")]
async fn comes_back_after_a_while(world: &mut World, service: Which) -> Step {
    require!(!world.stack()?.runs(service.0), "{} runs", service.0);
    let since = Instant::now();
    within(A_WHILE * 2, "a while has passed", || async move {
        ensure!(since.elapsed() >= A_WHILE, "{:?} so far", since.elapsed());
        Ok(())
    })
    .await?;
    a_service_starts_again(world, service).await
}

#[given(expr = "{service} will panic {int} time(s) when it comes to {string}")]
async fn will_panic(world: &mut World, service: Which, times: u32, moment: String) -> Step {
    let at = format!("{moment}:{times}");
    let stack = world.prepare().await?;
    stack.tell_once(service.0, "PAIDONCE_PANICS_AT", at);
    Ok(())
}

#[then(expr = "{service} has panicked {int} time(s), and goes on")]
async fn has_panicked(world: &mut World, service: Which, times: usize) -> Step {
    // What is asked for before may be done while the part that panics has not come so far.
    until_it_panicked(world, service, times).await?;
    Ok(world.stack_mut()?.process(service.0)?.ensure_alive()?)
}

/// With an exit code that has a supervisor start it again; a panic of the process itself would be another one.
#[then(expr = "{service} has given up after {int} panics")]
async fn has_given_up(world: &mut World, service: Which, times: usize) -> Step {
    let status = world.stack_mut()?.take(service.0)?.ended().await?;
    require!(
        status.code() == Some(1),
        "{} ended with {status}",
        service.0
    );
    Ok(until_it_panicked(world, service, times).await?)
}

async fn until_it_panicked(world: &World, service: Which, times: usize) -> anyhow::Result<()> {
    let path = &world.stack()?.log(service.0);
    eventually("it panics", || async move {
        let log = std::fs::read_to_string(path).context("cannot read a log")?;
        let panics = log.matches("to panic, as told").count();
        ensure!(panics == times, "it has panicked {panics} times");
        Ok(())
    })
    .await
}

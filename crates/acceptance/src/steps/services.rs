//! Services that start, are killed, and are asked to stop.

use std::time::Duration;

use anyhow::{Context, ensure};
use cucumber::{given, then, when};
use prover::quiescence;

use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::Instance;
use crate::world::World;

/// How long an orderly stop may take (fault E1).
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How often an open order is asked for, where a scenario is about that.
const SOON: &str = "2s";

#[given("the system is running")]
async fn the_system_is_running(world: &mut World) -> Step {
    Ok(world.prepare().await?.start_all().await?)
}

#[given("nothing of the system is running")]
async fn nothing_is_running(world: &mut World) -> Step {
    world.prepare().await?;
    Ok(())
}

#[given("Orders asks again soon for what stays open")]
async fn orders_asks_again_soon(world: &mut World) -> Step {
    world.settings_mut()?.redrive_after = SOON;
    Ok(())
}

#[given(expr = "{service} starts")]
#[when(expr = "{service} starts")]
async fn a_service_starts(world: &mut World, service: Which) -> Step {
    Ok(world.prepare().await?.start(service.0).await?)
}

#[given(expr = "{service} is running")]
async fn a_service_is_running(world: &mut World, service: Which) -> Step {
    let stack = world.stack_mut()?;
    stack.start(service.0).await?;
    Ok(stack.until_ready(service.0).await?)
}

#[when(expr = "{int} {service} processes start at once")]
async fn many_start_at_once(world: &mut World, count: u8, service: Which) -> Step {
    let stack = world.prepare().await?;
    for number in 1..=count {
        stack
            .start(Instance {
                number,
                ..service.0
            })
            .await?;
    }
    Ok(())
}

#[then(expr = "all {int} {service} processes are ready")]
async fn all_are_ready(world: &mut World, count: u8, service: Which) -> Step {
    let stack = world.stack_mut()?;
    for number in 1..=count {
        stack
            .until_ready(Instance {
                number,
                ..service.0
            })
            .await?;
    }
    Ok(())
}

#[when(expr = "{service} is frozen")]
async fn a_service_is_frozen(world: &mut World, service: Which) -> Step {
    Ok(world.stack_mut()?.process(service.0)?.freeze().await?)
}

#[when(expr = "{service} is frozen while orders are under way")]
async fn a_service_is_frozen_in_mid_flight(world: &mut World, service: Which) -> Step {
    until_orders_are_under_way(world).await?;
    Ok(world.stack_mut()?.process(service.0)?.freeze().await?)
}

#[when(expr = "{service} is thawed")]
async fn a_service_is_thawed(world: &mut World, service: Which) -> Step {
    let stack = world.stack_mut()?;
    stack.process(service.0)?.thaw()?;
    Ok(stack.until_ready(service.0).await?)
}

#[when(expr = "{service} starts again")]
#[when(expr = "{service} comes back at once")]
pub(crate) async fn a_service_starts_again(world: &mut World, service: Which) -> Step {
    let stack = world.stack_mut()?;
    stack.start(service.0).await?;
    Ok(stack.until_ready(service.0).await?)
}

#[given("every service is ready")]
#[then("every service is ready")]
async fn every_service_is_ready(world: &mut World) -> Step {
    let stack = world.stack_mut()?;
    for service in crate::process::Service::ALL {
        stack.until_ready(service.first()).await?;
    }
    Ok(())
}

#[given(expr = "{service} is down")]
#[when(expr = "{service} is killed")]
async fn a_service_is_killed(world: &mut World, service: Which) -> Step {
    Ok(world.stack_mut()?.take(service.0)?.kill().await?)
}

#[when(expr = "{service} is killed while orders are under way")]
async fn a_service_is_killed_in_mid_flight(world: &mut World, service: Which) -> Step {
    let process = world.stack_mut()?.take(service.0)?;
    until_orders_are_under_way(world).await?;
    Ok(process.kill().await?)
}

#[when(expr = "{service} is asked to stop while orders are under way")]
async fn a_service_is_asked_to_stop(world: &mut World, service: Which) -> Step {
    let process = world.stack_mut()?.take(service.0)?;
    until_orders_are_under_way(world).await?;
    let (status, took) = process.stop(STOPS_WITHIN).await?;
    require!(
        status.success(),
        "{} stopped after {took:?} with {status}",
        service.0
    );
    Ok(())
}

/// Waits for a moment in which at least one order is open.
///
/// # Errors
/// If there is none, or a database does not answer.
pub(crate) async fn until_orders_are_under_way(world: &World) -> anyhow::Result<()> {
    let databases = world.stack()?.databases();
    eventually("orders are under way", || async move {
        let in_flight = quiescence::in_flight(databases).await?;
        ensure!(in_flight.open_orders > 0, "none is open");
        Ok(())
    })
    .await
    .context("there is nothing to disturb")
}

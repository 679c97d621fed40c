//! Services that die at a named moment of their work: between two effects, where nothing but the design saves them.

use std::time::Duration;

use anyhow::ensure;
use cucumber::{given, then, when};

use crate::eventually::within;
use crate::failed::Step;
use crate::parameters::Which;
use crate::world::World;

/// Long enough that leases, heartbeats and retries of the others have noticed.
const A_WHILE: Duration = Duration::from_secs(5);

#[given(expr = "{service} will die when it comes to {string}")]
#[when(expr = "{service} will die when it comes to {string}")]
async fn will_die(world: &mut World, service: Which, moment: String) -> Step {
    world.prepare().await?.dies_at(service.0, moment);
    Ok(())
}

#[given(expr = "{service} will die when it comes to {string} for the {int}th time")]
async fn will_die_later(world: &mut World, service: Which, moment: String, count: u32) -> Step {
    world
        .prepare()
        .await?
        .dies_at(service.0, format!("{moment}:{count}"));
    Ok(())
}

/// Only the death that was asked for counts: a process that ended otherwise has shown nothing.
#[then(expr = "{service} is dead")]
async fn is_dead(world: &mut World, service: Which) -> Step {
    Ok(world.stack_mut()?.take(service.0)?.died().await?)
}

#[when(expr = "{service} has been dead for a while")]
async fn dead_for_a_while(world: &mut World, service: Which) -> Step {
    let since = std::time::Instant::now();
    ensure_down(world, service)?;
    within(A_WHILE * 2, "a while has passed", || async move {
        ensure!(since.elapsed() >= A_WHILE, "{:?} so far", since.elapsed());
        Ok(())
    })
    .await?;
    Ok(())
}

fn ensure_down(world: &World, service: Which) -> anyhow::Result<()> {
    ensure!(!world.stack()?.runs(service.0), "{} runs", service.0);
    Ok(())
}

//! Services that die at a named moment of their work: between two effects, where nothing but the design saves them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cucumber::{given, then, when};

use crate::eventually::within;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::seed;
use crate::steps::services::a_service_starts_again;
use crate::world::World;

/// Long enough that heartbeats and retries of the others have noticed; leases last longer.
const A_WHILE: Duration = Duration::from_secs(5);

#[given(expr = "{service} will die when it comes to {string}")]
#[when(expr = "{service} will die when it comes to {string}")]
async fn will_die(world: &mut World, service: Which, moment: String) -> Step {
    world.prepare().await?.dies_at(service.0, moment);
    Ok(())
}

/// Late enough that orders are under way before (as many as the step `orders keep coming in` waits for), soon enough that
/// every moment is come to so often within seconds.
#[given(expr = "{service} will die at one of the times it comes to {string}")]
async fn will_die_some_time(world: &mut World, service: Which, moment: String) -> Step {
    let count = seed::pick(&format!("{} {moment}", service.0), 30..=70);
    let moment = format!("{moment}:{count}");
    world.prepare().await?.dies_at(service.0, moment);
    Ok(())
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

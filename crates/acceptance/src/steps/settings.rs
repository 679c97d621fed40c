//! What is other than usual about the system of a scenario, said before it starts.

use anyhow::Context as _;
use cucumber::{given, then, when};

use crate::audit;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::Service;
use crate::world::World;

/// Of `crates/postbox/src/failpoints.rs`.
const NEXT_VERSION: &str = "PAIDONCE_NEXT_VERSION";

#[given(expr = "Orders asks again for at most {int} orders at a time")]
async fn at_most_asked_again(world: &mut World, count: u64) -> Step {
    tell(world, Service::Orders, "REDRIVE__WINDOW", count)
}

/// Through the management API, which the broker's own port does not need.
#[given("Orders may ask the broker what it has made of its queues")]
async fn may_ask_the_broker(world: &mut World) -> Step {
    world.settings_mut()?.management = true;
    Ok(())
}

#[given(expr = "each Payments process takes {int} messages at a time")]
async fn messages_at_a_time(world: &mut World, count: u64) -> Step {
    tell(world, Service::Payments, "CONSUMER__PREFETCH", count)
}

fn tell(world: &mut World, service: Service, name: &'static str, value: u64) -> Step {
    let told = &mut world.settings_mut()?.told;
    told.push((service, name, value.to_string()));
    Ok(())
}

/// A build that reads one version more than today's: what is rolled out first, before anybody sends it.
#[given(expr = "{service} reads messages of the version to come")]
#[when(expr = "{service} reads messages of the version to come")]
async fn reads_the_next_version(world: &mut World, service: Which) -> Step {
    let stack = world.prepare().await?;
    stack.tell_once(service.0, NEXT_VERSION, "read".into());
    Ok(())
}

/// The same build, with the new version switched on.
#[given(expr = "{service} sends messages of the version to come")]
async fn sends_the_next_version(world: &mut World, service: Which) -> Step {
    let stack = world.prepare().await?;
    stack.tell_once(service.0, NEXT_VERSION, "sent".into());
    Ok(())
}

#[then(expr = "messages of both versions were sent by {service}")]
async fn both_versions_were_sent(world: &mut World, service: Which) -> Step {
    let mut connection = audit::connect(world.stack()?, service.0.service).await?;
    let versions: Vec<i16> = sqlx::query_scalar(
        "select distinct schema_version from outbox_messages where is_published order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .context("cannot read the outbox")?;
    require!(versions == [1, 2], "{} has sent {versions:?}", service.0);
    Ok(())
}

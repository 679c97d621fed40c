//! The shared servers, harmed and brought back. Scenarios with these sentences are tagged `@serial`.

use std::time::Duration;

use anyhow::ensure;
use cucumber::{given, then, when};
use sandbox::Link;

use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::process::Service;
use crate::steps::services::until_orders_are_under_way;
use crate::world::World;

#[given("the broker is down")]
#[when("the broker is stopped")]
async fn the_broker_is_down(world: &mut World) -> Step {
    world.prepare().await?.sandbox().rabbitmq.stop().await?;
    world.down.broker = true;
    Ok(())
}

#[when("the broker is restarted while orders are under way")]
async fn the_broker_is_restarted(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    let rabbitmq = &world.stack()?.sandbox().rabbitmq;
    rabbitmq.stop().await?;
    world.down.broker = true;
    Ok(())
}

#[when("the broker is killed while orders are under way")]
async fn the_broker_is_killed(world: &mut World) -> Step {
    world.stack()?.until_topology_is_old().await?;
    until_orders_are_under_way(world).await?;
    world.stack()?.sandbox().rabbitmq.kill().await?;
    world.down.broker = true;
    Ok(())
}

#[when("the broker comes back")]
async fn the_broker_comes_back(world: &mut World) -> Step {
    world.stack()?.sandbox().rabbitmq.start().await?;
    world.down.broker = false;
    Ok(())
}

#[given("the databases are down")]
async fn the_databases_are_down(world: &mut World) -> Step {
    world.prepare().await?.sandbox().postgres.stop().await?;
    world.down.databases = true;
    Ok(())
}

#[when("the databases are killed while orders are under way")]
async fn the_databases_are_killed(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    world.stack()?.sandbox().postgres.kill().await?;
    world.down.databases = true;
    Ok(())
}

#[when("the databases are stopped while orders are under way")]
async fn the_databases_are_stopped(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    world.stack()?.sandbox().postgres.stop().await?;
    world.down.databases = true;
    Ok(())
}

#[when("the databases are frozen while orders are under way")]
async fn the_databases_are_frozen(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    world.stack()?.sandbox().postgres.freeze().await?;
    world.down.databases_frozen = true;
    Ok(())
}

#[when("the databases are thawed")]
async fn the_databases_are_thawed(world: &mut World) -> Step {
    world.stack()?.sandbox().postgres.thaw().await?;
    world.down.databases_frozen = false;
    Ok(())
}

#[given("nothing lies between the services and the databases")]
async fn nothing_lies_between(world: &mut World) -> Step {
    world.prepare().await?;
    // Whatever comes of it: the end of the scenario leads new connections the usual way.
    world.down.databases_cut_off = true;
    Ok(world
        .stack()?
        .sandbox()
        .postgres
        .lead_past_the_engine()
        .await?)
}

/// The server does not hear of it: its sessions go on waiting for clients that it cannot reach any more.
#[when("the databases are cut off from everybody while orders are under way")]
async fn the_databases_are_cut_off(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    world.down.databases_cut_off = true;
    world.stack()?.sandbox().postgres.cut_off().await?;
    Ok(both_have(world, &format!("exists {SESSIONS}")).await?)
}

/// Those of the services in one database.
const SESSIONS: &str = "(select from pg_stat_activity where datname = current_database() \
     and application_name ~ '^paidonce-(orders|payments)-')";

#[then(expr = "the databases have given up every session of the services within {int} seconds")]
async fn sessions_are_given_up(world: &mut World, seconds: u64) -> Step {
    let (bound, none) = (
        Duration::from_secs(seconds),
        format!("not exists {SESSIONS}"),
    );
    within(bound, "no session is left", || both_have(world, &none)).await?;
    Ok(())
}

/// Asked within the server, which nobody can reach.
async fn both_have(world: &World, condition: &str) -> anyhow::Result<()> {
    let stack = world.stack()?;
    for service in [Service::Orders, Service::Payments] {
        let database = stack.database_name(service)?;
        stack
            .sandbox()
            .postgres
            .ensure_within(database, condition)
            .await?;
    }
    Ok(())
}

#[when("the databases can be reached again")]
async fn the_databases_can_be_reached(world: &mut World) -> Step {
    world.stack()?.sandbox().postgres.rejoin().await?;
    world.down.databases_cut_off = false;
    Ok(())
}

#[when("the broker is frozen while orders are under way")]
async fn the_broker_is_frozen(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    world.stack()?.sandbox().rabbitmq.freeze().await?;
    world.down.broker_frozen = true;
    Ok(())
}

#[when("the broker is thawed")]
async fn the_broker_is_thawed(world: &mut World) -> Step {
    world.stack()?.sandbox().rabbitmq.thaw().await?;
    world.down.broker_frozen = false;
    Ok(())
}

#[when("the databases come back")]
async fn the_databases_come_back(world: &mut World) -> Step {
    world.stack()?.sandbox().postgres.start().await?;
    world.down.databases = false;
    Ok(())
}

#[when("the broker cannot be reached")]
async fn the_broker_cannot_be_reached(world: &mut World) -> Step {
    let link = world.stack()?.sandbox().rabbitmq.link();
    require!(
        link.open_connections() > 0,
        "nobody is connected to the broker, so nobody would notice"
    );
    link.set_link(Link::Down);
    eventually("the connections to the broker are cut", || async move {
        // Clients that try again are cut off at once, and counted for a moment.
        ensure!(
            link.open_connections() <= 1,
            "{} are open",
            link.open_connections()
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the broker can be reached again")]
async fn the_broker_can_be_reached_again(world: &mut World) -> Step {
    world.stack()?.sandbox().rabbitmq.link().set_link(Link::Up);
    Ok(())
}

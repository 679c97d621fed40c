//! What an administrator, or a fault, does to one scenario's part of the broker.
//!
//! Not here: the broker itself (`faults`), and the ways to it (`ways`).

use anyhow::{Context, ensure};
use contracts::topology::PAYMENT_REQUESTS;
use cucumber::{then, when};
use prover::quiescence;
use serde_json::json;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::steps::services::until_orders_are_under_way;
use crate::world::World;

/// Orders and Payments have one connection to send and one to receive each.
const CONNECTIONS: usize = 4;

#[when("an administrator closes all connections to the broker while orders are under way")]
async fn all_connections_are_closed(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    let stack = world.stack()?;
    // The broker's list of them is a second old.
    let mut closed = 0;
    while closed < CONNECTIONS {
        closed += eventually("connections are open, and are closed", || async move {
            let rabbitmq = &stack.sandbox().rabbitmq;
            let closed = rabbitmq.close_all_connections(stack.vhost()).await?;
            ensure!(closed > 0, "there is none");
            Ok(closed)
        })
        .await?;
    }
    Ok(())
}

#[when(expr = "an administrator lets the oldest requests drop when more than {int} wait")]
async fn the_oldest_drop(world: &mut World, length: u64) -> Step {
    let stack = world.stack()?;
    let policy = json!({
        "pattern": format!("^{}$", PAYMENT_REQUESTS.queue.replace('.', "\\.")),
        "apply-to": "queues",
        "definition": { "max-length": length, "overflow": "drop-head" },
    });
    let path = format!("/api/policies/{}/drop-head", stack.vhost());
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.management("PUT", &path, Some(policy)).await?;
    let queue = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let queue = queue.as_str();
    eventually("the queue has the policy", || async move {
        let queue = rabbitmq.management("GET", queue, None).await?;
        ensure!(queue["policy"] == "drop-head", "it has {}", queue["policy"]);
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "all requests are sent, and no more than {int} are left")]
async fn the_rest_is_gone(world: &mut World, length: u64) -> Step {
    let stack = world.stack()?;
    let orders = world.placed.len() as u64;
    require!(orders > length, "{orders} orders have room in the queue");
    eventually("all are sent", || async move {
        let unsent = quiescence::in_flight(stack.databases())
            .await?
            .unsent_by_orders;
        ensure!(unsent == 0, "{unsent} are not");
        Ok(())
    })
    .await?;
    eventually("most are gone", || async move {
        let rabbitmq = &stack.sandbox().rabbitmq;
        let depth = rabbitmq
            .queue_depth(stack.vhost(), PAYMENT_REQUESTS.queue)
            .await?;
        ensure!((1..=length).contains(&depth.ready), "{depth:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the broker loses all that it had while orders are under way")]
async fn the_broker_is_wiped(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    let stack = world.stack()?;
    let rabbitmq = &stack.sandbox().rabbitmq;
    // For this scenario a new broker on an empty disk is a virtual host that is new and empty.
    rabbitmq.delete_vhost(stack.vhost()).await?;
    rabbitmq.create_vhost(stack.vhost()).await?;
    let queues = format!("/api/queues/{}", stack.vhost());
    let queues = rabbitmq.management("GET", &queues, None).await?;
    let queues = queues.as_array().context("no list of queues")?;
    // Those that are back already have been declared anew.
    let left = queues
        .iter()
        .filter(|queue| queue["messages"].as_u64().unwrap_or(0) > 0)
        .count();
    require!(left == 0, "{left} queues have kept messages");
    Ok(())
}

#[then(expr = "Orders asks again three times, for no more than {int} orders at a time")]
async fn asks_within_its_window(world: &mut World, window: i64) -> Step {
    let stack = world.stack()?;
    let most = std::sync::atomic::AtomicI64::new(0);
    let most = &most;
    eventually("an order was asked for three times", || async move {
        let (asked, times) = audit::asked_again_and_open(stack).await?;
        most.fetch_max(asked, std::sync::atomic::Ordering::Relaxed);
        ensure!(times >= 3, "{times} times, {asked} orders");
        Ok(())
    })
    .await?;
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    require!(
        (1..=window).contains(&most),
        "{most} orders were asked for again at a time"
    );
    Ok(())
}

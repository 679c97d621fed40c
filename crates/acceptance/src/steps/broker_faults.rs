//! What an administrator, or a fault, does to one scenario's part of the broker.
//!
//! Not here: the broker itself (`faults`), and the ways to it (`ways`).

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::{EXCHANGE, PAYMENT_REQUESTS};
use cucumber::{given, then, when};
use prover::quiescence;
use serde_json::json;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::Service;
use crate::stack::Stack;
use crate::steps::broker::all_are_thrown_out;
use crate::steps::messages::until_waiting;
use crate::steps::poison::queue_of;
use crate::steps::services::until_orders_are_under_way;
use crate::steps::tampering::WITHOUT_A_QUEUE;
use crate::world::World;

/// How often a request may come again in an outage: as often as a connection is lost in it, and not as often as it is
/// tried.
const AGAIN: u64 = 3;
/// In the broker's log, when it closes the channel of a consumer that acknowledges nothing.
const GIVEN_UP: &str = "has timed out waiting";
/// Requests that must be in the queue when it is wiped.
const WIPED: u64 = 20;
/// Name of the policy that loses messages.
const DROP_HEAD: &str = "drop-head";

#[when("an administrator closes all connections to the broker while orders are under way")]
async fn all_connections_are_closed(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    let stack = world.stack()?;
    Ok(all_are_thrown_out(stack, &stack.sandbox().rabbitmq).await?)
}

#[when(expr = "an administrator lets the oldest requests drop when more than {int} wait")]
async fn the_oldest_drop(world: &mut World, length: u64) -> Step {
    let definition = json!({ "max-length": length, "overflow": "drop-head" });
    Ok(set_policy(
        world.stack()?,
        PAYMENT_REQUESTS.queue,
        DROP_HEAD,
        definition,
    )
    .await?)
}

/// What is beyond that is refused: so the queue was declared.
#[when(expr = "an administrator leaves room for {int} requests")]
async fn the_queue_is_short(world: &mut World, length: u64) -> Step {
    let definition = json!({ "max-length": length });
    Ok(set_policy(world.stack()?, PAYMENT_REQUESTS.queue, "short", definition).await?)
}

/// True whatever became of those that found no room.
#[then("each request was tried, and there is room for no more")]
async fn each_was_tried(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("each request was tried", || async move {
        let mut connection = audit::connect(stack, Service::Orders).await?;
        let untried: i64 =
            sqlx::query_scalar("select count(*) from audit.outbox where not sent and attempts = 0")
                .fetch_one(&mut connection)
                .await?;
        ensure!(untried == 0, "{untried} were not");
        let open = quiescence::in_flight(stack.databases()).await?.open_orders;
        let rabbitmq = &stack.sandbox().rabbitmq;
        let depth = rabbitmq
            .queue_depth(stack.vhost(), PAYMENT_REQUESTS.queue)
            .await?;
        ensure!(
            depth.ready > 0 && depth.ready < open,
            "{} are in the queue, for {open} open orders",
            depth.ready
        );
        Ok(())
    })
    .await?;
    Ok(())
}

/// Gives a queue a policy; returns when it has it.
///
/// # Errors
/// If there is no such queue, or the management API does not answer.
pub(crate) async fn set_policy(
    stack: &Stack,
    queue: &str,
    name: &'static str,
    definition: serde_json::Value,
) -> anyhow::Result<()> {
    let policy = json!({
        "pattern": format!("^{}$", queue.replace('.', "\\.")),
        "apply-to": "queues",
        "definition": definition,
    });
    let path = format!("/api/policies/{}/{name}", stack.vhost());
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.management("PUT", &path, Some(policy)).await?;
    let queue = format!("/api/queues/{}/{queue}", stack.vhost());
    let queue = queue.as_str();
    eventually("the queue has the policy", || async move {
        let queue = rabbitmq.management("GET", queue, None).await?;
        ensure!(queue["policy"] == name, "it has {}", queue["policy"]);
        Ok(())
    })
    .await
}

#[when("there is a queue for them")]
async fn there_is_a_queue(world: &mut World) -> Step {
    let stack = world.stack()?;
    let (rabbitmq, vhost) = (&stack.sandbox().rabbitmq, stack.vhost());
    let queue = format!("/api/queues/{vhost}/{WITHOUT_A_QUEUE}");
    let declared = json!({ "durable": true });
    rabbitmq.management("PUT", &queue, Some(declared)).await?;
    let binding = format!("/api/bindings/{vhost}/e/{EXCHANGE}/q/{WITHOUT_A_QUEUE}");
    let key = json!({ "routing_key": WITHOUT_A_QUEUE });
    rabbitmq.management("POST", &binding, Some(key)).await?;
    Ok(())
}

#[then("they are sent as well")]
async fn are_sent(world: &mut World) -> Step {
    Ok(until_all_are_sent(world.stack()?).await?)
}

async fn until_all_are_sent(stack: &Stack) -> anyhow::Result<()> {
    eventually("all are sent", || async move {
        let in_flight = quiescence::in_flight(stack.databases()).await?;
        let unsent = in_flight.unsent_by_orders;
        ensure!(unsent == 0, "{unsent} are not");
        Ok(())
    })
    .await
}

#[then(expr = "all requests are sent, and no more than {int} are left")]
async fn the_rest_is_gone(world: &mut World, length: u64) -> Step {
    let stack = world.stack()?;
    let orders = world.placed.len() as u64;
    require!(orders > length, "{orders} orders have room in the queue");
    until_all_are_sent(stack).await?;
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

#[when("the broker loses all that it had, with requests in it")]
async fn the_broker_is_wiped(world: &mut World) -> Step {
    let stack = world.stack()?;
    until_waiting(stack, PAYMENT_REQUESTS.queue, WIPED).await?;
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.wipe().await?;
    let vhosts = rabbitmq.management("GET", "/api/vhosts", None).await;
    // All that an administrator does after it, and the end of the scenario needs it; the services do the rest.
    rabbitmq.create_vhost(stack.vhost()).await?;
    let vhosts = vhosts?;
    let vhosts = vhosts.as_array().context("no list of virtual hosts")?;
    let kept = vhosts.iter().any(|vhost| vhost["name"] == stack.vhost());
    require!(!kept, "the virtual host was kept");
    Ok(())
}

#[when("the requests may wait as long as they like again")]
async fn nothing_drops(world: &mut World) -> Step {
    let stack = world.stack()?;
    let path = format!("/api/policies/{}/{DROP_HEAD}", stack.vhost());
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.management("DELETE", &path, None).await?;
    Ok(())
}

/// A message that is put back and taken again is a loop, however it ends. The broker's figures are some seconds
/// late, so those are waited for that show two orders' messages and the one sent to do harm acknowledged. What came is
/// not asked for: the broker forgets what a channel has published that is closed soon after it.
#[then(expr = "{service} had each of its messages once")]
async fn had_each_once(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    let queue = queue_of(service.0.service)?.queue;
    let path = format!("/api/queues/{}/{queue}", stack.vhost());
    let (rabbitmq, path) = (&stack.sandbox().rabbitmq, path.as_str());
    let again = eventually("the broker counts what it has delivered", || async move {
        let counts = &rabbitmq.management("GET", path, None).await?["message_stats"];
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        let (acknowledged, delivered) = (count("ack"), count("deliver"));
        ensure!(
            acknowledged > 2,
            "{acknowledged} were acknowledged and {delivered} delivered"
        );
        Ok(count("redeliver"))
    })
    .await?;
    require!(again == 0, "{again} messages were delivered again");
    Ok(())
}

/// The broker's figures are some seconds late.
#[then("the broker has delivered requests again")]
async fn were_delivered_again(world: &mut World) -> Step {
    let stack = world.stack()?;
    let path = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let (rabbitmq, path) = (&stack.sandbox().rabbitmq, path.as_str());
    eventually("requests are delivered again", || async move {
        let queue = rabbitmq.management("GET", path, None).await?;
        let again = queue["message_stats"]["redeliver"].as_u64().unwrap_or(0);
        ensure!(again > 0, "none was");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Each delivery counts towards the queue's limit, at which the broker gives a message up.
#[then("the requests were not delivered again and again")]
async fn were_not_delivered_again(world: &mut World) -> Step {
    let stack = world.stack()?;
    let open = quiescence::in_flight(stack.databases()).await?.open_orders;
    let path = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let rabbitmq = &stack.sandbox().rabbitmq;
    let queue = rabbitmq.management("GET", &path, None).await?;
    let again = queue["message_stats"]["redeliver"].as_u64().unwrap_or(0);
    require!(
        open > 0 && again <= open * AGAIN,
        "requests were delivered again {again} times, for {open} open orders"
    );
    Ok(())
}

#[given(expr = "the broker waits no longer than {int} seconds for an acknowledgement")]
async fn the_broker_is_impatient(world: &mut World, seconds: u64) -> Step {
    let given_up = world
        .prepare()
        .await?
        .sandbox()
        .rabbitmq
        .log_count(GIVEN_UP);
    world.down.patience = Some(given_up);
    let patience = Duration::from_secs(seconds);
    let rabbitmq = &world.stack()?.sandbox().rabbitmq;
    Ok(rabbitmq.set_patience(Some(patience)).await?)
}

#[then("the broker has lost its patience with a consumer")]
async fn the_broker_has_lost_its_patience(world: &mut World) -> Step {
    let rabbitmq = &world.stack()?.sandbox().rabbitmq;
    let before = world.down.patience.context("the broker is patient")?;
    eventually("the broker closes a channel", || async move {
        let given_up = rabbitmq.log_count(GIVEN_UP) - before;
        ensure!(
            given_up > 0,
            "its log says of no consumer that it timed out"
        );
        Ok(())
    })
    .await?;
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

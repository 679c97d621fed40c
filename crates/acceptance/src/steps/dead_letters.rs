//! Messages that the broker gives up while there is no room for dead ones.
//!
//! Not here: what an operator makes of them (`parked`).

use anyhow::{Context, ensure};
use contracts::topology::PAYMENT_REQUESTS;
use cucumber::{then, when};
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use prover::amqp;
use serde_json::json;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::Person;
use crate::process::Service;
use crate::stack::Stack;
use crate::steps::broker::delete;
use crate::steps::broker_faults::set_policy;
use crate::steps::messages::until_queued;
use crate::world::World;

#[when("the queue of dead requests is deleted")]
async fn the_dead_queue_is_deleted(world: &mut World) -> Step {
    Ok(delete(world.stack()?, &["queues"], &[&dead_queue()]).await?)
}

/// What is beyond that is refused: so the queue was declared.
#[when(expr = "an administrator leaves room for {int} dead request(s)")]
async fn the_dead_queue_is_short(world: &mut World, length: u64) -> Step {
    let definition = json!({ "max-length": length });
    Ok(set_policy(world.stack()?, &dead_queue(), "few-dead", definition).await?)
}

/// The broker counts the deliveries, and gives the message up at the second one.
#[when(expr = "the broker gives the request for {person}'s order up")]
async fn the_broker_gives_it_up(world: &mut World, person: Person) -> Step {
    world.last_order(&person)?;
    until_queued(world, PAYMENT_REQUESTS.queue).await?;
    let stack = world.stack()?;
    let definition = json!({ "delivery-limit": 1 });
    set_policy(stack, PAYMENT_REQUESTS.queue, "no-patience", definition).await?;
    let refused = refuse_all(stack, true).await?;
    require!(refused == 2, "it was delivered {refused} times");
    until_queued(world, &dead_queue()).await?;
    Ok(())
}

/// The broker itself makes dead letters of them.
#[when("a stranger refuses the waiting requests for good")]
async fn a_stranger_refuses(world: &mut World) -> Step {
    until_queued(world, PAYMENT_REQUESTS.queue).await?;
    let refused = refuse_all(world.stack()?, false).await?;
    let orders = world.placed.len();
    require!(refused >= orders, "{refused} were refused, of {orders}");
    Ok(())
}

/// Refuses requests until none is left, and returns how often.
async fn refuse_all(stack: &Stack, requeue: bool) -> anyhow::Result<usize> {
    let connection = amqp::connect(&stack.amqp_url(), "acceptance-stranger").await?;
    let channel = connection.create_channel().await?;
    let queue = PAYMENT_REQUESTS.queue;
    let mut refused = 0;
    while let Some(message) = channel
        .basic_get(queue.into(), BasicGetOptions::default())
        .await?
    {
        let refusal = BasicRejectOptions { requeue };
        message.delivery.acker.reject(refusal).await?;
        refused += 1;
    }
    connection.close(200, "done".into()).await?;
    Ok(refused)
}

#[then("there is no queue of dead requests")]
async fn there_is_no_dead_queue(world: &mut World) -> Step {
    let stack = world.stack()?;
    let path = format!("/api/queues/{}", stack.vhost());
    let queues = stack
        .sandbox()
        .rabbitmq
        .management("GET", &path, None)
        .await?;
    let queues = queues.as_array().context("no list of queues")?;
    let is_there = |name: &str| queues.iter().any(|queue| queue["name"] == name);
    require!(
        is_there(PAYMENT_REQUESTS.queue) && !is_there(&dead_queue()),
        "there is one"
    );
    Ok(())
}

/// They are neither waiting nor dead, and must not be lost either.
#[then("the broker has no place for some dead requests")]
async fn there_is_no_place(world: &mut World) -> Step {
    let stack = world.stack()?;
    let orders = world.placed.len() as u64;
    let queue = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let queue = queue.as_str();
    eventually("some are held back", || async move {
        let rabbitmq = &stack.sandbox().rabbitmq;
        let queue = rabbitmq.management("GET", queue, None).await?;
        let held = queue["messages_dlx"].as_u64();
        let held = held.context("the broker does not say how many")?;
        ensure!((1..=orders).contains(&held), "{held} of {orders} are");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "Payments has parked all {int} requests as {word}")]
async fn all_are_parked(world: &mut World, count: usize, reason: String) -> Step {
    let (stack, reason) = (world.stack()?, reason.as_str());
    eventually("all are parked", || async move {
        let parked = audit::parked(stack, Service::Payments).await?;
        let as_said = parked.iter().filter(|parked| parked.reason == reason);
        let as_said = as_said.count();
        ensure!(as_said == count && parked.len() == count, "{parked:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

fn dead_queue() -> String {
    format!("{}.dead", PAYMENT_REQUESTS.queue)
}

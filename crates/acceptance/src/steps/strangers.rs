//! Strangers at the broker who take what is not theirs.
//!
//! Not here: what an administrator or a fault does (`broker_faults`).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS};
use cucumber::{given, then, when};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use prover::amqp;

use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::steps::messages::until_waiting;
use crate::world::World;

/// How often a request must have been taken away, that it is the thief who is outlived.
const TAKEN: usize = 3;
/// Messages that a purge must have hit.
const PURGED: u32 = 20;

/// A queue that only the connection that declared it may use.
#[given("a stranger has the queue of requests for itself alone")]
async fn a_stranger_has_the_queue(world: &mut World) -> Step {
    let url = world.prepare().await?.amqp_url();
    let connection = amqp::connect(&url, "acceptance-stranger").await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = PAYMENT_REQUESTS.queue.into();
    let declared = channel.queue_declare(queue, options, FieldTable::default());
    declared.await.context("the stranger gets no queue")?;
    world.outsider = Some(connection);
    Ok(())
}

#[when("the stranger goes away")]
async fn the_stranger_goes(world: &mut World) -> Step {
    let connection = world.outsider.take().context("there is no stranger")?;
    Ok(connection.close(200, "done".into()).await?)
}

#[when(expr = "a thief takes every request for {int} seconds")]
async fn a_thief_comes(world: &mut World, seconds: u64) -> Step {
    let url = world.stack()?.amqp_url();
    let connection = amqp::connect(&url, "acceptance-thief").await?;
    let how_long = Duration::from_secs(seconds);
    world.thief = Some(tokio::spawn(async move {
        amqp::steal(&connection, PAYMENT_REQUESTS.queue, how_long).await
    }));
    let stack = world.stack()?;
    let path = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let path = path.as_str();
    eventually("the thief is there, beside Payments", || async move {
        let rabbitmq = &stack.sandbox().rabbitmq;
        let queue = rabbitmq.management("GET", path, None).await?;
        let consumers = queue["consumers"].as_u64().context("no number")?;
        ensure!(consumers >= 2, "{consumers} consume");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("the thief has taken each request again and again")]
async fn the_thief_has_taken(world: &mut World) -> Step {
    let thief = world.thief.take().context("there is no thief")?;
    let mut times = BTreeMap::new();
    for message in thief.await?? {
        let id = message.properties.message_id().clone();
        let id = id.context("a request without an id")?.to_string();
        *times.entry(id).or_insert(0_usize) += 1;
    }
    let orders = world.placed.len();
    require!(orders > 0, "there is no order");
    let often = times.values().filter(|times| **times >= TAKEN).count();
    require!(
        often >= orders,
        "of {orders} requests {often} were taken {TAKEN} times: {times:?}"
    );
    Ok(())
}

#[when("all queues are purged")]
async fn all_queues_are_purged(world: &mut World) -> Step {
    let stack = world.stack()?;
    until_waiting(stack, PAYMENT_REQUESTS.queue, PURGED.into()).await?;
    let connection = amqp::connect(&stack.amqp_url(), "acceptance-purge").await?;
    let mut purged = 0;
    for route in [PAYMENT_REQUESTS, ORDER_RESULTS] {
        for queue in [route.queue.to_owned(), format!("{}.dead", route.queue)] {
            purged += amqp::purge(&connection, &queue).await?;
        }
    }
    connection.close(200, "done".into()).await?;
    require!(purged >= PURGED, "only {purged} messages were there");
    Ok(())
}

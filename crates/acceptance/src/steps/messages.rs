//! Messages that are delivered twice, again, or not at all.

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::{EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS};
use contracts::{MessageId, OrderId, PaymentRequested, UserId};
use cucumber::{given, then, when};
use lapin::types::{AMQPValue, FieldTable};
use prover::amqp::{self, BasicProperties, Published, RawMessage};
use prover::duplicator::{CopyId, Duplicator};

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Identity, Person};
use crate::stack::Stack;
use crate::world::World;

/// How long a thief takes messages away.
pub(crate) const THEFT: Duration = Duration::from_secs(1);

#[given(expr = "every message is delivered a second time, under {identity}")]
async fn every_message_twice(world: &mut World, identity: Identity) -> Step {
    let url = world.prepare().await?.amqp_url();
    world.duplicator = Some(Duplicator::start(&url, identity.0).await?);
    Ok(())
}

#[then("every message was delivered twice indeed")]
async fn was_delivered_twice(world: &mut World) -> Step {
    let duplicator = world
        .duplicator
        .as_ref()
        .context("nothing delivers messages twice")?;
    let orders = world.placed.len() as u64;
    require!(orders > 0, "there is no order");
    eventually("every message has its copy", || async move {
        let copies = duplicator.copies();
        let enough = copies.requests >= orders && copies.results >= orders;
        ensure!(enough, "{copies:?} for {orders} orders");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when(expr = "the request for {person}'s order is delivered once more, under {identity}")]
async fn request_again(world: &mut World, person: Person, identity: Identity) -> Step {
    let placed = world.last_order(&person)?;
    let stack = world.stack()?;
    let known = audit::identity(stack, placed.id).await?;
    let request = PaymentRequested {
        order_uid: known.order_uid,
        order_id: OrderId(placed.id),
        user_id: UserId(placed.user_id),
        amount: placed.amount,
    };
    let message_id = match identity.0 {
        CopyId::Same => known.message_id,
        CopyId::New => MessageId::new(),
    };
    let before = audit::answers(stack, known.order_uid).await?;
    require!(before > 0, "the request was not answered a first time yet");
    publish(
        stack,
        PAYMENT_REQUESTS.kind,
        request.to_body(),
        properties(PAYMENT_REQUESTS.kind, Some(message_id)),
    )
    .await?;
    // Its answer is the sign that Payments has seen it: without one it might lie in the queue untouched.
    eventually("the repeated request is answered", || async move {
        let answers = audit::answers(stack, known.order_uid).await?;
        ensure!(answers > before, "{answers} answers, as before");
        Ok(())
    })
    .await?;
    Ok(())
}

#[given("the requests wait in the queue")]
#[then("the requests wait in the queue")]
async fn requests_wait(world: &mut World) -> Step {
    Ok(until_queued(world, PAYMENT_REQUESTS.queue).await?)
}

#[given("the results wait in the queue")]
#[then("the results wait in the queue")]
async fn results_wait(world: &mut World) -> Step {
    Ok(until_queued(world, ORDER_RESULTS.queue).await?)
}

#[then("no request is left in the queue")]
async fn no_request_is_left(world: &mut World) -> Step {
    let stack = world.stack()?;
    let queue = PAYMENT_REQUESTS.queue;
    eventually("the queue is empty", || async move {
        let rabbitmq = &stack.sandbox().rabbitmq;
        let depth = rabbitmq.queue_depth(stack.vhost(), queue).await?;
        ensure!(depth.ready == 0 && depth.unacked == 0, "{depth:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the waiting requests are purged")]
async fn requests_are_purged(world: &mut World) -> Step {
    until_queued(world, PAYMENT_REQUESTS.queue).await?;
    let connection = amqp::connect(&world.stack()?.amqp_url(), "acceptance-purge").await?;
    let purged = amqp::purge(&connection, PAYMENT_REQUESTS.queue).await?;
    connection.close(200, "done".into()).await?;
    let orders = world.placed.len();
    require!(
        purged as usize >= orders,
        "{purged} requests were purged, of {orders}"
    );
    Ok(())
}

#[when("the waiting results are stolen")]
async fn results_are_stolen(world: &mut World) -> Step {
    until_queued(world, ORDER_RESULTS.queue).await?;
    let connection = amqp::connect(&world.stack()?.amqp_url(), "acceptance-thief").await?;
    let stolen = amqp::steal(&connection, ORDER_RESULTS.queue, THEFT).await?;
    connection.close(200, "done".into()).await?;
    let orders = world.placed.len();
    require!(
        stolen.len() >= orders,
        "{} results were stolen, of {orders}",
        stolen.len()
    );
    Ok(())
}

#[then("no payment was asked for a second time")]
async fn nothing_was_asked_again(world: &mut World) -> Step {
    let asked_again = audit::asked_again(world.stack()?).await?;
    require!(asked_again == 0, "{asked_again} requests were sent again");
    Ok(())
}

#[then("payments were asked for a second time")]
async fn something_was_asked_again(world: &mut World) -> Step {
    let asked_again = audit::asked_again(world.stack()?).await?;
    require!(asked_again > 0, "no request was sent again");
    Ok(())
}

/// Waits until a queue holds a message for every order, with nobody working on them. What the broker tells is a
/// second old and may be wrong right after its restart, so what it holds is counted again by whoever takes it.
///
/// # Errors
/// If that does not come about.
pub(crate) async fn until_queued(world: &World, queue: &str) -> anyhow::Result<()> {
    let stack = world.stack()?;
    let orders = world.placed.len() as u64;
    ensure!(orders > 0, "there is no order");
    eventually(
        &format!("{orders} messages wait in {queue}"),
        || async move {
            let depth = stack
                .sandbox()
                .rabbitmq
                .queue_depth(stack.vhost(), queue)
                .await?;
            ensure!(depth.ready >= orders && depth.unacked == 0, "{depth:?}");
            Ok(())
        },
    )
    .await
}

/// Waits until so many messages wait in a queue that nobody reads.
///
/// # Errors
/// If they do not come.
pub(crate) async fn until_waiting(stack: &Stack, queue: &str, count: u64) -> anyhow::Result<()> {
    eventually(
        &format!("{count} messages wait in {queue}"),
        || async move {
            let rabbitmq = &stack.sandbox().rabbitmq;
            let depth = rabbitmq.queue_depth(stack.vhost(), queue).await?;
            ensure!(depth.ready >= count, "{depth:?}");
            Ok(())
        },
    )
    .await
}

/// Properties as the contract gives them to a message of this kind.
pub(crate) fn properties(kind: &str, message_id: Option<MessageId>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("schema_version".into(), AMQPValue::LongInt(1));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_app_id("acceptance".into())
        .with_type(kind.into())
        .with_headers(headers);
    match message_id {
        Some(id) => properties.with_message_id(id.to_string().into()),
        None => properties,
    }
}

/// Publishes one message to the system's exchange, as a stranger could.
///
/// # Errors
/// If it does not land in a queue.
pub(crate) async fn publish(
    stack: &Stack,
    routing_key: &str,
    body: impl Into<Vec<u8>>,
    properties: BasicProperties,
) -> anyhow::Result<()> {
    let connection = amqp::connect(&stack.amqp_url(), "acceptance-stranger").await?;
    let message = RawMessage {
        exchange: EXCHANGE.to_owned(),
        routing_key: routing_key.to_owned(),
        properties,
        body: body.into(),
    };
    let published = amqp::publish(&connection, &message).await?;
    connection.close(200, "done".into()).await?;
    ensure!(
        published == Published::Queued,
        "the message was {published:?}"
    );
    Ok(())
}

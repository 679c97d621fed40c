//! What an operator sees and does of messages that were set aside.

use std::process::Output;

use anyhow::{Context, ensure};
use contracts::topology::PAYMENT_REQUESTS;
use contracts::{MessageId, OrderId, PaymentRequested, UserId};
use cucumber::{then, when};
use prover::duplicator::CopyId;
use prover::quiescence;
use serde_json::Value;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Identity, Person, Which};
use crate::process::Service;
use crate::stack::Stack;
use crate::steps::messages::{properties, publish};
use crate::steps::poison::queue_of;
use crate::world::World;

#[then(expr = "the operator sees one message of {service}, parked as {word}")]
async fn sees_one(world: &mut World, service: Which, reason: String) -> Step {
    let queue = queue_of(service.0.service)?.queue;
    let (stack, reason) = (world.stack()?, reason.as_str());
    let id = eventually("the message is listed", || async move {
        let list = list(stack).await?;
        ensure!(list.len() == 1, "listed are {list:?}");
        let is_it = list[0]["queue"] == queue && list[0]["reason"] == reason;
        ensure!(is_it, "listed is {}", list[0]);
        let id = list[0]["id"].as_str().context("it has no id")?;
        Ok(id.to_owned())
    })
    .await?;
    let shown = stack.command(&["parked", "show", &id]).await?;
    let text = String::from_utf8_lossy(&shown.stdout);
    let is_whole = text.contains(reason) && text.contains("order_uid");
    require!(shown.status.success() && is_whole, "shown is {text}");
    world.parked = Some(id);
    Ok(())
}

#[then("the operator sees it parked once more")]
async fn sees_it_once_more(world: &mut World) -> Step {
    let (stack, id) = (world.stack()?, parked(world)?);
    eventually("the message is listed again", || async move {
        let list = list(stack).await?;
        ensure!(
            list.len() == 1 && list[0]["id"] == id && list[0]["seen"] == 2,
            "listed are {list:?}"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("the operator sees no parked message")]
async fn sees_none(world: &mut World) -> Step {
    let list = list(world.stack()?).await?;
    require!(list.is_empty(), "listed are {list:?}");
    Ok(())
}

/// Whoever cannot read a message sets it aside, and whoever can takes it in.
#[then(expr = "Payments has set some of {int} requests aside as {word}, and decided the others")]
async fn some_are_set_aside(world: &mut World, count: u64, reason: String) -> Step {
    let (stack, reason) = (world.stack()?, reason.as_str());
    eventually("each is decided or set aside", || async move {
        let parked = audit::parked(stack, Service::Payments).await?;
        let all_so = parked.iter().all(|parked| parked.reason == reason);
        ensure!(all_so, "parked are {parked:?}");
        let (parked, open) = (
            parked.len() as u64,
            quiescence::in_flight(stack.databases()).await?.open_orders,
        );
        ensure!(
            parked > 0 && parked < count && parked == open,
            "{parked} are set aside, and {open} of {count} orders are open"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the operator replays it")]
async fn replays(world: &mut World) -> Step {
    decide(world, "replay").await
}

#[when("the operator replays all of them")]
async fn replays_all(world: &mut World) -> Step {
    let stack = world.stack()?;
    for parked in list(stack).await? {
        let id = parked["id"].as_str().context("it has no id")?;
        let done = stack.command(&["parked", "replay", id]).await?;
        require!(done.status.success(), "{}", told(&done));
    }
    Ok(())
}

#[when("the operator is not allowed to replay it, because nobody reads its type")]
async fn may_not_replay(world: &mut World) -> Step {
    let stack = world.stack()?;
    let refused = stack.command(&["parked", "replay", parked(world)?]).await?;
    let why = told(&refused);
    require!(
        refused.status.code() == Some(1) && why.contains("nobody here reads a message of type"),
        "{why}"
    );
    let list = list(stack).await?;
    require!(
        list.len() == 1 && list[0]["state"] == "open",
        "listed are {list:?}"
    );
    Ok(())
}

#[when("the operator drops it")]
async fn drops(world: &mut World) -> Step {
    decide(world, "drop").await
}

async fn decide(world: &World, verb: &str) -> Step {
    let stack = world.stack()?;
    let done = stack.command(&["parked", verb, parked(world)?]).await?;
    require!(done.status.success(), "{}", told(&done));
    Ok(())
}

#[when("two operators replay it at once")]
async fn two_replay(world: &mut World) -> Step {
    let (stack, id) = (world.stack()?, parked(world)?);
    let replay = ["parked", "replay", id];
    let (first, second) = futures::try_join!(stack.command(&replay), stack.command(&replay))?;
    let (first, second) = (first.status.code(), second.status.code());
    world.exit_codes = [first, second].map(|code| code.unwrap_or(-1));
    Ok(())
}

#[then("one of them is told that it is replayed already")]
async fn one_is_refused(world: &mut World) -> Step {
    let mut codes = world.exit_codes;
    codes.sort_unstable();
    require!(codes == [0, 1], "the exit codes are {codes:?}");
    Ok(())
}

#[when(expr = "the request for {person}'s order comes after all, under {identity}")]
async fn comes_after_all(world: &mut World, person: Person, identity: Identity) -> Step {
    let (request, known) = request(world, &person).await?;
    let id = match identity.0 {
        CopyId::Same => known,
        CopyId::New => MessageId::new(),
    };
    let properties = properties(PAYMENT_REQUESTS.kind, Some(id));
    Ok(publish(
        world.stack()?,
        PAYMENT_REQUESTS.kind,
        request.to_body(),
        properties,
    )
    .await?)
}

#[when(expr = "Payments is sent the id of the request for {person}'s order with another amount")]
async fn is_sent_another_amount(world: &mut World, person: Person) -> Step {
    let (request, id) = request(world, &person).await?;
    let other = PaymentRequested {
        amount: "99.00".parse()?,
        ..request
    };
    let properties = properties(PAYMENT_REQUESTS.kind, Some(id));
    Ok(publish(
        world.stack()?,
        PAYMENT_REQUESTS.kind,
        other.to_body(),
        properties,
    )
    .await?)
}

/// The request for a person's last order, as it was sent.
async fn request(
    world: &mut World,
    person: &Person,
) -> anyhow::Result<(PaymentRequested, MessageId)> {
    let placed = world.last_order(person)?;
    let known = audit::identity(world.stack()?, placed.id).await?;
    let request = PaymentRequested {
        order_uid: known.order_uid,
        order_id: OrderId(placed.id),
        user_id: UserId(placed.user_id),
        amount: placed.amount,
    };
    Ok((request, known.message_id))
}

fn parked(world: &World) -> anyhow::Result<&str> {
    world
        .parked
        .as_deref()
        .context("no parked message was seen")
}

async fn list(stack: &Stack) -> anyhow::Result<Vec<Value>> {
    let listed = stack.command(&["parked", "list", "--json"]).await?;
    ensure!(listed.status.success(), "{}", told(&listed));
    serde_json::from_slice(&listed.stdout).context("the list is not JSON")
}

fn told(output: &Output) -> String {
    format!(
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

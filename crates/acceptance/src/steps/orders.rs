//! Orders, and what becomes of them.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use contracts::Money;
use cucumber::{given, then, when};
use futures::future::join_all;
use prover::client::{Client, Order, Status};

use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Amount, Person, State};
use crate::world::World;

#[given(expr = "{person} has ordered for {money}")]
#[when(expr = "{person} orders for {money}")]
async fn orders(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    let order = world.place_order(user_id, amount.0).await?;
    require!(
        order.status == Status::New,
        "a fresh order is {}",
        order.status
    );
    Ok(())
}

#[given(expr = "{person} has ordered {int} times for {money}, all at once")]
#[when(expr = "{person} orders {int} times for {money}, all at once")]
async fn orders_many_at_once(
    world: &mut World,
    person: Person,
    count: usize,
    amount: Amount,
) -> Step {
    let user_id = world.user_id(&person);
    Ok(place_at_once(world, vec![user_id; count], amount.0).await?)
}

#[given(expr = "every customer has ordered {int} times for {money}")]
#[when(expr = "every customer orders {int} times for {money}, all at once")]
async fn every_customer_orders(world: &mut World, count: usize, amount: Amount) -> Step {
    let users = world.customers.repeat(count);
    require!(!users.is_empty(), "there are no customers");
    Ok(place_at_once(world, users, amount.0).await?)
}

#[then(expr = "{person}'s order is {state}")]
async fn order_becomes(world: &mut World, person: Person, state: State) -> Step {
    let placed = world.last_order(&person)?;
    let client = world.client()?;
    let order = eventually("the order is settled", || async {
        let order = client.order(placed.user_id, placed.id).await.ok()?;
        ensure!(
            order.status.is_final(),
            "order {} is {}",
            order.id,
            order.status
        );
        Ok(order)
    })
    .await?;
    require!(
        order.status == state.0,
        "order {} is {} and must be {}",
        order.id,
        order.status,
        state.0
    );
    require!(
        order.amount == placed.amount.to_string(),
        "order {} is for {} now",
        order.id,
        order.amount
    );
    Ok(())
}

#[then(expr = "{person}'s order is still {state}")]
async fn order_is_still(world: &mut World, person: Person, state: State) -> Step {
    let placed = world.last_order(&person)?;
    let order = world
        .client()?
        .order(placed.user_id, placed.id)
        .await
        .ok()?;
    require!(
        order.status == state.0,
        "order {} is {} and must be {}",
        order.id,
        order.status,
        state.0
    );
    Ok(())
}

#[then(expr = "{int} of {person}'s orders are finished and {int} are cancelled")]
async fn split_of_one(
    world: &mut World,
    finished: usize,
    person: Person,
    cancelled: usize,
) -> Step {
    let users = BTreeSet::from([world.user_id(&person)]);
    Ok(expect_split(
        &settled(world.client()?, &users).await?,
        finished,
        cancelled,
    )?)
}

#[then(expr = "{int} orders are finished and {int} are cancelled")]
async fn split_of_all(world: &mut World, finished: usize, cancelled: usize) -> Step {
    let users = world.placed.iter().map(|placed| placed.user_id).collect();
    Ok(expect_split(
        &settled(world.client()?, &users).await?,
        finished,
        cancelled,
    )?)
}

#[then(expr = "every order is {state}")]
async fn every_order_becomes(world: &mut World, state: State) -> Step {
    let users = world.placed.iter().map(|placed| placed.user_id).collect();
    let orders = settled(world.client()?, &users).await?;
    if let Some(other) = orders.iter().find(|order| order.status != state.0) {
        require!(
            false,
            "order {} is {} and must be {}",
            other.id,
            other.status,
            state.0
        );
    }
    let listed: BTreeSet<i64> = orders.iter().map(|order| order.id).collect();
    if let Some(lost) = world
        .placed
        .iter()
        .find(|placed| !listed.contains(&placed.id))
    {
        require!(false, "order {} was accepted and is in no list", lost.id);
    }
    require!(!listed.is_empty(), "there is no order");
    Ok(())
}

#[then("every order is still open")]
async fn every_order_is_still_open(world: &mut World) -> Step {
    let client = world.client()?;
    require!(!world.placed.is_empty(), "there is no order");
    for placed in &world.placed {
        let order = client.order(placed.user_id, placed.id).await.ok()?;
        require!(
            order.status == Status::New,
            "order {} is {}",
            order.id,
            order.status
        );
    }
    Ok(())
}

#[then(expr = "every order but {person}'s is {state}")]
async fn every_other_order_becomes(world: &mut World, person: Person, state: State) -> Step {
    let user_id = world.user_id(&person);
    let users = world.placed.iter().map(|placed| placed.user_id);
    let orders = settled(
        world.client()?,
        &users.filter(|id| *id != user_id).collect(),
    )
    .await?;
    require!(!orders.is_empty(), "nobody else has ordered anything");
    let other = orders.iter().find(|order| order.status != state.0);
    require!(other.is_none(), "{other:?} must be {}", state.0);
    Ok(())
}

#[then(expr = "each of {person}'s orders is still open")]
async fn each_order_of_one_is_still_open(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let orders = world.client()?.orders(user_id).await.ok()?;
    require!(!orders.is_empty(), "{} has ordered nothing", person.0);
    let settled = orders.iter().find(|order| order.status.is_final());
    require!(settled.is_none(), "{settled:?} must be open");
    Ok(())
}

/// Places one order for each user in the list, all of them at the same time.
///
/// # Errors
/// If one is not accepted.
pub(crate) async fn place_at_once(
    world: &mut World,
    users: Vec<i64>,
    amount: Money,
) -> anyhow::Result<()> {
    let client = world.client()?.clone();
    let text = amount.to_string();
    let orders = join_all(
        users
            .iter()
            .map(|user_id| client.place_order(*user_id, &text, "at once")),
    )
    .await;
    for (user_id, outcome) in users.into_iter().zip(orders) {
        world.seen.invoked(user_id, amount);
        world.remember(&outcome.ok().context("an order was not accepted")?, amount);
    }
    Ok(())
}

/// All orders of these users, once none is open any more.
async fn settled(client: &Client, users: &BTreeSet<i64>) -> anyhow::Result<Vec<Order>> {
    let mut all = Vec::new();
    for user_id in users {
        all.extend(
            eventually("no order is open", || async move {
                let orders = client.orders(*user_id).await.ok()?;
                let open = orders
                    .iter()
                    .filter(|order| !order.status.is_final())
                    .count();
                ensure!(
                    open == 0,
                    "{open} of {} orders of user {user_id} are open",
                    orders.len()
                );
                Ok(orders)
            })
            .await?,
        );
    }
    Ok(all)
}

fn expect_split(orders: &[Order], finished: usize, cancelled: usize) -> anyhow::Result<()> {
    let count = |status| orders.iter().filter(|order| order.status == status).count();
    let (are_finished, are_cancelled) = (count(Status::Finished), count(Status::Cancelled));
    ensure!(
        (are_finished, are_cancelled) == (finished, cancelled),
        "{are_finished} are finished and {are_cancelled} cancelled"
    );
    Ok(())
}

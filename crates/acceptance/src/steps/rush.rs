//! Orders that keep coming in while something happens, and what is seen of the outage meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::PAYMENT_REQUESTS;
use cucumber::{given, then, when};
use prover::quiescence;

use crate::audit;
use crate::check::end_rush;
use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::rush::Rush;
use crate::steps::accounts::open_account;
use crate::world::World;

/// Customers who order in turn.
const CUSTOMERS: usize = 5;
/// In each of their accounts: more than they can spend here.
const BALANCE: &str = "100000.00";
/// What each order is for.
const AMOUNT: &str = "1.00";
/// Orders that must have been accepted before anything happens.
const BEGUN: u64 = 20;
/// Open orders that surely are not just the ones under way.
const PILE: u64 = 40;
/// Failures that are felt, and not one customer's bad luck.
const FELT: u64 = 3;

#[given("orders keep coming in")]
async fn orders_keep_coming_in(world: &mut World) -> Step {
    for _ in 0..CUSTOMERS {
        let user_id = world.new_customer();
        open_account(world, user_id, BALANCE.parse()?).await?;
    }
    let rush = Rush::start(
        world.client()?.clone(),
        world.customers.clone(),
        AMOUNT.parse()?,
    );
    let rush = &*world.rush.insert(rush);
    eventually("orders come in", || async move {
        ensure!(
            rush.accepted() >= BEGUN,
            "{} were accepted",
            rush.accepted()
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the orders stop coming in")]
async fn the_orders_stop_coming_in(world: &mut World) -> Step {
    require!(world.rush.is_some(), "no orders come in");
    Ok(end_rush(world).await?)
}

#[then("open orders pile up")]
async fn open_orders_pile_up(world: &mut World) -> Step {
    let databases = world.stack()?.databases();
    eventually("open orders pile up", || async move {
        let in_flight = quiescence::in_flight(databases).await?;
        ensure!(in_flight.open_orders >= PILE, "{in_flight}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// What had piled up is worked off beside what comes in.
#[then("the queue of requests is empty again, while orders keep coming in")]
async fn the_queue_is_worked_off(world: &mut World) -> Step {
    let rush = world.rush.as_ref().context("no orders come in")?;
    let (stack, before) = (world.stack()?, rush.accepted());
    let piled = quiescence::in_flight(stack.databases()).await?.open_orders;
    eventually("the queue is empty", || async move {
        let in_flight = quiescence::in_flight(stack.databases()).await?;
        let rabbitmq = &stack.sandbox().rabbitmq;
        let depth = rabbitmq
            .queue_depth(stack.vhost(), PAYMENT_REQUESTS.queue)
            .await?;
        ensure!(
            depth.ready == 0 && in_flight.open_orders <= piled / 2,
            "{depth:?}, {in_flight}"
        );
        let accepted = rush.accepted() - before;
        ensure!(
            accepted >= BEGUN,
            "only {accepted} orders came in meanwhile"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

/// Where the row of the matrix is about the time.
#[then(expr = "no order is open after {int} seconds")]
async fn no_order_is_open(world: &mut World, seconds: u64) -> Step {
    let databases = world.stack()?.databases();
    let bound = Duration::from_secs(seconds);
    within(bound, "no order is open", || async move {
        let in_flight = quiescence::in_flight(databases).await?;
        ensure!(in_flight.open_orders == 0, "{in_flight}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("customers are turned away")]
async fn customers_are_turned_away(world: &mut World) -> Step {
    let rush = world.rush.as_ref().context("no orders come in")?;
    eventually("customers are turned away", || async move {
        ensure!(
            rush.failed() >= FELT,
            "{} orders were not accepted, {} were",
            rush.failed(),
            rush.accepted()
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "{int} more orders are accepted all the same")]
async fn more_are_accepted(world: &mut World, count: u64) -> Step {
    let rush = world.rush.as_ref().context("no orders come in")?;
    let before = rush.accepted();
    eventually("more orders are accepted", || async move {
        let more = rush.accepted() - before;
        ensure!(more >= count, "{more} were: {}", rush.last_failure());
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "{int} more orders are finished all the same")]
async fn more_are_finished(world: &mut World, count: i64) -> Step {
    let stack = world.stack()?;
    let before = audit::all_finished(stack).await?;
    eventually("more orders are finished", || async move {
        let more = audit::all_finished(stack).await? - before;
        ensure!(more >= count, "{more} are");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("no customer is turned away")]
async fn no_customer_is_turned_away(world: &mut World) -> Step {
    let rush = world.rush.as_ref().context("no orders come in")?;
    require!(
        rush.failed() == 0,
        "{} orders were not accepted, {} were: {}",
        rush.failed(),
        rush.accepted(),
        rush.last_failure()
    );
    Ok(())
}

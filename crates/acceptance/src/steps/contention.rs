//! What several processes want at once, and somebody else holds.
//!
//! Not here: one account that is held (`databases`).

use anyhow::{Context, ensure};
use contracts::topology::PAYMENT_REQUESTS;
use cucumber::{then, when};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use prover::amqp;
use sandbox::QueueDepth;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Amount, Person};
use crate::process::Service;
use crate::stack::Stack;
use crate::world::World;

#[when("somebody locks all accounts")]
async fn accounts_are_locked(world: &mut World) -> Step {
    let mut stranger = audit::connect(world.stack()?, Service::Payments).await?;
    sqlx::raw_sql("begin; lock table accounts in exclusive mode")
        .execute(&mut stranger)
        .await
        .context("cannot lock the accounts")?;
    world.stranger = Some(stranger);
    Ok(())
}

#[when("the accounts are free again")]
#[when("the account is free again")]
#[when("the place is free again")]
async fn accounts_are_free(world: &mut World) -> Step {
    let stranger = world.stranger.take().context("nobody holds anything")?;
    Ok(stranger.close().await?)
}

#[then(expr = "{int} requests are in the hands of Payments")]
async fn in_the_hands_of_payments(world: &mut World, count: u64) -> Step {
    let as_said = |depth: QueueDepth| depth.unacked == count && depth.ready == 0;
    Ok(until_the_queue(world, as_said).await?)
}

/// Some may be done with already. The broker itself is asked: what its management says may be of a second ago, when
/// the requests were somewhere else.
#[then("no request is left to be taken")]
async fn all_are_taken(world: &mut World) -> Step {
    let connection = amqp::connect(&world.stack()?.amqp_url(), "acceptance-asks").await?;
    let channel = &connection.create_channel().await?;
    eventually("the requests are taken", || async move {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let queue = channel
            .queue_declare(
                PAYMENT_REQUESTS.queue.into(),
                passive,
                FieldTable::default(),
            )
            .await?;
        let (ready, consumers) = (queue.message_count(), queue.consumer_count());
        ensure!(
            ready == 0 && consumers == 2,
            "{ready} are left, for {consumers} consumers"
        );
        Ok(())
    })
    .await?;
    Ok(connection.close(200, "done".into()).await?)
}

/// Waits until the broker says that the queue of requests is so.
///
/// # Errors
/// If it does not become so.
pub(crate) async fn until_the_queue(
    world: &World,
    fits: impl Fn(QueueDepth) -> bool,
) -> anyhow::Result<()> {
    let (stack, fits) = (world.stack()?, &fits);
    eventually("the requests are delivered", || async move {
        let rabbitmq = &stack.sandbox().rabbitmq;
        let depth = rabbitmq
            .queue_depth(stack.vhost(), PAYMENT_REQUESTS.queue)
            .await?;
        ensure!(fits(depth), "{depth:?}");
        Ok(())
    })
    .await
}

/// For all others there is no order of the accounts in which both processes could wait for it.
#[when("somebody locks the account of the customer in the middle")]
async fn the_middle_is_locked(world: &mut World) -> Step {
    let mut customers = world.customers.clone();
    customers.sort_unstable();
    let user_id = customers.get(customers.len() / 2);
    let user_id = user_id.context("there are no customers")?;
    let mut stranger = audit::connect(world.stack()?, Service::Payments).await?;
    sqlx::raw_sql("begin").execute(&mut stranger).await?;
    let locked = sqlx::query("select from accounts where user_id = $1 for no key update")
        .bind(user_id)
        .execute(&mut stranger)
        .await
        .context("cannot lock the account")?;
    require!(locked.rows_affected() == 1, "there is no such account");
    world.stranger = Some(stranger);
    Ok(())
}

/// As a transaction does that has taken the request in and is not committed.
#[when("somebody holds the place of the request in the middle")]
async fn a_place_is_held(world: &mut World) -> Step {
    let mut orders = audit::connect(world.stack()?, Service::Orders).await?;
    let message_id = world.middle.context("no requests were put back")?;
    let key: Uuid =
        sqlx::query_scalar("select order_uid from audit.outbox where message_id = $1 limit 1")
            .bind(message_id)
            .fetch_one(&mut orders)
            .await
            .context("Orders does not know the request")?;
    orders.close().await?;
    let mut stranger = audit::connect(world.stack()?, Service::Payments).await?;
    sqlx::raw_sql("begin").execute(&mut stranger).await?;
    sqlx::query("insert into inbox_messages (message_id, key, outcome) values ($1, $2, 'applied')")
        .bind(message_id)
        .bind(key)
        .execute(&mut stranger)
        .await
        .context("cannot hold a place")?;
    world.stranger = Some(stranger);
    Ok(())
}

#[then("two transactions of Payments wait for somebody")]
async fn two_wait(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("two transactions wait", || async move {
        let mut connection = audit::connect(stack, Service::Payments).await?;
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&mut connection)
        .await?;
        ensure!(waiting == 2, "{waiting} do");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when(expr = "{person} orders for {money}, and the payment comes into a deadlock")]
async fn a_payment_deadlocks(world: &mut World, person: Person, amount: Amount) -> Step {
    let stranger = hold_the_ledger(world).await?;
    let user_id = world.user_id(&person);
    world.place_order(user_id, amount.0).await?;
    Ok(close_the_circle(world.stack()?, stranger, user_id).await?)
}

/// A stranger who holds what every charge writes to last. (A deposit is one statement, which has its tables before it
/// locks an account.)
async fn hold_the_ledger(world: &mut World) -> anyhow::Result<PgConnection> {
    let mut stranger = audit::connect(world.stack()?, Service::Payments).await?;
    sqlx::raw_sql("begin; set local lock_timeout = 0; lock table ledger_entries in share mode")
        .execute(&mut stranger)
        .await
        .context("cannot lock the ledger")?;
    world.deadlocks += 1;
    Ok(stranger)
}

/// The stranger wants the account that somebody has locked who waits for the ledger. The server ends the one that has
/// waited first, which is not the stranger.
async fn close_the_circle(
    stack: &Stack,
    mut stranger: PgConnection,
    user_id: i64,
) -> anyhow::Result<()> {
    eventually("somebody waits for the ledger", || async move {
        let mut connection = audit::connect(stack, Service::Payments).await?;
        let waits: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database() \
             and application_name = 'paidonce-payments-consumer' and wait_event_type = 'Lock')",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        ensure!(waits, "nobody does");
        Ok(())
    })
    .await?;
    sqlx::query("select from accounts where user_id = $1 for update")
        .bind(user_id)
        .execute(&mut stranger)
        .await
        .context("the stranger was ended")?;
    Ok(stranger.close().await?)
}

#[then("a transaction of Payments came into a deadlock indeed")]
async fn there_was_a_deadlock(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("the server counts it", || async move {
        let deadlocks = audit::statistic(stack, Service::Payments, "deadlocks").await?;
        ensure!(deadlocks == 1, "it counts {deadlocks}");
        Ok(())
    })
    .await?;
    Ok(())
}

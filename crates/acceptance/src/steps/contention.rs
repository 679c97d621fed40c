//! What several processes want at once, and somebody else holds.
//!
//! Not here: one account that is held (`databases`).

use std::time::{Duration, Instant};

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
use crate::eventually::{PATIENCE, eventually};
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
#[when("the order is free again")]
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

/// The customer with two behind, of four.
fn the_one_in_the_middle(world: &World) -> anyhow::Result<i64> {
    let mut customers = world.customers.clone();
    customers.sort_unstable();
    let behind = customers.len() / 2;
    let user_id = customers.iter().rev().nth(behind);
    user_id.copied().context("there are no customers")
}

/// Somebody who asks for one lock after the other, and is the one who is told if that makes a circle: the server looks
/// for one after this time, and after a second for all others.
async fn somebody_patient(world: &World, service: Service) -> anyhow::Result<PgConnection> {
    let mut stranger = audit::connect(world.stack()?, service).await?;
    sqlx::raw_sql("begin; set local lock_timeout = 0; set local deadlock_timeout = '10ms'")
        .execute(&mut stranger)
        .await
        .context("cannot begin")?;
    Ok(stranger)
}

#[when("somebody locks the account of the customer in the middle")]
async fn the_middle_is_locked(world: &mut World) -> Step {
    let user_id = the_one_in_the_middle(world)?;
    let mut stranger = somebody_patient(world, Service::Payments).await?;
    let locked = sqlx::query("select from accounts where user_id = $1 for no key update")
        .bind(user_id)
        .execute(&mut stranger)
        .await
        .context("cannot lock the account")?;
    require!(locked.rows_affected() == 1, "there is no such account");
    world.stranger = Some(stranger);
    Ok(())
}

#[then("Payments waits for that account, or has set its requests aside")]
async fn waits_or_sets_aside(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("Payments has come to the account", || async move {
        let aside = something_is_aside(stack).await?;
        ensure!(
            aside || waiting(stack, Service::Payments).await?.len() == 1,
            "it has not"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

async fn something_is_aside(stack: &Stack) -> anyhow::Result<bool> {
    let mut connection = audit::connect(stack, Service::Payments).await?;
    let aside = sqlx::query_scalar("select exists (select from waiting_messages)")
        .fetch_one(&mut connection)
        .await
        .context("cannot read what waits")?;
    connection.close().await?;
    Ok(aside)
}

/// Whoever takes locks in the order of the accounts and waits for one holds none behind it; whoever waits for none
/// has nothing to fear, and that is what Payments does.
#[then("whoever has locked it can lock all accounts behind it")]
async fn locks_those_behind(world: &mut World) -> Step {
    let user_id = the_one_in_the_middle(world)?;
    let statement = "select from accounts where user_id > $1 order by user_id for no key update";
    let waiters = usize::from(!something_is_aside(world.stack()?).await?);
    let locked = go_on(world, (Service::Payments, waiters), || {
        sqlx::query(statement).bind(user_id)
    });
    require!(locked.await? > 0, "there are none behind it");
    Ok(())
}

#[when("somebody locks the order in the middle")]
async fn an_order_is_locked(world: &mut World) -> Step {
    let mut stranger = somebody_patient(world, Service::Orders).await?;
    let locked: Option<Uuid> = sqlx::query_scalar(
        "select order_uid from orders where order_uid = ( \
             select order_uid from orders order by order_uid \
              limit 1 offset (select count(*) / 2 from orders)) \
         for no key update",
    )
    .fetch_optional(&mut stranger)
    .await
    .context("cannot lock an order")?;
    require!(locked.is_some(), "there are no orders");
    (world.middle, world.stranger) = (locked, Some(stranger));
    Ok(())
}

#[then("a transaction of Orders waits for it")]
async fn orders_waits(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("a transaction waits", || async move {
        let waiting = waiting(stack, Service::Orders).await?.len();
        ensure!(waiting == 1, "{waiting} do");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Orders waits for the one that is held, having locked those before it and none behind it.
#[then("whoever has locked it can lock all orders behind it")]
async fn locks_orders_behind(world: &mut World) -> Step {
    let order_uid = world.middle.context("no order is locked")?;
    let statement = "select from orders where order_uid > $1 order by order_uid for no key update";
    let behind = || sqlx::query(statement).bind(order_uid);
    let locked = go_on(world, (Service::Orders, 1), behind).await?;
    require!(locked > 0, "there are none behind it");
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
    let mut stranger = somebody_patient(world, Service::Payments).await?;
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
        let waiting = waiting(stack, Service::Payments).await?.len();
        ensure!(waiting == 2, "{waiting} do");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Whoever takes places in the order of the messages' ids and waits for one has taken none behind it.
#[then("whoever holds it can take all places behind it")]
async fn takes_those_behind(world: &mut World) -> Step {
    let message_id = world.middle.context("no requests were put back")?;
    let mut orders = audit::connect(world.stack()?, Service::Orders).await?;
    let behind: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "select distinct message_id, order_uid from audit.outbox where message_id > $1",
    )
    .bind(message_id)
    .fetch_all(&mut orders)
    .await
    .context("cannot read the outbox")?;
    orders.close().await?;
    require!(!behind.is_empty(), "there are none behind it");
    let (ids, keys): (Vec<Uuid>, Vec<Uuid>) = behind.into_iter().unzip();
    let statement = "insert into inbox_messages (message_id, key, outcome) \
         select id, key, 'applied' from unnest($1::uuid[], $2::uuid[]) as m (id, key) order by id \
         on conflict do nothing";
    go_on(world, (Service::Payments, 2), || {
        sqlx::query(statement).bind(&ids).bind(&keys)
    })
    .await?;
    Ok(())
}

/// A fraction of what a service waits for a lock.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// What somebody who holds something asks for next. It counts only if so many transactions of the service have waited
/// all the while: one that gave up in between, because its patience was over, could not have stood in the way.
async fn go_on<'q>(
    world: &mut World,
    (service, waiters): (Service, usize),
    query: impl Fn() -> Query<'q>,
) -> anyhow::Result<u64> {
    let mut stranger = world.stranger.take().context("nobody holds anything")?;
    let begun = Instant::now();
    let mut looks = tokio::time::interval(BETWEEN_LOOKS);
    let rows = loop {
        looks.tick().await;
        ensure!(
            begun.elapsed() < PATIENCE,
            "they do not wait for long enough"
        );
        let before = waiting(world.stack()?, service).await?;
        if before.len() < waiters {
            continue;
        }
        sqlx::raw_sql("savepoint before")
            .execute(&mut stranger)
            .await?;
        let done = query().execute(&mut stranger).await;
        let rows = done
            .context("what is behind is not to be had")?
            .rows_affected();
        let after = waiting(world.stack()?, service).await?;
        if before.iter().all(|waiter| after.contains(waiter)) {
            break rows;
        }
        sqlx::raw_sql("rollback to before")
            .execute(&mut stranger)
            .await?;
    };
    world.stranger = Some(stranger);
    Ok(rows)
}

/// The transactions of a service's consumers that wait for a lock, each with since when, in microseconds.
async fn waiting(stack: &Stack, service: Service) -> anyhow::Result<Vec<(i32, i64)>> {
    let mut connection = audit::connect(stack, service).await?;
    let waiting = sqlx::query_as(
        "select distinct pid, (extract(epoch from waitstart) * 1000000)::bigint \
           from pg_locks join pg_stat_activity using (pid) \
          where datname = current_database() and application_name = $1 \
            and not granted and waitstart is not null",
    )
    .bind(format!("paidonce-{service}-consumer"))
    .fetch_all(&mut connection)
    .await
    .context("cannot read the locks")?;
    connection.close().await?;
    Ok(waiting)
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

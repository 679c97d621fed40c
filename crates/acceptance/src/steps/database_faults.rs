//! What an administrator, or a fault, does to the databases of one scenario, on a server that others use as well.
//!
//! Not here: the server itself (`faults`), and rows that somebody changes (`tampering`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cucumber::{given, then, when};
use prover::quiescence;
use sandbox::Link;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::audit;
use crate::eventually::{eventually, within};
use crate::failed::Step;
use crate::parameters::{FarEnd, Person, Which};
use crate::process::Service;
use crate::stack::Stack;
use crate::steps::deposits::a_deposit_is_deferred;
use crate::steps::services::until_orders_are_under_way;
use crate::steps::ways::way;
use crate::world::World;

/// How often connections are ended, so that some end in the middle of something.
const ROUNDS: usize = 5;
/// How long the databases can only be read (fault D13).
const READ_ONLY_FOR: Duration = Duration::from_secs(120);
/// Orders that must be open before and after that.
const HELD: u64 = 20;
/// The two services that have a database.
const BOTH: [Service; 2] = [Service::Orders, Service::Payments];

#[given("the services log in as ordinary users")]
async fn ordinary_users(world: &mut World) -> Step {
    world.settings_mut()?.ordinary_login = true;
    Ok(())
}

#[given("the databases isolate transactions as if one came after the other")]
async fn serializable(world: &mut World) -> Step {
    let stack = world.prepare().await?;
    for service in BOTH {
        let set = "set default_transaction_isolation = 'serializable'";
        alter_database(stack, service, set).await?;
    }
    Ok(())
}

#[then("transactions came into each other's way")]
async fn transactions_collided(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("a transaction was rolled back", || async move {
        let rolled_back = audit::statistic(stack, Service::Payments, "xact_rollback").await?;
        ensure!(rolled_back > 0, "none was");
        Ok(())
    })
    .await?;
    Ok(())
}

/// The services are started again for the end of the scenario.
#[then("no transaction came into a deadlock")]
async fn no_deadlock(world: &mut World) -> Step {
    let stack = world.stack_mut()?;
    stack.end_all().await;
    Ok(audit::no_deadlocks(stack, 0).await?)
}

#[when(
    expr = "the database connections of {service}'s {word} are ended again and again while orders are under way"
)]
async fn connections_are_ended(world: &mut World, service: Which, role: String) -> Step {
    until_orders_are_under_way(world).await?;
    let stack = world.stack()?;
    let name = format!("paidonce-{}-{role}", service.0.service);
    for _ in 0..ROUNDS {
        eventually("connections are there, and are ended", || async {
            let ended = end_connections(stack, service.0.service, &name).await?;
            ensure!(ended > 0, "there is none of {name}");
            Ok(())
        })
        .await?;
    }
    eventually("one is ended in the middle of its work", || {
        end_at_work(stack, service.0.service, &name)
    })
    .await?;
    Ok(())
}

/// Nobody can write while this is held. Taken in the order in which all take it.
const NOBODY_WRITES: &str =
    "begin; lock table inbox_messages in share mode; lock table outbox_messages in share mode";

/// Lets them begin something that they cannot end, and ends them over it.
async fn end_at_work(stack: &Stack, service: Service, name: &str) -> anyhow::Result<()> {
    let mut stranger = audit::connect(stack, service).await?;
    sqlx::raw_sql(NOBODY_WRITES).execute(&mut stranger).await?;
    let mut other = audit::connect(stack, service).await?;
    let other = &mut other;
    let mut ended: i64 = 0;
    let begun = Instant::now();
    while ended == 0 && begun.elapsed() < HELD_BACK {
        ended = sqlx::query_scalar(
            "select count(*) from ( \
                 select pg_terminate_backend(pid) as done from pg_stat_activity \
                  where datname = current_database() and application_name = $1 \
                    and wait_event_type = 'Lock') as a \
              where done",
        )
        .bind(name)
        .fetch_one(&mut *other)
        .await?;
    }
    stranger.close().await?;
    ensure!(ended > 0, "none of {name} is at work");
    Ok(())
}

/// Less than a service waits for a lock.
const HELD_BACK: Duration = Duration::from_secs(1);

#[when(expr = "the database of {service} lets nobody in any more")]
async fn nobody_is_let_in(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    limit_connections(stack, service.0.service, 0).await?;
    Ok(end_all(stack, service.0.service).await?)
}

#[when(expr = "the database of {service} lets everybody in again")]
async fn everybody_is_let_in(world: &mut World, service: Which) -> Step {
    Ok(limit_connections(world.stack()?, service.0.service, -1).await?)
}

#[when(expr = "the password of {service}'s database is changed")]
async fn the_password_is_changed(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    set_password(stack, service.0.service, "another").await?;
    Ok(end_all(stack, service.0.service).await?)
}

#[when(expr = "the password of {service}'s database is as before")]
async fn the_password_is_as_before(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    let password = stack.sandbox().postgres.password();
    Ok(set_password(stack, service.0.service, password).await?)
}

#[when("both databases can only be read")]
async fn read_only(world: &mut World) -> Step {
    let stack = world.stack()?;
    // Payments first, so that requests wait in its hands all the time.
    for service in [Service::Payments, Service::Orders] {
        alter_database(stack, service, "set default_transaction_read_only = on").await?;
        end_all(stack, service).await?;
        eventually("orders are open", || async move {
            let open = quiescence::in_flight(stack.databases()).await?.open_orders;
            ensure!(open >= HELD, "{open} are");
            Ok(())
        })
        .await?;
    }
    world.read_only_since = Some(Instant::now());
    Ok(())
}

/// The row of the matrix is about this long.
#[when("two minutes have gone by since the databases could be written")]
async fn two_minutes_have_gone_by(world: &mut World) -> Step {
    let since = world.read_only_since.context("they can be written")?;
    within(
        READ_ONLY_FOR * 2,
        "two minutes have gone by",
        || async move {
            let age = since.elapsed();
            ensure!(age >= READ_ONLY_FOR, "{age:?} have");
            Ok(())
        },
    )
    .await?;
    Ok(())
}

#[when("both databases can be written again")]
async fn writable(world: &mut World) -> Step {
    let stack = world.stack()?;
    for service in BOTH {
        alter_database(stack, service, "reset default_transaction_read_only").await?;
        // There may be none: a service does not keep sessions that cannot write.
        end_connections(stack, service, "paidonce-%").await?;
    }
    world.read_only_since = None;
    Ok(())
}

#[then(expr = "{person} can still read her order and her balance, and is told to pay in later")]
async fn reads_go_on(world: &mut World, person: Person) -> Step {
    let placed = world.last_order(&person)?;
    let client = world.client()?;
    eventually("reads go on, and writes do not", || async {
        client.order(placed.user_id, placed.id).await.ok()?;
        client.account(placed.user_id).await.ok()?;
        a_deposit_is_deferred(client, placed.user_id).await
    })
    .await?;
    Ok(())
}

#[when(
    expr = "the way from {service} to its database swallows everything in the middle of a transaction"
)]
async fn swallowed_in_a_transaction(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    let way = way(world, service, FarEnd::Database)?;
    let held = eventually("a transaction is held up", || async {
        way.set_link(Link::Stalled);
        let held = within(HELD_UP, "it waits for its client", || {
            held_up(stack, service.0.service)
        })
        .await;
        if held.is_err() {
            way.set_link(Link::Up);
        }
        held
    })
    .await?;
    world.held_up = Some(held);
    Ok(())
}

#[then(expr = "the database of {service} gives that transaction up")]
async fn the_transaction_is_given_up(world: &mut World, service: Which) -> Step {
    let held = world.held_up.context("no transaction is held up")?;
    let stack = world.stack()?;
    eventually("the session is gone", || async move {
        let mut connection = audit::connect(stack, service.0.service).await?;
        let there: bool =
            sqlx::query_scalar("select exists (select from pg_stat_activity where pid = $1)")
                .bind(held)
                .fetch_one(&mut connection)
                .await?;
        connection.close().await?;
        ensure!(!there, "it is there");
        Ok(())
    })
    .await?;
    Ok(())
}

/// How long it takes until what was under way has settled.
const HELD_UP: std::time::Duration = std::time::Duration::from_secs(3);

/// A session that has waited in a transaction for a second.
async fn held_up(stack: &Stack, service: Service) -> anyhow::Result<i32> {
    let mut connection = audit::connect(stack, service).await?;
    let held = sqlx::query_scalar(
        "select pid from pg_stat_activity \
         where datname = current_database() and state = 'idle in transaction' \
           and state_change < now() - interval '1 s' limit 1",
    )
    .fetch_optional(&mut connection)
    .await?;
    let states: Vec<(String, Option<String>)> = sqlx::query_as(
        "select application_name, state from pg_stat_activity where datname = current_database()",
    )
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    held.with_context(|| format!("none is in a transaction: {states:?}"))
}

async fn alter_database(stack: &Stack, service: Service, how: &str) -> anyhow::Result<()> {
    let name = stack.database_name(service)?;
    administer(stack, &format!("alter database \"{name}\" {how}")).await
}

async fn limit_connections(stack: &Stack, service: Service, limit: i32) -> anyhow::Result<()> {
    // The login has the database's name.
    let name = stack.database_name(service)?;
    administer(
        stack,
        &format!("alter role \"{name}\" connection limit {limit}"),
    )
    .await
}

async fn set_password(stack: &Stack, service: Service, password: &str) -> anyhow::Result<()> {
    let name = stack.database_name(service)?;
    let password = password.replace('\'', "''");
    let statement = format!("alter role \"{name}\" password '{password}'");
    administer(stack, &statement).await
}

async fn administer(stack: &Stack, statement: &str) -> anyhow::Result<()> {
    let url = stack.sandbox().postgres.url("postgres");
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .with_context(|| statement.to_owned())?;
    Ok(connection.close().await?)
}

/// Ends all sessions of a service.
async fn end_all(stack: &Stack, service: Service) -> anyhow::Result<()> {
    let ended = end_connections(stack, service, "paidonce-%").await?;
    ensure!(ended > 0, "{service} had no connection to its database");
    Ok(())
}

async fn end_connections(stack: &Stack, service: Service, name: &str) -> anyhow::Result<i64> {
    let mut connection = audit::connect(stack, service).await?;
    let ended = end_sessions(&mut connection, name).await?;
    connection.close().await?;
    Ok(ended)
}

/// Ends the sessions of those names in the database of `connection`, and returns how many there were.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn end_sessions(connection: &mut PgConnection, name: &str) -> anyhow::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from (\
             select pg_terminate_backend(pid) as ended from pg_stat_activity \
             where datname = current_database() and application_name like $1 \
               and application_name not like '%audit') as a \
         where ended",
    )
    .bind(name)
    .fetch_one(connection)
    .await
    .context("cannot end connections")
}

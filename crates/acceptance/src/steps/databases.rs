//! A scenario's own databases, held up by somebody else.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use cucumber::{given, then, when};
use sqlx::{Connection as _, PgConnection};

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Person, Which};
use crate::process::Service;
use crate::world::World;

/// Under which the services migrate (`chassis::database`): "paidonce" in ASCII.
const MIGRATION_LOCK: i64 = 0x7061_6964_6f6e_6365;

/// Twice as often as a message may fail (`CONSUMER__MAX_ATTEMPTS`).
const TRIES: usize = 6;

#[given(expr = "the database of {service} is being migrated by another process")]
async fn the_database_is_being_migrated(world: &mut World, service: Which) -> Step {
    let url = world.prepare().await?.database_url(service.0.service)?;
    let mut stranger = connect(&url).await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut stranger)
        .await
        .context("cannot take the lock")?;
    world.stranger = Some(stranger);
    Ok(())
}

#[given(expr = "somebody else holds {person}'s account locked")]
async fn somebody_holds_an_account(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let mut stranger = begin(world).await?;
    let held = sqlx::query("select from accounts where user_id = $1 for update")
        .bind(user_id)
        .execute(&mut stranger)
        .await
        .context("cannot lock the account")?;
    require!(held.rows_affected() == 1, "there is no account to hold");
    world.stranger = Some(stranger);
    Ok(())
}

#[given("somebody else holds all accounts locked")]
async fn somebody_holds_all_accounts(world: &mut World) -> Step {
    let mut stranger = begin(world).await?;
    sqlx::query("lock table accounts")
        .execute(&mut stranger)
        .await
        .context("cannot lock the accounts")?;
    world.stranger = Some(stranger);
    Ok(())
}

/// Each try of the consumer is a statement that waits for the accounts, until the lock's timeout ends it. A fault of
/// the server counts as nobody's, so nothing may come of it.
#[then("Payments has tried in vain more often than a message may fail")]
async fn has_tried_in_vain(world: &mut World) -> Step {
    let tries = Mutex::new(BTreeSet::new());
    let (stack, tries) = (world.stack()?, &tries);
    eventually("it tries again and again", || async move {
        let mut connection = audit::connect(stack, Service::Payments).await?;
        let begun: Vec<String> = sqlx::query_scalar(
            "select query_start::text from pg_stat_activity \
             where datname = current_database() and wait_event_type = 'Lock' \
               and application_name = 'paidonce-payments-consumer' and query like '%something_waits%'",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.extend(begun);
        ensure!(tries.len() >= TRIES, "it has tried {} times", tries.len());
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the lock is let go")]
#[when("the other process is done")]
async fn the_other_process_is_done(world: &mut World) -> Step {
    let stranger = world.stranger.take().context("there is no other process")?;
    Ok(stranger.close().await.context("it does not end")?)
}

/// The rows that change meanwhile cannot be cleared away.
#[given("somebody holds a snapshot of Payments's database")]
async fn somebody_holds_a_snapshot(world: &mut World) -> Step {
    let mut stranger = begin(world).await?;
    sqlx::raw_sql("set transaction isolation level repeatable read; select count(*) from payments")
        .execute(&mut stranger)
        .await
        .context("cannot read the payments")?;
    world.stranger = Some(stranger);
    Ok(())
}

#[then("the snapshot shows none of their payments")]
async fn the_snapshot_is_old(world: &mut World) -> Step {
    let snapshot = world.stranger.as_mut().context("nobody holds a snapshot")?;
    let seen: i64 = sqlx::query_scalar("select count(*) from payments")
        .fetch_one(snapshot)
        .await
        .context("the snapshot is gone")?;
    let mut now = audit::connect(world.stack()?, Service::Payments).await?;
    let there: i64 = sqlx::query_scalar("select count(*) from payments")
        .fetch_one(&mut now)
        .await?;
    require!(
        seen == 0 && there > 0,
        "it shows {seen} payments, of {there}"
    );
    Ok(())
}

/// A transaction of somebody else in the database of Payments.
async fn begin(world: &mut World) -> anyhow::Result<PgConnection> {
    let url = world.prepare().await?.database_url(Service::Payments)?;
    let mut stranger = connect(&url).await?;
    sqlx::query("begin").execute(&mut stranger).await?;
    Ok(stranger)
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    PgConnection::connect(url)
        .await
        .context("cannot connect to a database")
}

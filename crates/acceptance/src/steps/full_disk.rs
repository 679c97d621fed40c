//! A database whose disk is full. Scenarios with these sentences are tagged `@containers`: only there is a small disk.

use anyhow::{Context as _, bail, ensure};
use cucumber::{given, then, when};
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::steps::database_faults::end_sessions;
use crate::world::World;

/// `disk_full`.
const DISK_FULL: &str = "53100";
/// Rows at a time: first megabytes, then about a page.
const PORTIONS: [u32; 2] = [100_000, 200];
/// Customers who are all answered alike.
const ASKED: usize = 20;

#[given(expr = "the database of {service} is on a small disk")]
async fn on_a_small_disk(world: &mut World, service: Which) -> Step {
    let stack = world.prepare().await?;
    Ok(stack.put_on_small_disk(service.0.service).await?)
}

#[when(expr = "the disk of {service}'s database fills up")]
async fn the_disk_fills_up(world: &mut World, service: Which) -> Step {
    let mut stranger = audit::connect(world.stack()?, service.0.service).await?;
    // What a failed insert has taken must stay taken.
    sqlx::raw_sql("create table ballast (n bigint) with (autovacuum_enabled = off)")
        .execute(&mut stranger)
        .await
        .context("cannot make ballast")?;
    for portion in PORTIONS {
        fill(&mut stranger, portion).await?;
    }
    // Kept: on a full disk PostgreSQL may refuse a session that begins.
    world.stranger = Some(stranger);
    Ok(())
}

/// Until nothing more goes in.
async fn fill(stranger: &mut PgConnection, portion: u32) -> anyhow::Result<()> {
    let insert = format!("insert into ballast select generate_series(1, {portion})");
    loop {
        let inserted = sqlx::raw_sql(AssertSqlSafe(insert.clone()))
            .execute(&mut *stranger)
            .await;
        match inserted {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(DISK_FULL) => {
                return Ok(());
            }
            Err(error) => bail!("the disk is not full, but: {error}"),
        }
    }
}

/// The first session after the file with its tables' descriptions is gone must write it anew, and is ended if it
/// cannot. PostgreSQL removes the file itself, whenever a `vacuum` touches its own tables.
#[when(expr = "no session can begin in the database of {service} any more")]
async fn no_session_can_begin(world: &mut World, service: Which) -> Step {
    let mut stranger = world.stranger.take().context("the disk is not full")?;
    let stack = world.stack()?;
    let remove = "do $$ begin execute format('copy (select) to program %L', 'rm -f ' \
                  || regexp_replace(pg_relation_filepath('pg_class'), '[^/]*$', 'pg_internal.init')); end $$";
    let held = tokio::sync::Mutex::new(&mut stranger);
    let held = &held;
    eventually("sessions are refused", || async move {
        let stranger = &mut **held.lock().await;
        sqlx::raw_sql(remove).execute(&mut *stranger).await?;
        // What the file has taken is free now. A session may come first, and write it back.
        fill(stranger, PORTIONS[1]).await?;
        match audit::connect(stack, service.0.service).await {
            Ok(_) => bail!("a session has begun"),
            Err(error) => ensure!(is_the_end(&error), "refused otherwise: {error:#}"),
        }
        Ok(())
    })
    .await?;
    let ended = end_sessions(&mut stranger, "paidonce-%").await?;
    require!(ended > 0, "{} had no session", service.0.service);
    world.stranger = Some(stranger);
    Ok(())
}

/// The server has ended the session.
fn is_the_end(error: &anyhow::Error) -> bool {
    let from_server = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(sqlx::Error::Database(error)) => error.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    });
    from_server.is_some_and(|error| error.severity() == PgSeverity::Fatal)
}

#[then("who orders is told to come back later")]
async fn told_to_come_back(world: &mut World) -> Step {
    let client = world.client()?;
    for _ in 0..ASKED {
        let order = r#"{"user_id":101,"amount":"1.00","description":"no room"}"#;
        let sent = client.send("POST", "/v1/orders/", Some(order.to_owned()));
        let answer = sent.await.ok()?;
        require!(
            answer.status == 503 && answer.headers.contains_key("retry-after"),
            "an order is answered {} {}",
            answer.status,
            answer.body
        );
    }
    Ok(())
}

#[when("there is room again on the disk")]
async fn there_is_room_again(world: &mut World) -> Step {
    let mut stranger = world.stranger.take().context("the disk is not full")?;
    sqlx::raw_sql("drop table ballast")
        .execute(&mut stranger)
        .await
        .context("cannot make room")?;
    Ok(stranger.close().await?)
}

//! A database whose disk is full. Scenarios with these sentences are tagged `@containers`: only there is a small disk.

use anyhow::{Context as _, bail};
use cucumber::{given, when};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::audit;
use crate::failed::Step;
use crate::parameters::Which;
use crate::world::World;

/// `disk_full`.
const DISK_FULL: &str = "53100";
/// Rows at a time: first megabytes, then about a page.
const PORTIONS: [u32; 2] = [100_000, 200];

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
    Ok(stranger.close().await?)
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

#[when(expr = "there is room again on the disk of {service}'s database")]
async fn there_is_room_again(world: &mut World, service: Which) -> Step {
    let mut stranger = audit::connect(world.stack()?, service.0.service).await?;
    sqlx::raw_sql("drop table ballast")
        .execute(&mut stranger)
        .await
        .context("cannot make room")?;
    Ok(stranger.close().await?)
}

//! A scenario's own databases, held up by somebody else.

use anyhow::Context as _;
use cucumber::{given, when};
use sqlx::{Connection as _, PgConnection};

use crate::failed::Step;
use crate::parameters::Which;
use crate::world::World;

/// Under which the services migrate (`chassis::database`): "paidonce" in ASCII.
const MIGRATION_LOCK: i64 = 0x7061_6964_6f6e_6365;

#[given(expr = "the database of {service} is being migrated by another process")]
async fn the_database_is_being_migrated(world: &mut World, service: Which) -> Step {
    let url = world.prepare().await?.database_url(service.0)?;
    let mut stranger = connect(&url).await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut stranger)
        .await
        .context("cannot take the lock")?;
    world.stranger = Some(stranger);
    Ok(())
}

#[when("the other process is done")]
async fn the_other_process_is_done(world: &mut World) -> Step {
    let stranger = world.stranger.take().context("there is no other process")?;
    Ok(stranger.close().await.context("it does not end")?)
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    PgConnection::connect(url)
        .await
        .context("cannot connect to a database")
}

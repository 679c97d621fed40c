//! Bringing a database to its newest form, by one process at a time, whenever it can be reached.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::pool::{KEEPALIVE, login};
use super::{DatabaseConfig, bounded, is_unavailable};
use crate::error::chain;

/// Locks are per database, so one number serves all: "paidonce" in ASCII.
const LOCK: i64 = 0x7061_6964_6f6e_6365;

/// How long one attempt waits for another process that migrates.
const TURN_WAIT: &str = "10s";
/// How long each of its statements waits for a table in use, and every insert behind it with it.
const TABLE_WAIT: &str = "set lock_timeout = '500ms'";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The database cannot be brought to its newest form, and waiting will not help.
#[derive(Debug, thiserror::Error)]
#[error("cannot migrate database {database}")]
pub struct MigrateError {
    /// Name of the database.
    pub database: String,
    /// What went wrong: a changed migration, a wrong login, a statement that fails.
    pub source: sqlx::migrate::MigrateError,
}

/// Applies what is missing, under an advisory lock, and tries again with growing pauses while the
/// database cannot be reached or is busy. Logs each kind of failure once.
///
/// Returns `Ok(false)` when `shutdown` came first.
///
/// # Errors
/// When a migration fails for good.
pub async fn migrate(
    config: &DatabaseConfig,
    service: &str,
    migrator: &Migrator,
    shutdown: &CancellationToken,
) -> Result<bool, MigrateError> {
    let migrator = patient(migrator);
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let attempt = attempt(config, service, &migrator);
        let error = match shutdown.run_until_cancelled(attempt).await {
            None => return Ok(false),
            Some(Ok(())) => return Ok(true),
            Some(Err(error)) => error,
        };
        if !may_pass(&error) {
            return Err(MigrateError {
                database: config.name.clone(),
                source: error,
            });
        }
        let text = chain(&error);
        if text != told {
            let name = &config.name;
            tracing::warn!(
                database = name,
                "waiting to migrate database {name}: {text}"
            );
            told = text;
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return Ok(false);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The same migrations with locking by us, whose wait is bounded, and tolerant of a database that
/// a newer version has already taken further, as in a rolling deployment.
fn patient(migrator: &Migrator) -> Migrator {
    Migrator {
        migrations: migrator.migrations.clone(),
        ignore_missing: true,
        locking: false,
        no_tx: migrator.no_tx,
        table_name: migrator.table_name.clone(),
        create_schemas: migrator.create_schemas.clone(),
    }
}

async fn attempt(
    config: &DatabaseConfig,
    service: &str,
    migrator: &Migrator,
) -> Result<(), sqlx::migrate::MigrateError> {
    // No statement timeout: a migration may rewrite a table.
    let connection = login(config, &format!("paidonce-{service}-api"))
        .options([
            ("lock_timeout", TURN_WAIT),
            ("client_min_messages", "warning"),
        ])
        // A host that vanishes must not keep the lock from all others.
        .options(KEEPALIVE.iter().copied());
    let mut connection = bounded(connection.connect()).await?;
    let applied = apply(&mut connection, migrator).await;
    // Closing frees the lock in any case; how the closing went changes nothing.
    drop(connection.close().await);
    applied
}

async fn apply(
    connection: &mut PgConnection,
    migrator: &Migrator,
) -> Result<(), sqlx::migrate::MigrateError> {
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    sqlx::raw_sql(TABLE_WAIT).execute(&mut *connection).await?;
    migrator.run_direct(None, connection, false).await
}

fn may_pass(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError as Fault;
    match error {
        Fault::Execute(error) => is_unavailable(error),
        // A statement that this server cannot run will not run later either.
        Fault::ExecuteMigration(error, _) => {
            let code = error.as_database_error().and_then(|error| error.code());
            is_unavailable(error) && code.as_deref() != Some("0A000")
        }
        _ => false,
    }
}

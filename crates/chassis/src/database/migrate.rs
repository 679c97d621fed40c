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

/// How often a migration that takes long is looked after.
const LOOK: Duration = Duration::from_secs(5);

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
    let session = bounded(session(&mut connection)).await?;
    let applied = tokio::select! {
        applied = apply(&mut connection, migrator) => applied,
        () = ended(config, service, &session) => {
            return Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()).into());
        }
    };
    // Closing frees the lock in any case; how the closing went changes nothing.
    drop(bounded(connection.close()).await);
    applied
}

/// What tells one session of the server from all others: process and start.
async fn session(connection: &mut PgConnection) -> Result<(i32, String), sqlx::Error> {
    sqlx::query_as(
        "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()",
    )
    .fetch_one(connection)
    .await
}

/// Ends when the server has this session no more. A migration may take any time, and a host that
/// vanished and came back says nothing on the old connection: neither sqlx nor the socket would
/// ever give it up.
async fn ended(config: &DatabaseConfig, service: &str, (pid, start): &(i32, String)) {
    loop {
        tokio::time::sleep(LOOK).await;
        let is_there = async {
            let connection = login(config, &format!("paidonce-{service}-api"));
            let mut connection = connection.connect().await?;
            let is_there = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                                 where pid = $1 and backend_start::text = $2)",
            );
            let is_there = is_there.bind(pid).bind(start).fetch_one(&mut connection);
            let is_there: bool = is_there.await?;
            connection.close().await?;
            Ok::<bool, sqlx::Error>(is_there)
        };
        if let Ok(false) = bounded(is_there).await {
            return;
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::SslMode;
    use super::super::server_tests::{fresh, migrator};
    use super::*;

    /// A way to a server on which the first connection falls silent, for good and on both sides, as
    /// soon as its client says `word`; the server has lost it then.
    async fn falling_silent(server: (String, u16), word: &'static [u8]) -> anyhow::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            let (mut first, _) = listener.accept().await?;
            let mut behind = TcpStream::connect(server.clone()).await?;
            let (mut said, mut answered) = ([0; 4096], [0; 4096]);
            loop {
                tokio::select! {
                    count = first.read(&mut said) => {
                        let said = &said[..count?];
                        if said.windows(word.len()).any(|window| window == word) {
                            break;
                        }
                        behind.write_all(said).await?;
                    }
                    count = behind.read(&mut answered) => first.write_all(&answered[..count?]).await?,
                }
            }
            drop(behind);
            loop {
                let ((mut client, _), server) = (listener.accept().await?, server.clone());
                tokio::spawn(async move {
                    let mut behind = TcpStream::connect(server).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut behind).await
                });
            }
            #[expect(unreachable_code, reason = "names the type of its errors")]
            Ok::<_, std::io::Error>(first)
        });
        Ok(port)
    }

    #[tokio::test]
    async fn a_migration_whose_connection_fell_silent_is_begun_anew() -> anyhow::Result<()> {
        let there = fresh().await?;
        let server = (there.host.clone(), there.port);
        let config = DatabaseConfig {
            host: "127.0.0.1".to_owned(),
            port: falling_silent(server, b"pg_advisory_lock").await?,
            sslmode: SslMode::Disable,
            ..there
        };
        let shutdown = CancellationToken::new();
        let migrator = migrator("select 1");
        let migrated = migrate(&config, "orders", &migrator, &shutdown);
        assert!(tokio::time::timeout(Duration::from_secs(30), migrated).await??);
        Ok(())
    }
}

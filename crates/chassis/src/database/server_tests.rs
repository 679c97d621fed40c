//! Promises that only a real server can show.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool, SqlSafeStr as _};
use tokio_util::sync::CancellationToken;

use super::*;

pub(super) async fn fresh() -> anyhow::Result<DatabaseConfig> {
    let database = sandbox::shared().await.database().await?;
    Ok(DatabaseConfig {
        host: database.host().to_owned(),
        port: database.port(),
        user: database.user().to_owned(),
        password: SecretString::from(database.password()),
        name: database.name.clone(),
        sslmode: SslMode::Prefer,
        pool: 1,
    })
}

/// Cuts a `begin` between the sending of BEGIN and its answer, as a client that hangs up does. A
/// server on this machine may answer within the first poll; then there was nothing to cut, and it
/// is tried again.
async fn cut_a_begin(pool: &PgPool) -> anyhow::Result<()> {
    for _ in 0..1000 {
        let mut connection = pool.acquire().await?;
        let mut begin = std::pin::pin!(connection.begin());
        if futures::poll!(begin.as_mut()).is_pending() {
            return Ok(());
        }
    }
    anyhow::bail!("BEGIN was always answered before the cut");
}

/// Writes one row through `pool` and looks for it from elsewhere.
async fn write_survives(config: &DatabaseConfig, pool: &PgPool) -> anyhow::Result<bool> {
    let other = super::pool(config, "test", Role::Api, 1);
    sqlx::query("create table deposit (amount int)")
        .execute(&other)
        .await?;
    cut_a_begin(pool).await?;
    sqlx::query("insert into deposit values (500)")
        .execute(pool)
        .await?;
    let seen: i64 = sqlx::query_scalar("select count(*) from deposit")
        .fetch_one(&other)
        .await?;
    Ok(seen == 1)
}

#[tokio::test]
async fn a_dropped_begin_does_not_swallow_the_next_write() -> anyhow::Result<()> {
    let config = fresh().await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    assert!(write_survives(&config, &pool).await?);
    Ok(())
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_use() -> anyhow::Result<()> {
    let config = fresh().await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    let mut backends = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let mut transaction = pool.begin().await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        backends.insert(backend);
    }
    assert_eq!(
        backends.len(),
        1,
        "the guard closed a connection that was in order"
    );
    Ok(())
}

#[tokio::test]
async fn without_the_guard_a_dropped_begin_still_swallows_the_next_write() -> anyhow::Result<()> {
    // When a newer sqlx makes this fail, the guard in `after_release` can go.
    let config = fresh().await?;
    let plain = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(super::pool::login(&config, "plain"));
    assert!(!write_survives(&config, &plain).await?);
    Ok(())
}

#[tokio::test]
async fn connections_carry_their_name_and_limits() -> anyhow::Result<()> {
    let config = fresh().await?;
    for (role, name, seqscan) in [
        (Role::Api, "paidonce-orders-api", "on"),
        (Role::Relay, "paidonce-orders-relay", "off"),
        (Role::Consumer, "paidonce-orders-consumer", "off"),
    ] {
        let pool = pool(&config, "orders", role, 1);
        for (setting, expected) in [
            ("application_name", name),
            ("enable_seqscan", seqscan),
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("TimeZone", "UTC"),
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&pool)
                .await?;
            assert_eq!(value, expected, "{setting} of {name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_the_server_has_ended_is_not_handed_out() -> anyhow::Result<()> {
    let config = fresh().await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&pool)
        .await?;
    let other = super::pool(&config, "test", Role::Api, 1);
    sqlx::query("select pg_terminate_backend($1)")
        .bind(process)
        .execute(&other)
        .await?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let next: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&pool)
        .await
        .context("a stale connection was handed out")?;
    assert_ne!(next, process);
    Ok(())
}

/// Whatever the reason: here a setting that the server does not know, with a class that would be a fault of ours in a
/// statement.
#[tokio::test]
async fn a_session_that_the_server_refuses_or_ends_may_be_had_later() -> anyhow::Result<()> {
    let config = fresh().await?;
    let login = super::pool::login(&config, "test");
    let refused = login.clone().options([("nonsense", "1")]);
    let refused = sqlx::PgConnection::connect_with(&refused).await;
    let refused = refused.expect_err("there is no such setting");
    assert_eq!(code(&refused), "42704");
    assert!(is_unavailable(&refused));

    let mut connection = sqlx::PgConnection::connect_with(&login).await?;
    let failed = sqlx::raw_sql("set nonsense = 1").execute(&mut connection);
    let failed = failed.await.expect_err("there is no such setting");
    assert_eq!(code(&failed), "42704");
    assert!(!is_unavailable(&failed));
    Ok(())
}

fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.unwrap_or_default().into_owned()
}

pub(super) fn migrator(statement: &'static str) -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "first".into(),
        MigrationType::Simple,
        statement.into_sql_str(),
        false,
    )])
}

#[tokio::test]
async fn two_processes_migrate_one_database_once() -> anyhow::Result<()> {
    let config = fresh().await?;
    let migrator = migrator("create table thing (id int); select pg_sleep(0.3)");
    let shutdown = CancellationToken::new();
    let (first, second) = tokio::join!(
        migrate(&config, "orders", &migrator, &shutdown),
        migrate(&config, "orders", &migrator, &shutdown),
    );
    assert!(first? && second?);
    assert!(migrate(&config, "orders", &migrator, &shutdown).await?);
    Ok(())
}

/// A change of a table waits for whoever reads it, and everybody else behind the change.
#[tokio::test]
async fn a_migration_that_waits_for_a_reader_lets_writers_pass() -> anyhow::Result<()> {
    let config = fresh().await?;
    let (admin, writers) = (
        pool(&config, "reader", Role::Api, 2),
        pool(&config, "writers", Role::Api, 1),
    );
    sqlx::raw_sql("create table thing (id int)")
        .execute(&admin)
        .await?;
    let mut reader = admin.begin().await?;
    sqlx::query("select from thing")
        .fetch_all(&mut *reader)
        .await?;
    let (shutdown, migrator) = (
        CancellationToken::new(),
        migrator("alter table thing add column word text"),
    );
    let migrated = migrate(&config, "orders", &migrator, &shutdown);
    let others = async {
        until_somebody_waits(&admin).await?;
        sqlx::query("insert into thing values (1)")
            .execute(&writers)
            .await
            .context("a writer waited behind the migration for too long")?;
        anyhow::Ok(reader.rollback().await?)
    };
    let (migrated, others) = tokio::join!(migrated, others);
    others?;
    assert!(migrated?, "it is tried again");
    Ok(())
}

async fn until_somebody_waits(admin: &PgPool) -> anyhow::Result<()> {
    let waits = "select exists (select from pg_stat_activity \
                 where datname = current_database() and wait_event_type = 'Lock')";
    tokio::time::timeout(Duration::from_secs(10), async {
        while !sqlx::query_scalar::<_, bool>(waits)
            .fetch_one(admin)
            .await?
        {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?
}

#[tokio::test]
async fn a_migration_that_fails_for_good_is_an_error() -> anyhow::Result<()> {
    let config = fresh().await?;
    let shutdown = CancellationToken::new();
    let error = migrate(&config, "orders", &migrator("create tabel x"), &shutdown)
        .await
        .expect_err("the statement is wrong");
    assert_eq!(
        error.to_string(),
        format!("cannot migrate database {}", config.name)
    );
    assert!(migrate(&config, "orders", &migrator("select 1"), &shutdown).await?);
    migrate(&config, "orders", &migrator("select 2"), &shutdown)
        .await
        .expect_err("an applied migration was changed");
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_made_later_is_waited_for() -> anyhow::Result<()> {
    let there = fresh().await?;
    let config = DatabaseConfig {
        name: format!("{}_later", there.name),
        ..there.clone()
    };
    let shutdown = CancellationToken::new();
    let migrator = migrator("select 1");
    let mut migrated = std::pin::pin!(migrate(&config, "orders", &migrator, &shutdown));
    let admin = pool(&there, "test", Role::Api, 1);
    let statement = format!("create database \"{}\"", config.name);
    tokio::select! {
        ended = &mut migrated => anyhow::bail!("it has not waited: {ended:?}"),
        made = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&admin) => { made?; }
    }
    assert!(migrated.await?);
    Ok(())
}

/// Black hole: what the server says does not arrive any more.
#[tokio::test]
async fn an_answer_that_never_comes_is_not_waited_for_and_its_place_is_free_again()
-> anyhow::Result<()> {
    let config = fresh().await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    let error = within(Duration::from_millis(100), async {
        let mut connection = pool.acquire().await?;
        let hangs = sqlx::query("select pg_sleep(3)").execute(&mut *connection);
        let mut hangs = std::pin::pin!(hangs);
        assert!(futures::poll!(hangs.as_mut()).is_pending());
        std::future::pending::<Result<(), sqlx::Error>>().await
    })
    .await
    .expect_err("nothing answers");
    assert!(is_unavailable(&error), "{error}");
    let one: i32 = sqlx::query_scalar("select 1").fetch_one(&pool).await?;
    assert_eq!(one, 1);
    Ok(())
}

#[tokio::test]
async fn a_session_that_began_read_only_is_not_kept() -> anyhow::Result<()> {
    let config = fresh().await?;
    let admin = super::pool(&config, "test", Role::Api, 1);
    let set = |setting: &str| {
        let name = &config.name;
        let statement =
            format!("alter database \"{name}\" set default_transaction_read_only = {setting}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
    };
    set("on").execute(&admin).await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    let refused = sqlx::query("create table written (id int)")
        .execute(&pool)
        .await;
    let code = refused
        .err()
        .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    assert_eq!(code.as_deref(), Some("25006"));
    set("off").execute(&admin).await?;
    sqlx::query("create table written (id int)")
        .execute(&pool)
        .await?;
    Ok(())
}

#[tokio::test]
async fn shutdown_ends_the_wait_for_a_database_that_is_down() -> anyhow::Result<()> {
    // A port that was free a moment ago: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let config = DatabaseConfig {
        host: "127.0.0.1".to_owned(),
        port,
        user: "user".to_owned(),
        password: SecretString::from("password"),
        name: "orders_db".to_owned(),
        sslmode: SslMode::Prefer,
        pool: 1,
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let migrator = migrator("select 1");
    let (migrated, ()) = tokio::join!(
        migrate(&config, "orders", &migrator, &shutdown),
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.cancel();
        }
    );
    assert!(!migrated?);
    Ok(())
}

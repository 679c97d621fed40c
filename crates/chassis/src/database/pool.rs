//! Connection options and the pool with its guard against leaked transactions.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};

use super::{DatabaseConfig, Role, SslMode};

/// How long a request waits for a connection before it is told that the service is unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection that comes back may take to say that it is in order. One whose server is
/// gone without a word would else keep its place in the pool for ever.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is asked for a sign of life before use.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Set on every connection: no statement, lock or forgotten transaction may hold on for ever.
const SESSION: &[(&str, &str)] = &[
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("client_min_messages", "warning"),
];

/// So that the server notices a client whose host is gone.
pub(super) const KEEPALIVE: &[(&str, &str)] = &[
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20s"),
];

/// Set where batches run prepared statements. A plan made on an empty table is kept for the life
/// of the connection; without these it may scan the table for every batch once there are rows.
const BATCH_PLANS: &[(&str, &str)] = &[
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("enable_nestloop", "off"),
    ("enable_mergejoin", "off"),
];

/// Set where the first few rows are taken in the order of an index, out of however many there are:
/// with statistics that are out of date, gathering and sorting them all looks as cheap. And a list
/// that is given with a statement is hashed only by a plan that is made for it.
const ORDERED_PLANS: &[(&str, &str)] = &[
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("plan_cache_mode", "force_custom_plan"),
];

/// Set for the relay, which only claims, marks and puts back outbox rows: one that a crash of the
/// server loses is a second send, and the receiver's inbox absorbs it.
const RELAY: &[(&str, &str)] = &[("synchronous_commit", "off")];

/// Set where nothing is written: each statement is its own snapshot, also in a database whose
/// transactions are serializable, so that no writer has to give way to it. And a few rows are read
/// through the index that finds them: with statistics that are out of date, walking a table in
/// order until enough of them have come by looks cheaper, and reads all of it.
const READING: &[(&str, &str)] = &[
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("random_page_cost", "0.1"),
    ("default_transaction_isolation", "read committed"),
];

/// Makes a pool of at most `size` connections, named `paidonce-<service>-<role>`. Connects when
/// first used, so a database that is down does not stop the start.
///
/// Must be called inside a Tokio runtime.
pub fn pool(config: &DatabaseConfig, service: &str, role: Role, size: u32) -> PgPool {
    let mut options = login(config, &format!("paidonce-{service}-{}", role.as_str()))
        .options(SESSION.iter().chain(KEEPALIVE).copied());
    if matches!(role, Role::Relay | Role::Consumer | Role::Upkeep) {
        options = options.options(BATCH_PLANS.iter().copied());
    }
    if matches!(role, Role::Upkeep) {
        options = options.options(ORDERED_PLANS.iter().copied());
    }
    if matches!(role, Role::Reconciliation) {
        options = options.options(READING.iter().copied());
    }
    if matches!(role, Role::Relay) {
        options = options.options(RELAY.iter().copied());
    }
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Asking a busy connection each time would cost a round trip per request.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(
                async move { Ok(meta.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok()) },
            )
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                tokio::time::timeout(RELEASE_LIMIT, is_fit(connection))
                    .await
                    // An error has it cut off; a polite end would wait for the same server.
                    .map_err(|_| sqlx::Error::PoolTimedOut)
            })
        })
        .connect_lazy_with(options)
}

/// What every connection to this database begins with.
pub(super) fn login(config: &DatabaseConfig, application_name: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .username(&config.user)
        .password(config.password.expose_secret())
        .database(&config.name)
        .ssl_mode(match config.sslmode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Allow => PgSslMode::Allow,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        })
        .application_name(application_name)
        .disable_statement_logging()
}

/// Guard against a fault of sqlx 0.9.0: a future dropped during BEGIN leaves the transaction open
/// and the pool unaware, and the next single-statement write is answered and then lost.
///
/// Inside a transaction `now()` is its beginning, outside it is the beginning of this statement. A
/// session that began while the database was read-only stays so, and is not kept either.
/// Asked as raw SQL: the messages of a prepared statement each move `statement_timestamp()`, which
/// would close every connection after every use. False closes the connection, which rolls back;
/// so does a connection that cannot answer.
async fn is_fit(connection: &mut PgConnection) -> bool {
    let unfit = sqlx::raw_sql(
        "select now() <> statement_timestamp() or current_setting('transaction_read_only')::bool",
    )
    .fetch_one(connection)
    .await
    .and_then(|row| row.try_get::<bool, _>(0));
    match unfit {
        Ok(unfit) => !unfit,
        // Told by whoever used the connection; here it is only closed.
        Err(_) => false,
    }
}

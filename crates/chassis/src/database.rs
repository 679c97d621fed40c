//! A service's own PostgreSQL: pools that cannot hide an open transaction and fit into the server,
//! migrations with a bounded wait, and the question whether an error will pass. No table and no query of a service
//! is known here.

mod again;
mod migrate;
mod plans;
mod pool;
mod room;

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::ApiError;
use crate::health::{Health, Scope};

pub use again::again;
pub use migrate::{MigrateError, migrate};
pub use plans::minding_plans;
pub use pool::pool;
pub use room::{NoRoom, check_room};

/// How to reach one database: the group `DB_ORDERS__` or `DB_PAYMENTS__`.
#[derive(Clone, Debug, Deserialize)]
pub struct DatabaseConfig {
    /// Name or address of the server.
    #[serde(default = "defaults::host")]
    pub host: String,
    /// Port of the server.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// Login.
    #[serde(default = "defaults::user")]
    pub user: String,
    /// Password of the login; never printed.
    #[serde(default = "defaults::password")]
    pub password: SecretString,
    /// Name of the database.
    pub name: String,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub sslmode: SslMode,
    /// Connections for requests, at most.
    #[serde(default = "defaults::pool")]
    pub pool: u32,
}

impl DatabaseConfig {
    /// The login as connection options, for a tool that makes a connection of its own under
    /// this `application_name`.
    #[must_use]
    pub fn login(&self, application_name: &str) -> sqlx::postgres::PgConnectOptions {
        pool::login(self, application_name)
    }
}

mod defaults {
    use secrecy::SecretString;

    pub(super) fn host() -> String {
        "localhost".to_owned()
    }

    pub(super) fn port() -> u16 {
        5432
    }

    pub(super) fn user() -> String {
        "user".to_owned()
    }

    pub(super) fn password() -> SecretString {
        SecretString::from("password")
    }

    pub(super) fn pool() -> u32 {
        10
    }
}

/// PostgreSQL's own names for how much encryption is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SslMode {
    /// `disable`: never.
    Disable,
    /// `allow`: only when the server insists.
    Allow,
    /// `prefer`: when the server can.
    #[default]
    Prefer,
    /// `require`: always, whoever the server is.
    Require,
    /// `verify-ca`: always, with a certificate of a known authority.
    VerifyCa,
    /// `verify-full`: always, with a certificate for this very host.
    VerifyFull,
}

impl TryFrom<String> for SslMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.as_str() {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(format!(
                    "expected disable, allow, prefer, require, verify-ca or verify-full, found {text:?}"
                ));
            }
        })
    }
}

/// What a pool's connections are for; part of their `application_name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Requests over HTTP.
    Api,
    /// Outbox to broker.
    Relay,
    /// Broker to inbox.
    Consumer,
    /// Looking whether the database is as it must be.
    Reconciliation,
    /// What comes round by itself: asking again, partitions ahead.
    Upkeep,
}

impl Role {
    /// As it stands in the name of a connection.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Relay => "relay",
            Self::Consumer => "consumer",
            Self::Reconciliation => "reconciliation",
            Self::Upkeep => "upkeep",
        }
    }
}

/// Adds the check that decides whether a service accepts requests: its own database answers.
pub fn check(health: &Health, pool: PgPool) {
    health.check(Scope::Accepting, "database", move || {
        let pool = pool.clone();
        async move {
            let asked = sqlx::query("select 1").execute(&pool).await;
            asked
                .map(|_| "answers".to_owned())
                .map_err(|error| error.to_string())
        }
    });
}

/// How long the server may owe an answer. Its own `statement_timeout` of 5 s comes first wherever
/// it is there to keep it.
const ANSWER_LIMIT: Duration = crate::serve::PATIENCE;

/// Work with the database that ends, also when its answer is lost on the way: neither sqlx nor the
/// socket would ever give up. Whether the work was done is then unknown, and its connection is
/// closed.
///
/// # Errors
/// The work's own, or [`sqlx::Error::Io`] when the time is over.
pub async fn bounded<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(ANSWER_LIMIT, work).await
}

async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // On the heap: a future that is handed on through several layers is copied in each.
    match tokio::time::timeout(limit, Box::pin(work)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

/// Whether the fault lies with the connection or the moment, so that the same work may succeed
/// later: answer 503, or retry in place.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // A server that closes the connection during the handshake shows as this.
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            ends_the_session(&**error) || error.code().is_some_and(|code| passes(&code))
        }
        _ => false,
    }
}

/// Whether the server would not begin the session, or has ended it. Its reason says nothing about the
/// statement then: PostgreSQL 15 calls a full disk an internal error (XX000) when it comes in the
/// way of a new session.
fn ends_the_session(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// SQLSTATE classes: connection, a plan out of date, read-only
/// or aborted transaction, login, no such database yet, rollback, resources, lock not available,
/// operator, system.
fn passes(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    matches!(
        class,
        "08" | "0A" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58"
    )
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            // At debug: an outage would else write a line per request. Health is red meanwhile.
            tracing::debug!("database unavailable: {error}");
            ApiError::unavailable()
        } else {
            ApiError::internal(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for code in [
            "08006", "0A000", "53300", "57P01", "57014", "25006", "25P03", "28P01", "3D000",
            "40001", "40P01", "55P03",
        ] {
            assert!(passes(code), "{code}");
        }
        for code in ["23505", "22003", "42P01", "XX000", ""] {
            assert!(!passes(code), "{code}");
        }
        assert!(is_unavailable(&sqlx::Error::PoolTimedOut));
        let cut_handshake = "unexpected response from SSLRequest: 0x00".into();
        assert!(is_unavailable(&sqlx::Error::Protocol(cut_handshake)));
        assert!(!is_unavailable(&sqlx::Error::RowNotFound));
    }

    #[test]
    fn a_config_names_its_modes_and_hides_its_password() {
        let vars = [
            ("DB_ORDERS__PASSWORD", "0123"),
            ("DB_ORDERS__SSLMODE", "verify-full"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        #[derive(Deserialize)]
        struct Service {
            db_orders: DatabaseConfig,
        }
        let service: Service =
            crate::env::read_from(vars, &[("DB_ORDERS__NAME", "orders_db")]).expect("reads");
        assert_eq!(service.db_orders.sslmode, SslMode::VerifyFull);
        assert_eq!(service.db_orders.port, 5432);
        assert!(!format!("{:?}", service.db_orders).contains("0123"));
        let wrong = [("DB_ORDERS__SSLMODE".to_owned(), "full".to_owned())];
        let error = crate::env::read_from::<Service>(wrong, &[("DB_ORDERS__NAME", "orders_db")])
            .err()
            .expect("no such mode")
            .to_string();
        assert!(error.contains("DB_ORDERS__SSLMODE"), "{error}");
    }
}

#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod server_tests;

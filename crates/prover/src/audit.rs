//! The way into the two databases: a login, the role `audit_ro`, and a snapshot that does not move
//! while it is read. Which questions are asked stands with the rules.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Encode, FromRow, PgConnection, Postgres, Type};
use uuid::Uuid;

/// A database that does not answer within this time does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A check over millions of rows takes minutes, a blocked one for ever.
const STATEMENT_TIMEOUT: (&str, &str) = ("statement_timeout", "10min");

/// The two databases of the implementation under test, as logins that may `set role audit_ro`.
#[derive(Clone)]
pub struct Databases {
    orders: PgConnectOptions,
    payments: PgConnectOptions,
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The database of Orders.
    Orders,
    /// The database of Payments.
    Payments,
}

/// A database cannot be asked. Nothing is said about any rule then.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no connection to it.
    #[error("cannot connect to the {side} database")]
    Connect {
        /// Which one.
        side: Side,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The login may not read the audit views.
    #[error("cannot take the role audit_ro in the {side} database")]
    Role {
        /// Which one.
        side: Side,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A view is missing, has other columns, or the connection broke.
    #[error("cannot read the audit views of the {side} database")]
    Read {
        /// Which one.
        side: Side,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

impl Databases {
    /// Two logins.
    #[must_use]
    pub fn new(orders: PgConnectOptions, payments: PgConnectOptions) -> Self {
        Self {
            orders: prepare(orders),
            payments: prepare(payments),
        }
    }

    /// Two logins as `postgres://` URLs.
    ///
    /// # Errors
    /// One of them is not such a URL.
    pub fn parse(orders_url: &str, payments_url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self::new(
            PgConnectOptions::from_str(orders_url)?,
            PgConnectOptions::from_str(payments_url)?,
        ))
    }

    fn login(&self, side: Side) -> &PgConnectOptions {
        match side {
            Side::Orders => &self.orders,
            Side::Payments => &self.payments,
        }
    }
}

/// Says who asks, and that it does not ask for ever.
fn prepare(login: PgConnectOptions) -> PgConnectOptions {
    login
        .application_name("paidonce-prover-audit")
        .options([STATEMENT_TIMEOUT])
        .disable_statement_logging()
}

impl fmt::Debug for Databases {
    /// Leaves the logins out: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
        })
    }
}

/// A connection that reads audit views.
pub(crate) struct Audit {
    connection: PgConnection,
    side: Side,
}

impl Audit {
    /// Each question sees the newest state.
    pub(crate) async fn connect(databases: &Databases, side: Side) -> Result<Self, AuditError> {
        let login = databases.login(side);
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, login.connect())
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
            .map_err(|source| AuditError::Connect { side, source })?;
        sqlx::query("set role audit_ro")
            .execute(&mut connection)
            .await
            .map_err(|source| AuditError::Role { side, source })?;
        Ok(Self { connection, side })
    }

    /// All questions see the state of this moment.
    pub(crate) async fn snapshot(databases: &Databases, side: Side) -> Result<Self, AuditError> {
        let mut audit = Self::connect(databases, side).await?;
        // `begin` alone takes no snapshot; the first query after it does, and it must be now.
        for statement in [
            "begin isolation level repeatable read read only",
            "select pg_current_snapshot()",
        ] {
            sqlx::query(statement)
                .execute(&mut audit.connection)
                .await
                .map_err(|source| AuditError::Read { side, source })?;
        }
        Ok(audit)
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// The rows of a query, as they arrive.
    pub(crate) fn rows<'a, T>(
        &'a mut self,
        sql: &'static str,
    ) -> impl Stream<Item = Result<T, AuditError>> + Send + 'a
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'a,
    {
        let side = self.side;
        sqlx::query_as(sql)
            .fetch(&mut self.connection)
            .map(move |row| row.map_err(|source| AuditError::Read { side, source }))
    }

    /// The rows of a query whose `$1` is a list of ids.
    pub(crate) async fn rows_of<T, Id>(
        &mut self,
        sql: &'static str,
        ids: &[Id],
    ) -> Result<Vec<T>, AuditError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
        Id: Send + Sync,
        for<'i> &'i [Id]: Encode<'i, Postgres> + Type<Postgres>,
    {
        let side = self.side;
        sqlx::query_as(sql)
            .bind(ids)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| AuditError::Read { side, source })
    }

    /// The rows of a query whose `$1` is a number that theirs are above.
    pub(crate) async fn rows_above<T>(
        &mut self,
        sql: &'static str,
        number: i64,
    ) -> Result<Vec<T>, AuditError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let side = self.side;
        sqlx::query_as(sql)
            .bind(number)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| AuditError::Read { side, source })
    }

    /// What people call an order, if it exists.
    pub(crate) async fn order_id_of(&mut self, order_uid: Uuid) -> Result<Option<i64>, AuditError> {
        let side = self.side;
        sqlx::query_scalar("select min(order_id) from audit.orders where order_uid = $1")
            .bind(order_uid)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| AuditError::Read { side, source })
    }

    /// The one row of a query.
    pub(crate) async fn row<T>(&mut self, sql: &'static str) -> Result<T, AuditError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let side = self.side;
        sqlx::query_as(sql)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| AuditError::Read { side, source })
    }

    /// The one number of a `select count(*)`.
    pub(crate) async fn count(&mut self, sql: &'static str) -> Result<u64, AuditError> {
        let (count,): (i64,) = self.row(sql).await?;
        Ok(count.unsigned_abs())
    }

    /// Ends the connection politely; a failure to do so changes nothing that was read.
    pub(crate) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(side = %self.side, %error, "audit connection ended by itself");
        }
    }
}

//! Which database errors pass by themselves. Decided by SQLSTATE, never by text.

use sqlx::{Connection as _, PgConnection};

/// Whether the same statement may succeed later without anybody changing the data: a server
/// that is down, starting, full, read-only or locked, a lost connection, a deadlock, a missing
/// table or permission. Such a failure is waited out and never counts as an attempt.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        // All that is left is the connection or the pool, except a row we cannot read.
        return !matches!(
            error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::RowNotFound
        );
    };
    is_transient_code(error.code().as_deref())
}

/// The same judgement for an error's SQLSTATE alone.
#[must_use]
pub fn is_transient_code(code: Option<&str>) -> bool {
    let Some(code) = code else {
        return true;
    };
    let class = code.get(..2).unwrap_or_default();
    // 0A a plan out of date, 08 connection, 25 read-only or aborted, 28 login, 3D no database, 40 rollback, 42 missing
    // table or right (a migration under way), 53 resources, 55 not in the right state, 57
    // operator, 58 system, XX internal
    matches!(
        class,
        "0A" | "08" | "25" | "28" | "3D" | "40" | "42" | "53" | "55" | "57" | "58" | "XX"
    )
}

const UNIQUE_VIOLATION: &str = "23505";

/// Whether the statement met a key that is there already. Two transactions may have come together,
/// and tried again the second one sees the first; or the row is in the way for good. Only trying
/// tells, a few times.
#[must_use]
pub fn is_collision(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code == UNIQUE_VIOLATION)
}

/// A table has changed under a plan that the connection keeps: "cached plan must not change
/// result type". It would answer the same for as long as it lives.
const STALE_PLAN: &str = "0A000";

/// Passes a result on, and throws the connection's plans away if they were to blame.
pub(crate) async fn minding_plans<T>(
    connection: &mut PgConnection,
    result: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if let Err(error) = &result {
        forget_stale_plans(connection, error).await;
    }
    result
}

/// Throws the plans of a connection away if the error says that they are out of date.
pub(crate) async fn forget_stale_plans(connection: &mut PgConnection, error: &sqlx::Error) {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some(STALE_PLAN) {
        tracing::info!("a table has changed under this connection's plans, which are thrown away");
        // If this fails the connection is broken, and its pool finds out by itself.
        connection.clear_cached_statements().await.ok();
    }
}

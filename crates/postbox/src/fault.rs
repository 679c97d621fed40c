//! Which database errors pass by themselves. Decided by SQLSTATE, never by text.

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
    // 08 connection, 25 read-only or aborted, 28 login, 3D no database, 40 rollback, 42 missing
    // table or right (a migration under way), 53 resources, 55 not in the right state, 57
    // operator, 58 system, XX internal
    matches!(
        class,
        "08" | "25" | "28" | "3D" | "40" | "42" | "53" | "55" | "57" | "58" | "XX"
    ) || code == UNIQUE_VIOLATION
}

/// Two transactions met on one key. Tried again, the second one sees the first.
const UNIQUE_VIOLATION: &str = "23505";

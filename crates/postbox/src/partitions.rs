//! Partitions of the outbox and the inbox, made ahead of time.

use sqlx::PgPool;

/// Makes the outbox days and inbox weeks ahead that are missing, and returns how many it made.
/// To be called every hour or so: a week of missed calls is harmless, and after that rows go to
/// the DEFAULT partitions.
///
/// # Errors
/// The database's, also for want of the right to create tables.
pub async fn make_partitions(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(r#"select postbox_make_partitions() as "made!""#)
        .fetch_one(pool)
        .await
}

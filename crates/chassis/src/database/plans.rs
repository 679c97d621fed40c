//! Plans that a connection keeps and that a changed table has put out of date.

use sqlx::{Connection as _, PgConnection};

/// `feature_not_supported`: "cached plan must not change result type".
const STALE_PLAN: &str = "0A000";

/// Passes a result on, and throws the connection's plans away if they were to blame: it would
/// else answer the same for as long as it lives.
pub async fn minding_plans<T>(
    connection: &mut PgConnection,
    result: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if result.as_ref().is_err_and(is_stale_plan) {
        // If this fails the connection is broken, and its pool finds out by itself.
        connection.clear_cached_statements().await.ok();
    }
    result
}

/// Whether the same statement will do on a new plan.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(STALE_PLAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::server_tests::fresh;
    use crate::database::{Role, pool};

    #[tokio::test]
    async fn a_plan_out_of_date_is_made_anew() -> anyhow::Result<()> {
        let config = fresh().await?;
        let pool = pool(&config, "orders", Role::Api, 1);
        sqlx::raw_sql("create table account (balance int); insert into account values (7)")
            .execute(&pool)
            .await?;
        let read = async || {
            let mut connection = pool.acquire().await?;
            let row = sqlx::query("select * from account")
                .fetch_one(&mut *connection)
                .await;
            minding_plans(&mut connection, row).await
        };
        read().await?;
        sqlx::raw_sql("alter table account alter column balance type bigint")
            .execute(&pool)
            .await?;
        assert!(read().await.is_err(), "sqlx sees to it by itself now");
        read().await?;
        Ok(())
    }
}

//! How often a process has died while one message was alone in its hands: a row that is
//! committed before the message is tried and deleted in the transaction that takes it in.

use std::collections::HashSet;

use sqlx::{PgConnection, PgPool};

/// What is to be tried alone though it comes for the first time: what somebody's death left
/// behind, and what is parked for it, of which a fresh copy (an order asked for again) would
/// take a whole batch down. Asked once per session; what another process parks meanwhile costs
/// this one a death at most, and then it asks again.
pub(crate) async fn known(pool: &PgPool, queue: &str) -> Result<HashSet<String>, sqlx::Error> {
    let identities = sqlx::query_scalar!(
        "select identity from delivery_attempts where queue = $1",
        queue,
    )
    .fetch_all(pool)
    .await?;
    Ok(identities.into_iter().collect())
}

/// Counts a try that is about to begin; returns how many there were with it, and no more than
/// `max + 1`. A crash of the database may forget it (no wait for its disk), a crash of ours not.
pub(crate) async fn raise(
    pool: &PgPool,
    queue: &str,
    identity: &str,
    max: i32,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with relaxed as (select set_config('synchronous_commit', 'off', true))
        insert into delivery_attempts as a (queue, identity, attempts)
        select $1, $2, 1 from relaxed
            on conflict (queue, identity)
            do update set attempts = least(a.attempts, $3) + 1
        returning attempts
        "#,
        queue,
        identity,
        max,
    )
    .fetch_one(pool)
    .await
}

/// Takes a try back that ended without a death.
pub(crate) async fn lower(pool: &PgPool, queue: &str, identity: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with relaxed as (select set_config('synchronous_commit', 'off', true))
        update delivery_attempts
           set attempts = attempts - 1
          from relaxed
         where queue = $1 and identity = $2 and attempts > 0
        "#,
        queue,
        identity,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets all tries, in the transaction that takes the message in or sends it again.
pub(crate) async fn forget(
    transaction: &mut PgConnection,
    queue: &str,
    identity: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from delivery_attempts where queue = $1 and identity = $2",
        queue,
        identity,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

//! Connections that run out and transactions that lose, on a real server.

use sqlx::ConnectOptions as _;

use super::server_tests::fresh;
use super::*;

/// A login of its own with so many connections at most, on the database of `config`.
async fn limited(config: &DatabaseConfig, limit: i32) -> anyhow::Result<DatabaseConfig> {
    let user = format!("limited_{}", config.name);
    let make = format!("create role {user} login password 'narrow' connection limit {limit}");
    let mut connection = config.login("test").connect().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(make))
        .execute(&mut connection)
        .await?;
    Ok(DatabaseConfig {
        user,
        password: SecretString::from("narrow"),
        ..config.clone()
    })
}

#[tokio::test]
async fn pools_that_can_never_be_filled_stop_the_start_and_name_the_variable() -> anyhow::Result<()>
{
    let config = limited(&fresh().await?, 10).await?;
    let api = |size| pool(&config, "orders", Role::Api, size);
    let (relay, consumer) = (
        pool(&config, "orders", Role::Relay, 3),
        pool(&config, "orders", Role::Consumer, 2),
    );
    check_room(&[&api(5), &relay, &consumer], "DB_ORDERS__POOL").await?;
    let error = check_room(&[&api(8), &relay, &consumer], "DB_ORDERS__POOL")
        .await
        .expect_err("13 are more than 10")
        .to_string();
    assert_eq!(
        error,
        "DB_ORDERS__POOL=8 is too much: all pools of this service together hold up to 13 \
         connections, and the server grants at most 10 (CONNECTION LIMIT of the role). Set \
         DB_ORDERS__POOL to 5, or raise that limit by 3"
    );
    // Those that others hold may be given back: that is a warning, not a refusal.
    let other = pool(&config, "other", Role::Api, 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(other.acquire().await?);
    }
    let tight = room::Fit::Tight {
        left: 6,
        why: room::ROLE,
    };
    assert_eq!(room::fit(&[&api(5), &relay, &consumer]).await?, tight);
    check_room(&[&api(5), &relay, &consumer], "DB_ORDERS__POOL").await?;
    Ok(())
}

#[tokio::test]
async fn a_login_out_of_connections_is_an_outage_and_heals_by_itself() -> anyhow::Result<()> {
    let config = fresh().await?;
    let narrow = limited(&config, 0).await?;
    let pool = pool(&narrow, "orders", Role::Api, 1);
    let error = sqlx::query("select 1")
        .execute(&pool)
        .await
        .expect_err("there is no connection to be had");
    assert!(is_unavailable(&error), "{error:?}");
    let raise = format!("alter role {} connection limit 1", narrow.user);
    let mut connection = config.login("test").connect().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(raise))
        .execute(&mut connection)
        .await?;
    sqlx::query("select 1").execute(&pool).await?;
    Ok(())
}

#[tokio::test]
async fn who_loses_a_deadlock_is_tried_again() -> anyhow::Result<()> {
    let config = fresh().await?;
    let pool = pool(&config, "orders", Role::Api, 1);
    sqlx::raw_sql(
        "create table account (id int, n int); insert into account values (1, 0), (2, 0)",
    )
    .execute(&pool)
    .await?;
    let update = |id: i32| sqlx::query("update account set n = n + 1 where id = $1").bind(id);
    let mut rival = config.login("rival").connect().await?;
    // The rival waits without looking for a deadlock, so the other one loses.
    sqlx::raw_sql("set deadlock_timeout = '1min'; begin")
        .execute(&mut rival)
        .await?;
    update(1).execute(&mut rival).await?;
    let tries = std::cell::Cell::new(0);
    let work = again(|| {
        tries.set(tries.get() + 1);
        async {
            let mut transaction = pool.begin().await?;
            update(2).execute(&mut *transaction).await?;
            update(1).execute(&mut *transaction).await?;
            transaction.commit().await
        }
    });
    let rivals_turn = async {
        let other = super::pool(&config, "test", Role::Api, 1);
        let waits = "select exists (select from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock')";
        while !sqlx::query_scalar(waits).fetch_one(&other).await? {
            tokio::task::yield_now().await;
        }
        update(2).execute(&mut rival).await?;
        sqlx::query("commit").execute(&mut rival).await
    };
    let (worked, rivaled) = tokio::join!(work, rivals_turn);
    worked?;
    rivaled?;
    assert!(tries.get() > 1, "there was no deadlock");
    let sum: i64 = sqlx::query_scalar("select sum(n) from account")
        .fetch_one(&pool)
        .await?;
    assert_eq!(sum, 4, "each of the two has updated both");
    Ok(())
}

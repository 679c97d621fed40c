//! The statements of `store` against a real PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use chassis::database::{DatabaseConfig, Role, SslMode};
use contracts::{
    DeclineReason, MessageId, OrderUid, Outcome, PaymentRequested, PaymentSettled, UserId,
};
use postbox::{Handler, Incoming, Outbox, Verdict};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::order::{NewOrder, Status};
use crate::redrive_orders::{Round, redrive_orders};
use crate::settle_orders::SettleOrders;
use crate::store;

pub(crate) const AFTER: Duration = Duration::from_secs(30);

pub(crate) async fn pool(role: Role) -> Result<PgPool> {
    let database = sandbox::shared().await.database().await?;
    let config = DatabaseConfig {
        host: database.host().into(),
        port: database.port(),
        user: database.user().into(),
        password: database.password().into(),
        name: database.name.clone(),
        sslmode: SslMode::Prefer,
        pool: 5,
    };
    let pool = chassis::database::pool(&config, "orders", role, 5);
    crate::MIGRATOR.run(&pool).await?;
    Ok(pool)
}

pub(crate) fn new_order(user: i64, amount: &str) -> NewOrder {
    NewOrder {
        order_uid: OrderUid::new(),
        message_id: MessageId::new(),
        user_id: UserId(user),
        amount: amount.parse().expect("money"),
        description: format!("for {user}"),
        traceparent: None,
        request_id: Some(format!("request-{user}")),
    }
}

async fn scalar(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

#[tokio::test]
async fn each_order_of_a_batch_gets_its_own_number_and_its_own_message() -> Result<()> {
    let pool = pool(Role::Api).await?;
    let orders: Vec<NewOrder> = (1..=200)
        .map(|n| new_order(n, &format!("{n}.01")))
        .collect();
    let stored = store::insert_orders(&pool, &orders, AFTER).await?;
    ensure!(stored.len() == 200);
    for order in &orders {
        let (order_id, row) = &stored[&order.order_uid];
        let body = PaymentRequested::from_body(&row.body)?;
        ensure!(body.order_uid == order.order_uid && body.order_id == *order_id);
        ensure!(body.user_id == order.user_id && body.amount == order.amount);
        ensure!(row.message_id == order.message_id.0 && row.request_id == order.request_id);
        let found = store::find_order(&pool, *order_id, order.user_id).await?;
        ensure!(found.is_some_and(|found| found.description == order.description));
    }
    // The same orders once more, as after a commit whose answer was lost: nothing new.
    let again = store::insert_orders(&pool, &orders, AFTER).await?;
    ensure!(again.is_empty());
    ensure!(scalar(&pool, "select count(*) from outbox_messages").await? == 200);
    let looked_up = store::find_by_uid(&pool, &[orders[0].order_uid.0]).await?;
    ensure!(looked_up[&orders[0].order_uid] == stored[&orders[0].order_uid].0);
    Ok(())
}

#[tokio::test]
async fn an_unanswered_order_is_asked_for_again_with_the_same_bytes_and_within_the_window()
-> Result<()> {
    let pool = pool(Role::Api).await?;
    let outbox = Outbox::new();
    let orders: Vec<NewOrder> = (1..=5).map(|n| new_order(n, "1.00")).collect();
    store::insert_orders(&pool, &orders, Duration::ZERO).await?;
    sqlx::query("update outbox_messages set created_at = now() - interval '1 min'")
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(0),
        "what has not left the outbox is not asked for again"
    );
    sqlx::query("update outbox_messages set is_published = true")
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(3),
        "the window is 3"
    );
    ensure!(outbox.len() == 3, "handed to the relay");
    sqlx::query("update outbox_messages set is_published = true")
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(0),
        "the window is full"
    );
    let twice = scalar(
        &pool,
        "select count(*) from (select message_id from outbox_messages
          group by message_id having count(*) = 2 and count(distinct body) = 1) t",
    )
    .await?;
    ensure!(
        twice == 3,
        "{twice} messages stand twice with the same bytes"
    );
    // The broker has lost them all: they get their next turn, full window or not.
    sqlx::query("update orders set next_redrive_at = now() where redrives > 0")
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(3),
        "a window full of lost requests is not the end"
    );
    sqlx::query("update outbox_messages set is_published = true")
        .execute(&pool)
        .await?;
    // One of them is settled: there is room for one more.
    sqlx::query("update orders set status = 'FINISHED' where id = (select min(id) from orders where redrives = 2)")
        .execute(&pool)
        .await?;
    ensure!(redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(1));
    let soon = "select count(*) from orders where redrives > 0 and next_redrive_at < now() + interval '26 s'";
    ensure!(scalar(&pool, soon).await? == 0, "the next turn is put off");
    Ok(())
}

/// Fills the tables with orders that are NEW and overdue, and whose requests have been sent.
async fn many_unanswered(session: &mut PgConnection, count: i64) -> Result<()> {
    let mut transaction = session.begin().await?;
    sqlx::query("set local statement_timeout = '5 min'")
        .execute(&mut *transaction)
        .await?;
    for sql in [
        "insert into orders (order_uid, message_id, user_id, amount, description, next_redrive_at)
         select gen_random_uuid(), gen_random_uuid(), n, 1, '', now() - n * interval '1 ms'
           from generate_series(1, $1) n",
        "insert into outbox_messages (message_id, kind, key, body, is_published)
         select message_id, 'payment.requested', order_uid, '', true
           from orders where $1 > 0",
    ] {
        sqlx::query(sql)
            .bind(count)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// What has been read from orders, outbox and inbox so far: rows by walking a table, entries by an
/// index.
async fn read_so_far(session: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "select (select sum(seq_tup_read) from pg_stat_user_tables
                  where relname = 'orders' or relname ~ '^(out|in)box_messages')::bigint
              + (select sum(idx_tup_read) from pg_stat_user_indexes
                  where relname = 'orders' or relname ~ '^(out|in)box_messages')::bigint",
    )
    .fetch_one(session)
    .await?)
}

/// What a round of asking again reads.
async fn read_by_a_round(session: &mut PgConnection, expected: usize) -> Result<i64> {
    let flush = "select pg_stat_force_next_flush()";
    sqlx::query(flush).execute(&mut *session).await?;
    let before = read_so_far(session).await?;
    let mut transaction = session.begin().await?;
    let unsent = postbox::find_unsent(&mut transaction, AFTER / 2, 10_000).await?;
    ensure!(unsent.len() == 1_000, "{} are unsent", unsent.len());
    let claimed = store::claim_unanswered(&mut transaction, AFTER, 500, &unsent).await?;
    ensure!(claimed.len() == expected, "{} claimed", claimed.len());
    sqlx::query(flush).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(read_so_far(session).await? - before)
}

/// After a long stop of Payments there may be millions of orders without an answer. What a round
/// reads must not grow with them, or it never ends and nothing is asked for again.
#[tokio::test]
async fn asking_again_reads_no_more_orders_than_it_claims_however_many_are_unanswered() -> Result<()>
{
    // The server's statistics are a session's own until it flushes them: one session for all.
    let mut session = pool(Role::Upkeep).await?.acquire().await?;
    many_unanswered(&mut session, 200_000).await?;
    // Others were answered, so many that it matters which of them are looked at.
    sqlx::query(
        "insert into inbox_messages (message_id, key, outcome)
         select (substr(uuid7_floor(now() - n * interval '1 ms')::text, 1, 20) || right(gen_random_uuid()::text, 16))::uuid,
                gen_random_uuid(), 'applied'
           from generate_series(1, 50000) n",
    )
    .execute(&mut *session)
    .await?;
    // The messages of those that are due first have not left yet.
    sqlx::query(
        "update outbox_messages o
            set is_published = false, created_at = now() - interval '1 min'
           from orders where order_uid = key and orders.id > 199000",
    )
    .execute(&mut *session)
    .await?;
    let read = read_by_a_round(&mut session, 500).await?;
    ensure!(read < 5_000, "a first round has read {read} rows");
    sqlx::query("update orders set next_redrive_at = now() where redrives > 0")
        .execute(&mut *session)
        .await?;
    // Prepared statements get a plan for all parameters after five uses.
    for round in 2..=8 {
        let read = read_by_a_round(&mut session, if round == 2 { 500 } else { 0 }).await?;
        ensure!(read < 6_000, "round {round} has read {read} rows");
    }
    Ok(())
}

/// While results come in, who was asked for in vain for half an hour waits for a person and makes
/// room. While none do, nobody is hopeless: Payments is away, and each would be one copy more that
/// it finds when it is back.
#[tokio::test]
async fn a_hopeless_order_makes_room_only_while_others_are_answered() -> Result<()> {
    let pool = pool(Role::Upkeep).await?;
    let outbox = Outbox::new();
    many_unanswered(&mut *pool.acquire().await?, 9).await?;
    sqlx::query(
        "update orders set redrives = 9, next_redrive_at = now() + interval '5 min' where id <= 3",
    )
    .execute(&pool)
    .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(1),
        "one is asked for, whose result would be a sign of life"
    );
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(0),
        "the window leaks while Payments is away"
    );
    sqlx::query("insert into inbox_messages (message_id, key, outcome, received_at) values ($1, $1, 'applied', now() - interval '11 min')")
        .bind(MessageId::new().0)
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(0),
        "an old result is no sign of life"
    );
    sqlx::query("insert into inbox_messages (message_id, key, outcome) values ($1, $1, 'applied')")
        .bind(MessageId::new().0)
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(2),
        "three hopeless orders hold up all others"
    );
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 3).await? == Round::Asked(0),
        "the window is full of those who have hope"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_is_asked_again_while_the_relay_is_far_behind() -> Result<()> {
    let pool = pool(Role::Upkeep).await?;
    let outbox = Outbox::new();
    many_unanswered(&mut *pool.acquire().await?, 10_003).await?;
    let unsent = "update outbox_messages o
           set is_published = false, created_at = now() - interval '1 min' from orders
         where order_uid = key and orders.id <= 10000";
    sqlx::query(unsent).execute(&pool).await?;
    ensure!(redrive_orders(&pool, &outbox, AFTER, 500).await? == Round::RelayIsBehind);
    sqlx::query("update outbox_messages o set is_published = true from orders where order_uid = key and orders.id = 1")
        .execute(&pool)
        .await?;
    ensure!(
        redrive_orders(&pool, &outbox, AFTER, 500).await? == Round::Asked(4),
        "only those whose message has left"
    );
    Ok(())
}

#[tokio::test]
async fn the_first_result_stands_and_a_later_one_is_a_duplicate_or_parked() -> Result<()> {
    let pool = pool(Role::Consumer).await?;
    let order = new_order(1, "5.00");
    let stored = store::insert_orders(&pool, std::slice::from_ref(&order), AFTER).await?;
    let result = |outcome| PaymentSettled {
        order_uid: order.order_uid,
        order_id: stored[&order.order_uid].0,
        user_id: order.user_id,
        amount: order.amount,
        outcome,
        reason: (outcome == Outcome::Declined).then_some(DeclineReason::NoAccount),
    };
    let stranger = PaymentSettled {
        order_uid: OrderUid::new(),
        ..result(Outcome::Paid)
    };
    let batch = [
        result(Outcome::Paid),
        result(Outcome::Paid),
        result(Outcome::Declined),
        stranger,
    ]
    .map(|message| Incoming {
        message_id: MessageId::new().0,
        key: message.order_uid.0,
        message,
        first_time: true,
        traceparent: None,
        request_id: None,
    });
    let mut transaction = pool.begin().await?;
    let handled = SettleOrders.handle(&mut transaction, &batch).await?;
    transaction.commit().await?;
    ensure!(handled.verdicts[0] == Verdict::Applied);
    ensure!(handled.verdicts[1] == Verdict::Duplicate);
    let reasons: Vec<&str> = handled.verdicts[2..]
        .iter()
        .map(|verdict| match verdict {
            Verdict::Park(why) => why.reason.as_str(),
            _ => "not parked",
        })
        .collect();
    ensure!(reasons == ["contradiction", "unknown_order"], "{reasons:?}");
    let found = store::find_order(&pool, stored[&order.order_uid].0, order.user_id).await?;
    ensure!(found.is_some_and(|found| found.status == Status::Finished));
    Ok(())
}

#[tokio::test]
async fn the_database_itself_keeps_a_final_status_and_an_order_s_facts() -> Result<()> {
    let pool = pool(Role::Api).await?;
    store::insert_orders(&pool, &[new_order(1, "5.00")], AFTER).await?;
    sqlx::query("update orders set status = 'CANCELLED'")
        .execute(&pool)
        .await?;
    for forbidden in [
        "update orders set status = 'FINISHED'",
        "update orders set status = 'NEW'",
        "update orders set amount = 6",
        "update orders set user_id = 2",
        "insert into orders (order_uid, message_id, user_id, amount, description, next_redrive_at)
         values (gen_random_uuid(), gen_random_uuid(), 1, 'NaN', '', now())",
        "insert into orders (order_uid, message_id, user_id, amount, description, next_redrive_at)
         values (gen_random_uuid(), gen_random_uuid(), 1, 0, '', now())",
    ] {
        ensure!(
            sqlx::query(forbidden).execute(&pool).await.is_err(),
            "{forbidden}"
        );
    }
    Ok(())
}

/// With `status = 'NEW'` in the UPDATE the planner took the partial index on NEW orders, mostly
/// dead entries after seconds of load, in place of the key.
#[tokio::test]
async fn results_find_their_orders_by_key_also_on_a_plan_made_while_empty() -> Result<()> {
    let pool = pool(Role::Consumer).await?;
    let mut connection = pool.acquire().await?;
    let plan: Vec<String> = sqlx::query_scalar(
        "explain update orders o set status = m.status, updated_at = now()
           from unnest($1::uuid[], $2::text[]) as m (order_uid, status)
          where o.order_uid = any ($1) and o.order_uid = m.order_uid
            and o.status not in ('FINISHED', 'CANCELLED')",
    )
    .bind(vec![OrderUid::new().0])
    .bind(vec!["FINISHED"])
    .fetch_all(&mut *connection)
    .await?;
    let plan = plan.join("\n");
    ensure!(plan.contains("orders_order_uid_key"), "{plan}");
    ensure!(
        !plan.contains("orders_redrive") && !plan.contains("Seq Scan"),
        "{plan}"
    );
    Ok(())
}

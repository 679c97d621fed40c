//! Accounts that somebody else holds locked, on a real PostgreSQL.

use anyhow::{Result, ensure};
use chassis::database::{DatabaseConfig, Role, SslMode};
use contracts::{MessageId, Money, OrderId, OrderUid, UserId};
use postbox::{Handled, Handler as _, Verdict};
use sqlx::{Postgres, Transaction};

use super::*;
use crate::charge_orders::ChargeOrders;
use crate::{deposit::deposit, open_account::open_account};

async fn pool() -> Result<PgPool> {
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
    let pool = chassis::database::pool(&config, "payments", Role::Consumer, 5);
    crate::MIGRATOR.run(&pool).await?;
    Ok(pool)
}

fn money(text: &str) -> Money {
    text.parse().expect("money")
}

async fn account(pool: &PgPool, user: i64, balance: &str) -> Result<()> {
    let opened = open_account(pool, UserId(user)).await;
    ensure!(opened.is_ok(), "user {user} has no account");
    let paid_in = deposit(pool, UserId(user), money(balance)).await;
    ensure!(paid_in.is_ok(), "user {user} has no money");
    Ok(())
}

fn request(order: i64, user: i64, amount: &str) -> PaymentRequested {
    PaymentRequested {
        order_uid: OrderUid::new(),
        order_id: OrderId(order),
        user_id: UserId(user),
        amount: money(amount),
    }
}

fn incoming(request: &PaymentRequested) -> Incoming<PaymentRequested> {
    Incoming {
        message_id: MessageId::new().0,
        key: request.order_uid.0,
        message: request.clone(),
        first_time: true,
        traceparent: None,
        request_id: Some(format!("request-{}", request.order_id)),
    }
}

/// Takes a batch in as the consumer does.
async fn take_in(pool: &PgPool, batch: &[Incoming<PaymentRequested>]) -> Result<Handled> {
    let mut transaction = pool.begin().await?;
    for message in batch {
        sqlx::query("insert into inbox_messages values ($1, $2, 'applied') on conflict do nothing")
            .bind(message.message_id)
            .bind(message.key)
            .execute(&mut *transaction)
            .await?;
    }
    let handled = ChargeOrders::default()
        .handle(&mut transaction, batch)
        .await?;
    transaction.commit().await?;
    Ok(handled)
}

/// Somebody who holds an account until the transaction ends.
async fn hold(pool: &PgPool, user: i64) -> Result<Transaction<'static, Postgres>> {
    let mut locker = pool.begin().await?;
    sqlx::query("select from accounts where user_id = $1 for update")
        .bind(user)
        .execute(&mut *locker)
        .await?;
    Ok(locker)
}

async fn scalar(pool: &PgPool, sql: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

const DECIDED: &str = "select count(*) from payments";
const WAITING: &str = "select count(*) from waiting_messages";
const ANSWERS: &str = "select count(*) from outbox_messages where kind = 'payment.settled'";

#[tokio::test]
async fn a_locked_account_makes_its_own_requests_wait_and_nobody_else() -> Result<()> {
    let pool = pool().await?;
    for user in 1..=20 {
        account(&pool, user, "10.00").await?;
    }
    // In this order 4 of 10 are paid: 6, not 5, 1, 1, 1, and of the rest one more.
    let amounts = [
        "6.00", "5.00", "1.00", "1.00", "1.00", "2.00", "1.00", "3.00", "1.00", "1.00",
    ];
    let mut batch = Vec::new();
    for (turn, amount) in amounts.iter().enumerate() {
        for user in 1..=20 {
            let order = i64::try_from(turn)? * 20 + user;
            batch.push(incoming(&request(order, user, amount)));
        }
    }
    let locker = hold(&pool, 7).await?;
    let handled = take_in(&pool, &batch).await?;
    ensure!(handled.verdicts == vec![Verdict::Applied; 200]);
    ensure!(handled.answers.len() == 190);
    ensure!(scalar(&pool, DECIDED).await? == 190, "all but one user's");
    ensure!(scalar(&pool, WAITING).await? == 10);
    let done = work_off_waiting(&pool, BATCH_MAX, &mut None).await?;
    ensure!(done.requests == 0, "the account is still held");

    locker.rollback().await?;
    // The account is free, but this request has ten before it.
    let late = incoming(&request(1000, 7, "1.00"));
    take_in(&pool, std::slice::from_ref(&late)).await?;
    ensure!(scalar(&pool, WAITING).await? == 11);
    let done = work_off_waiting(&pool, BATCH_MAX, &mut None).await?;
    ensure!((done.requests, done.messages.len()) == (11, 11));
    ensure!(
        done.messages[0].request_id.is_some(),
        "the cause is handed on"
    );
    ensure!(scalar(&pool, WAITING).await? == 0);

    // Whoever waited is treated as whoever did not.
    let different = scalar(
        &pool,
        "select count(*) from payments a join payments b
             on a.user_id = 7 and b.user_id = 8 and b.order_id = a.order_id + 1
          where a.outcome <> b.outcome",
    )
    .await?;
    ensure!(different == 0, "{different} orders were decided otherwise");
    ensure!(
        scalar(
            &pool,
            "select count(*) from payments where order_id = 1000 and outcome = 'declined'"
        )
        .await?
            == 1,
        "the late one found an empty account"
    );
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    ensure!(scalar(&pool, deadlocks).await? == 0);
    Ok(())
}

#[tokio::test]
async fn each_copy_of_a_request_that_waits_is_answered_and_the_order_paid_once() -> Result<()> {
    let pool = pool().await?;
    account(&pool, 1, "10.00").await?;
    let order = request(1, 1, "4.00");
    let (first, other_id) = (incoming(&order), incoming(&order));
    let locker = hold(&pool, 1).await?;
    take_in(&pool, &[first.clone(), other_id]).await?;
    let again = Incoming {
        first_time: false,
        ..first
    };
    take_in(&pool, &[again]).await?;
    ensure!(scalar(&pool, ANSWERS).await? == 0);
    locker.rollback().await?;
    ensure!(
        work_off_waiting(&pool, BATCH_MAX, &mut None)
            .await?
            .requests
            == 3
    );
    ensure!(scalar(&pool, ANSWERS).await? == 3);
    ensure!(
        scalar(
            &pool,
            "select count(distinct message_id) from outbox_messages"
        )
        .await?
            == 1,
        "one answer, three times"
    );
    ensure!(
        scalar(
            &pool,
            "select count(*) from ledger_entries where kind = 'charge'"
        )
        .await?
            == 1
    );

    // Decided, it needs the account no more.
    let locker = hold(&pool, 1).await?;
    let handled = take_in(&pool, &[incoming(&order)]).await?;
    ensure!(handled.verdicts == [Verdict::Duplicate] && handled.answers.len() == 1);
    locker.rollback().await?;
    Ok(())
}

fn is_conflict(handled: &Handled) -> bool {
    matches!(&handled.verdicts[..], [Verdict::Park(why)] if why.reason.as_str() == "conflict")
}

#[tokio::test]
async fn an_order_that_waits_is_kept_for_whoever_asked_first() -> Result<()> {
    let pool = pool().await?;
    account(&pool, 1, "10.00").await?;
    account(&pool, 2, "10.00").await?;
    let order = request(1, 1, "4.00");
    let locker = hold(&pool, 1).await?;
    take_in(&pool, &[incoming(&order)]).await?;
    let other = PaymentRequested {
        user_id: UserId(2),
        ..order.clone()
    };
    ensure!(is_conflict(&take_in(&pool, &[incoming(&other)]).await?));
    locker.rollback().await?;
    work_off_waiting(&pool, BATCH_MAX, &mut None).await?;
    let paid = "select user_id from payments where outcome = 'paid'";
    ensure!(scalar(&pool, paid).await? == 1);
    Ok(())
}

#[tokio::test]
async fn what_was_decided_otherwise_meanwhile_goes_back_to_be_parked() -> Result<()> {
    let pool = pool().await?;
    account(&pool, 1, "10.00").await?;
    account(&pool, 2, "10.00").await?;
    let order = request(1, 1, "4.00");
    let other = PaymentRequested {
        user_id: UserId(2),
        ..order.clone()
    };
    // Two processes at once: neither sees what the other has not committed.
    let locker = hold(&pool, 1).await?;
    let waits = incoming(&order);
    let mut first = pool.begin().await?;
    sqlx::query("insert into inbox_messages values ($1, $2, 'applied')")
        .bind(waits.message_id)
        .bind(waits.key)
        .execute(&mut *first)
        .await?;
    ChargeOrders::default()
        .handle(&mut first, std::slice::from_ref(&waits))
        .await?;
    take_in(&pool, &[incoming(&other)]).await?;
    first.commit().await?;
    locker.rollback().await?;

    let done = work_off_waiting(&pool, BATCH_MAX, &mut None).await?;
    ensure!(done.requests == 1 && done.messages.len() == 1);
    let back = &done.messages[0];
    ensure!(back.kind == PaymentRequested::KIND && back.message_id == waits.message_id);
    ensure!(back.body == order.to_body());
    let known = sqlx::query("select from inbox_messages where message_id = $1")
        .bind(waits.message_id)
        .execute(&pool)
        .await?;
    ensure!(known.rows_affected() == 0, "parking writes no inbox row");
    ensure!(is_conflict(&take_in(&pool, &[waits]).await?));
    ensure!(scalar(&pool, "select count(*) from payments where user_id = 2").await? == 1);
    ensure!(scalar(&pool, DECIDED).await? == 1);
    Ok(())
}

#[tokio::test]
async fn two_processes_work_off_what_waits_once() -> Result<()> {
    let pool = pool().await?;
    let mut batch = Vec::new();
    let mut lockers = Vec::new();
    for user in 1..=3 {
        account(&pool, user, "100.00").await?;
        for order in 0..300 {
            batch.push(incoming(&request(user * 1000 + order, user, "1.00")));
        }
        lockers.push(hold(&pool, user).await?);
    }
    take_in(&pool, &batch).await?;
    for locker in lockers {
        locker.rollback().await?;
    }
    ensure!(scalar(&pool, WAITING).await? == 900);
    while scalar(&pool, WAITING).await? > 0 {
        let (mut first, mut second) = (None, None);
        let (one, two) = tokio::join!(
            work_off_waiting(&pool, BATCH_MAX, &mut first),
            work_off_waiting(&pool, BATCH_MAX, &mut second)
        );
        one?;
        two?;
    }
    ensure!(scalar(&pool, ANSWERS).await? == 900);
    // The first hundred of each user, in their order.
    let paid_early =
        "select count(*) from payments where (outcome = 'paid') = (order_id % 1000 < 100)";
    ensure!(scalar(&pool, paid_early).await? == 900);
    Ok(())
}

/// A row that the tables refuse for good: here an operator has forbidden it, elsewhere it may be a
/// number that does not fit or a row left over from a backup.
#[tokio::test]
async fn a_request_that_cannot_be_decided_is_parked_and_holds_nobody_up() -> Result<()> {
    let pool = pool().await?;
    let mut lockers = Vec::new();
    for user in 1..=3 {
        account(&pool, user, "10.00").await?;
        lockers.push(hold(&pool, user).await?);
    }
    let requests = [
        request(1, 1, "1.00"),
        request(2, 2, "6.66"),
        request(3, 2, "2.00"),
        request(4, 3, "3.00"),
    ];
    let batch: Vec<_> = requests.iter().map(incoming).collect();
    take_in(&pool, &batch).await?;
    sqlx::query("alter table payments add constraint no_devil check (amount <> 6.66)")
        .execute(&pool)
        .await?;
    for locker in lockers {
        locker.rollback().await?;
    }

    let (outbox, set_aside, status) = (Outbox::new(), Notify::new(), TaskStatus::default());
    let stop = CancellationToken::new();
    let works = run(&pool, &outbox, &set_aside, 3, &status, &stop);
    let waits = async {
        while scalar(&pool, WAITING).await? > 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        Ok::<_, anyhow::Error>(())
    };
    let limit = std::time::Duration::from_secs(30);
    let ((), waited) = tokio::time::timeout(limit, async { tokio::join!(works, waits) }).await?;
    waited?;
    ensure!(status.check().is_ok(), "{:?}", status.check());
    ensure!(scalar(&pool, DECIDED).await? == 3, "the others are decided");
    let parked = "select count(*) from parked_messages
         where queue = 'payments.requests' and reason = 'attempts' and detail like '%no_devil%'
           and convert_from(body, 'UTF8') like '%6.66%' and state = 'open'";
    ensure!(scalar(&pool, parked).await? == 1, "it is for a person");
    let known = sqlx::query("select from inbox_messages where message_id = $1")
        .bind(batch[1].message_id)
        .execute(&pool)
        .await?;
    ensure!(known.rows_affected() == 0, "as if it had not come");
    Ok(())
}

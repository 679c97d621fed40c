//! The SQL of requests that wait for their user's account. It decides nothing.

use std::collections::HashMap;

use contracts::{Money, OrderId, OrderUid, PaymentRequested, UserId};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::money;

/// A request that waits for its user's account.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Its turn; 0 before it is stored.
    pub(crate) id: i64,
    pub(crate) message_id: Uuid,
    pub(crate) request: PaymentRequested,
    pub(crate) traceparent: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// Sets requests aside, behind those that are there already.
pub(crate) async fn insert_waiting(
    transaction: &mut PgConnection,
    waiting: &[Waiting],
) -> Result<u64, sqlx::Error> {
    let message_ids: Vec<Uuid> = waiting.iter().map(|w| w.message_id).collect();
    let uids: Vec<Uuid> = waiting.iter().map(|w| w.request.order_uid.0).collect();
    let order_ids: Vec<i64> = waiting.iter().map(|w| w.request.order_id.0).collect();
    let users: Vec<i64> = waiting.iter().map(|w| w.request.user_id.0).collect();
    let amounts: Vec<Decimal> = waiting
        .iter()
        .map(|w| w.request.amount.as_decimal())
        .collect();
    let traceparents: Vec<Option<String>> = waiting.iter().map(|w| w.traceparent.clone()).collect();
    let request_ids: Vec<Option<String>> = waiting.iter().map(|w| w.request_id.clone()).collect();
    let inserted = sqlx::query!(
        r#"
        insert into waiting_messages
               (message_id, order_uid, order_id, user_id, amount, traceparent, request_id)
        select message_id, order_uid, order_id, user_id, amount, traceparent, request_id
          from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::numeric[],
                      $6::text[], $7::text[])
               with ordinality
            as t (message_id, order_uid, order_id, user_id, amount, traceparent, request_id, turn)
         order by turn
        "#,
        &message_ids,
        &uids,
        &order_ids,
        &users,
        &amounts,
        &traceparents as &[Option<String>],
        &request_ids as &[Option<String>],
    )
    .execute(transaction)
    .await?;
    Ok(inserted.rows_affected())
}

/// Which of these orders wait, and for whom and how much they do.
pub(crate) async fn find_waiting(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<HashMap<OrderUid, (UserId, Money)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select distinct on (order_uid) order_uid, user_id, amount
          from waiting_messages
         where order_uid = any ($1)
         order by order_uid, id
        "#,
        uids,
    )
    .fetch_all(transaction)
    .await?;
    rows.into_iter()
        .map(|r| {
            let asked = (UserId(r.user_id), money(r.amount)?);
            Ok((OrderUid(r.order_uid), asked))
        })
        .collect()
}

/// Locks accounts that requests wait for, as far as nobody else holds them, those first that were
/// waited for longest. Nothing is waited for, so their order makes no deadlock.
pub(crate) async fn lock_awaited_accounts(
    transaction: &mut PgConnection,
    most: i64,
) -> Result<HashMap<UserId, Money>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select user_id, balance
          from accounts a
         where user_id = any (array(select distinct user_id from waiting_messages))
         order by (select min(id) from waiting_messages w where w.user_id = a.user_id)
         limit $1
           for no key update skip locked
        "#,
        most,
    )
    .fetch_all(transaction)
    .await?;
    rows.into_iter()
        .map(|r| Ok((UserId(r.user_id), money(r.balance)?)))
        .collect()
}

/// Takes out what waits for these accounts, oldest first. They must be locked: that is what keeps
/// two processes from taking the same, or a later one first.
pub(crate) async fn take_waiting(
    transaction: &mut PgConnection,
    users: &[i64],
    most: i64,
) -> Result<Vec<Waiting>, sqlx::Error> {
    let mut rows = sqlx::query!(
        r#"
        delete from waiting_messages
         where id = any (array(
                   select id from waiting_messages
                    where user_id = any ($1) order by id limit $2))
        returning id, message_id, order_uid, order_id, user_id, amount, traceparent, request_id
        "#,
        users,
        most,
    )
    .fetch_all(transaction)
    .await?;
    rows.sort_unstable_by_key(|row| row.id);
    rows.into_iter()
        .map(|r| {
            Ok(Waiting {
                id: r.id,
                message_id: r.message_id,
                request: PaymentRequested {
                    order_uid: OrderUid(r.order_uid),
                    order_id: OrderId(r.order_id),
                    user_id: UserId(r.user_id),
                    amount: money(r.amount)?,
                },
                traceparent: r.traceparent,
                request_id: r.request_id,
            })
        })
        .collect()
}

/// Takes one request out; false if it is not there any more.
pub(crate) async fn remove_waiting(
    transaction: &mut PgConnection,
    id: i64,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query!("delete from waiting_messages where id = $1", id)
        .execute(transaction)
        .await?;
    Ok(removed.rows_affected() == 1)
}

/// Forgets that messages were taken in.
pub(crate) async fn forget_messages(
    transaction: &mut PgConnection,
    message_ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from inbox_messages where message_id = any ($1)",
        message_ids,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

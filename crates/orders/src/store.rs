//! All SQL of the Orders service. It decides nothing.

use std::collections::HashMap;
use std::time::Duration;

use chassis::database::minding_plans;
use contracts::{MessageId, Money, OrderId, OrderUid, PaymentRequested, SCHEMA_VERSION, UserId};
use postbox::{OutboxRow, RowRef};
use rust_decimal::Decimal;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::order::{Known, NewOrder, Order, Status, Unanswered};

/// What stands in the row is not what the schema allows.
fn corrupt(what: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} in orders").into())
}

fn money(decimal: Decimal) -> Result<Money, sqlx::Error> {
    decimal.try_into().map_err(corrupt)
}

fn status(word: &str) -> Result<Status, sqlx::Error> {
    Status::parse(word).ok_or_else(|| corrupt(word))
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

/// Stores a batch of orders and their requests for payment, in one statement and so in one
/// transaction. Returns the number and the outbox row of each, to be matched by `order_uid`.
///
/// The bodies are rendered here; only the digits of the new number are put in by the database.
pub(crate) async fn insert_orders(
    pool: &PgPool,
    orders: &[NewOrder],
    redrive_after: Duration,
) -> Result<HashMap<OrderUid, (OrderId, OutboxRow)>, sqlx::Error> {
    let uids: Vec<Uuid> = orders.iter().map(|o| o.order_uid.0).collect();
    let message_ids: Vec<Uuid> = orders.iter().map(|o| o.message_id.0).collect();
    let users: Vec<i64> = orders.iter().map(|o| o.user_id.0).collect();
    let amounts: Vec<Decimal> = orders.iter().map(|o| o.amount.as_decimal()).collect();
    let descriptions: Vec<String> = orders.iter().map(|o| o.description.clone()).collect();
    let (before, after): (Vec<String>, Vec<String>) = orders
        .iter()
        .map(|o| PaymentRequested::body_around_order_id(o.order_uid, o.user_id, o.amount))
        .unzip();
    let traceparents: Vec<Option<String>> = orders.iter().map(|o| o.traceparent.clone()).collect();
    let request_ids: Vec<Option<String>> = orders.iter().map(|o| o.request_id.clone()).collect();
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query!(
        r#"
        with m as materialized (
            select nextval('orders_id_seq') as id, nextval('outbox_messages_id_seq') as outbox_id, t.*
              from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::numeric[], $5::text[],
                          $6::text[], $7::text[], $8::text[], $9::text[])
                as t (order_uid, message_id, user_id, amount, description,
                      before, after, traceparent, request_id)
        ), o as (
            insert into orders
                   (id, order_uid, message_id, user_id, amount, description, next_redrive_at)
            select id, order_uid, message_id, user_id, amount, description, now() + $10
              from m
                on conflict (order_uid) do nothing
            returning order_uid
        ), b as (
            insert into outbox_messages
                   (id, message_id, kind, key, schema_version, body, traceparent, request_id)
            select outbox_id, message_id, $11, order_uid, $12, before || id || after,
                   traceparent, request_id
              from m
             where exists (select from o where o.order_uid = m.order_uid)
            returning id, created_at, due_at, body
        )
        select m.order_uid as "order_uid!", m.id as "order_id!",
               b.id as "id!", b.created_at as "created_at!", b.due_at as "due_at!",
               b.body as "body!"
          from b join m on m.outbox_id = b.id
        "#,
        &uids,
        &message_ids,
        &users,
        &amounts,
        &descriptions,
        &before,
        &after,
        &traceparents as &[Option<String>],
        &request_ids as &[Option<String>],
        interval(redrive_after),
        PaymentRequested::KIND,
        postbox::version_sent(SCHEMA_VERSION),
    )
    .fetch_all(&mut *connection)
    .await;
    let rows = minding_plans(&mut connection, rows).await?;
    let mut by_uid: HashMap<Uuid, &NewOrder> = orders.iter().map(|o| (o.order_uid.0, o)).collect();
    Ok(rows
        .into_iter()
        .filter_map(|r| {
            let order = by_uid.remove(&r.order_uid)?;
            let row = OutboxRow {
                row: RowRef {
                    id: r.id,
                    created_at: r.created_at,
                    due_at: r.due_at,
                },
                message_id: order.message_id.0,
                kind: PaymentRequested::KIND.to_owned(),
                schema_version: postbox::version_sent(SCHEMA_VERSION),
                body: r.body,
                traceparent: order.traceparent.clone(),
                request_id: order.request_id.clone(),
            };
            Some((order.order_uid, (OrderId(r.order_id), row)))
        })
        .collect())
}

/// Numbers of the orders that exist among these.
pub(crate) async fn find_by_uid(
    pool: &PgPool,
    uids: &[Uuid],
) -> Result<HashMap<OrderUid, OrderId>, sqlx::Error> {
    let rows = sqlx::query!(
        "select order_uid, id from orders where order_uid = any ($1)",
        uids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| (OrderUid(r.order_uid), OrderId(r.id)))
        .collect())
}

/// One order of this user.
pub(crate) async fn find_order(
    pool: &PgPool,
    order_id: OrderId,
    user_id: UserId,
) -> Result<Option<Order>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let row = sqlx::query!(
        "select id, user_id, amount, description, status from orders where id = $1 and user_id = $2",
        order_id.0,
        user_id.0,
    )
    .fetch_optional(&mut *connection)
    .await;
    let row = minding_plans(&mut connection, row).await?;
    row.map(|r| {
        Ok(Order {
            id: OrderId(r.id),
            user_id: UserId(r.user_id),
            amount: money(r.amount)?,
            description: r.description,
            status: status(&r.status)?,
        })
    })
    .transpose()
}

/// Up to `limit` orders of a user below a number, newest first.
pub(crate) async fn list_orders(
    pool: &PgPool,
    user_id: UserId,
    below: OrderId,
    limit: i64,
) -> Result<Vec<Order>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query!(
        r#"
        select id, user_id, amount, description, status
          from orders
         where user_id = $1 and id < $2
         order by id desc
         limit $3
        "#,
        user_id.0,
        below.0,
        limit,
    )
    .fetch_all(&mut *connection)
    .await;
    let rows = minding_plans(&mut connection, rows).await?;
    rows.into_iter()
        .map(|r| {
            Ok(Order {
                id: OrderId(r.id),
                user_id: UserId(r.user_id),
                amount: money(r.amount)?,
                description: r.description,
                status: status(&r.status)?,
            })
        })
        .collect()
}

/// Locks orders in key order, so that two consumers never wait for each other.
pub(crate) async fn lock_orders(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<HashMap<OrderUid, Known>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select order_uid, user_id, amount, status
          from orders
         where order_uid = any ($1)
         order by order_uid
           for no key update
        "#,
        uids,
    )
    .fetch_all(transaction)
    .await?;
    rows.into_iter()
        .map(|r| {
            let known = Known {
                user_id: UserId(r.user_id),
                amount: money(r.amount)?,
                status: status(&r.status)?,
            };
            Ok((OrderUid(r.order_uid), known))
        })
        .collect()
}

/// Gives orders their final status; returns how many got it. The guard is not written as
/// `status = 'NEW'`: that would have it planned over the partial index on NEW orders, which
/// under load holds mostly dead entries.
pub(crate) async fn set_final(
    transaction: &mut PgConnection,
    settled: &[(OrderUid, Status)],
) -> Result<u64, sqlx::Error> {
    let uids: Vec<Uuid> = settled.iter().map(|(uid, _)| uid.0).collect();
    let statuses: Vec<String> = settled.iter().map(|(_, s)| s.as_str().to_owned()).collect();
    let done = sqlx::query!(
        r#"
        update orders o
           set status = m.status, updated_at = now()
          from unnest($1::uuid[], $2::text[]) as m (order_uid, status)
         where o.order_uid = any ($1)
           and o.order_uid = m.order_uid
           and o.status not in ('FINISHED', 'CANCELLED')
        "#,
        &uids,
        &statuses,
    )
    .execute(transaction)
    .await?;
    Ok(done.rows_affected())
}

/// Those among these whose status is final.
pub(crate) async fn find_final(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select order_uid from orders
          where order_uid = any ($1) and status in ('FINISHED', 'CANCELLED')",
        uids,
    )
    .fetch_all(transaction)
    .await
}

/// Whether nobody else is asking again at this moment; nobody else will until the transaction ends.
pub(crate) async fn is_only_one(transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtext('orders_redrive')) as "only_one!""#
    )
    .fetch_one(transaction)
    .await
}

/// An order asked for so often in vain (half an hour at the usual times) is waiting for a person.
/// It is asked for still, and takes no place in the window from others while results of others come
/// in. While none do, Payments may be away and nobody is hopeless: then one order more is asked for
/// at a time, whose result would be the sign of life.
const HOPELESS_AFTER: i16 = 8;

/// Claims orders that have been NEW for too long, oldest first, and puts off their next turn:
/// twice after the same time, then doubling up to ten minutes, jittered. A turn absurdly far ahead
/// (the database's clock was set back) counts as due. An order in `unsent`, whose message has not
/// even left the outbox, is skipped, and so is one that is being settled at this moment.
///
/// No more than `window` orders are being asked for again at a time. Those that are get their next
/// turn whether the window is full or not: the broker may have lost all of their copies.
///
/// What it reads does not grow with the orders that are unanswered: each part walks an index in
/// order and stops. Only entries that are dead and not cleared away yet come on top.
pub(crate) async fn claim_unanswered(
    transaction: &mut PgConnection,
    after: Duration,
    window: i64,
    unsent: &[Uuid],
) -> Result<Vec<Unanswered>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        with payments as (
            -- whether results came in lately, among those that were sent last
            select coalesce(bool_or(received_at > now() - interval '10 min'), false) as answers
              from (select received_at from inbox_messages
                     where message_id > uuid7_floor(now() - interval '2 hours')
                       and message_id < uuid7_floor(now() + interval '1 hour')
                     order by message_id desc limit 100) sent_last
        ), hopeful as (
            select count(*) as orders
              from (select from orders
                     where status = 'NEW' and redrives between 1 and $3 limit $2) asked
        ), hopeless as (
            select count(*) as orders
              from (select from orders
                     where status = 'NEW' and redrives > 0 and redrives > $3 limit $2) asked
        ), room as (
            select case when answers then greatest(0, $2 - hopeful.orders)
                        else greatest(0, $2 - hopeful.orders - hopeless.orders,
                                      1 - hopeful.orders) end as orders
              from payments, hopeful, hopeless
        ), again as (
            (select id from orders
              where status = 'NEW' and redrives > 0
                and next_redrive_at <= now()
                and order_uid <> all ($4)
              order by next_redrive_at limit $2)
             union all
            (select id from orders
              where status = 'NEW' and redrives > 0
                and next_redrive_at > now() + 2 * greatest($1::interval, interval '10 min')
                and order_uid <> all ($4)
              order by next_redrive_at limit $2)
             limit $2
        ), anew as (
            (select id from orders
              where status = 'NEW' and redrives = 0
                and next_redrive_at <= now()
                and order_uid <> all ($4)
              order by next_redrive_at limit (select orders from room))
             union all
            (select id from orders
              where status = 'NEW' and redrives = 0
                and next_redrive_at > now() + 2 * greatest($1::interval, interval '10 min')
                and order_uid <> all ($4)
              order by next_redrive_at limit (select orders from room))
             limit (select orders from room)
        ), locked as (
            -- in the order of those who settle them, and without waiting for them; as text, which
            -- is the same order, so that the key's index is not walked for it
            select id from orders
             where id = any (array(select id from again union all select id from anew))
               and status not in ('FINISHED', 'CANCELLED')
             order by order_uid::text collate "C"
               for no key update skip locked
        )
        update orders o
           set redrives = least(redrives, 1000) + 1,
               updated_at = now(),
               next_redrive_at = now() + (0.9 + 0.2 * random())
                   * least($1::interval * power(2, least(20, greatest(0, redrives - 1))),
                           greatest($1::interval, interval '10 min'))
         where o.id = any (array(select id from locked))
        returning o.id, o.order_uid, o.message_id, o.user_id, o.amount
        "#,
        interval(after),
        window,
        HOPELESS_AFTER,
        unsent,
    )
    .fetch_all(&mut *transaction)
    .await;
    let rows = minding_plans(transaction, rows).await?;
    rows.into_iter()
        .map(|r| {
            Ok(Unanswered {
                message_id: MessageId(r.message_id),
                request: PaymentRequested {
                    order_uid: OrderUid(r.order_uid),
                    order_id: OrderId(r.id),
                    user_id: UserId(r.user_id),
                    amount: money(r.amount)?,
                },
            })
        })
        .collect()
}

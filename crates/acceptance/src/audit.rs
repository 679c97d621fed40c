//! What steps ask the audit views about one order or one queue. Whether the whole is right, `prover` decides.

use anyhow::Context;
use contracts::{MessageId, OrderUid};
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use crate::process::Service;
use crate::stack::Stack;

/// What the databases know of an order beside what the API tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// What is paid once.
    pub(crate) order_uid: OrderUid,
    /// The id of the request for its payment.
    pub(crate) message_id: MessageId,
}

/// A message that could not be processed.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Parked {
    /// The queue it came from.
    pub(crate) queue: String,
    /// Out of the contract's list.
    pub(crate) reason: String,
}

/// The identity of an order and of its request.
///
/// # Errors
/// If there is no such order, or the database does not answer.
pub(crate) async fn identity(stack: &Stack, order_id: i64) -> anyhow::Result<Identity> {
    let mut connection = connect(stack, Service::Orders).await?;
    let (order_uid, message_id): (Uuid, Uuid) = sqlx::query_as(
        "select o.order_uid, b.message_id \
         from audit.orders o join audit.outbox b on b.order_uid = o.order_uid \
         where o.order_id = $1 limit 1",
    )
    .bind(order_id)
    .fetch_one(&mut connection)
    .await
    .with_context(|| format!("order {order_id} has no request"))?;
    connection.close().await?;
    Ok(Identity {
        order_uid: OrderUid(order_uid),
        message_id: MessageId(message_id),
    })
}

/// How many times Payments has answered a request about this order.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn answers(stack: &Stack, order_uid: OrderUid) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Payments).await?;
    let count = sqlx::query_scalar("select count(*) from audit.outbox where order_uid = $1")
        .bind(order_uid.0)
        .fetch_one(&mut connection)
        .await
        .context("cannot count answers")?;
    connection.close().await?;
    Ok(count)
}

/// How many requests Orders has sent for orders that it had asked for before.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn asked_again(stack: &Stack) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Orders).await?;
    let count = sqlx::query_scalar("select count(*) - count(distinct order_uid) from audit.outbox")
        .fetch_one(&mut connection)
        .await
        .context("cannot count requests")?;
    connection.close().await?;
    Ok(count)
}

/// What a service has parked.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn parked(stack: &Stack, service: Service) -> anyhow::Result<Vec<Parked>> {
    let mut connection = connect(stack, service).await?;
    let parked = sqlx::query_as("select queue, reason from audit.parked")
        .fetch_all(&mut connection)
        .await
        .context("cannot read parked messages")?;
    connection.close().await?;
    Ok(parked)
}

/// How many orders of a user are finished.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn finished(stack: &Stack, user_id: i64) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Orders).await?;
    let count = sqlx::query_scalar(
        "select count(*) from audit.orders where user_id = $1 and status = 'FINISHED'",
    )
    .bind(user_id)
    .fetch_one(&mut connection)
    .await
    .context("cannot count orders")?;
    connection.close().await?;
    Ok(count)
}

/// Orders whose request is not known to be sent.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn unsent_orders(stack: &Stack) -> anyhow::Result<Vec<Uuid>> {
    let mut connection = connect(stack, Service::Orders).await?;
    let unsent = sqlx::query_scalar("select order_uid from audit.outbox where not sent")
        .fetch_all(&mut connection)
        .await
        .context("cannot read the outbox")?;
    connection.close().await?;
    Ok(unsent)
}

/// How many of these orders Payments has decided.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn decided_among(stack: &Stack, orders: &[Uuid]) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Payments).await?;
    let count =
        sqlx::query_scalar("select count(*) from audit.payments where order_uid = any ($1)")
            .bind(orders)
            .fetch_one(&mut connection)
            .await
            .context("cannot count payments")?;
    connection.close().await?;
    Ok(count)
}

/// How many answers Payments has given beyond one for each order.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn answered_again(stack: &Stack) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Payments).await?;
    let count = sqlx::query_scalar("select count(*) - count(distinct order_uid) from audit.outbox")
        .fetch_one(&mut connection)
        .await
        .context("cannot count answers")?;
    connection.close().await?;
    Ok(count)
}

/// A connection to a service's own database.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn connect(stack: &Stack, service: Service) -> anyhow::Result<PgConnection> {
    let connect = PgConnection::connect(&stack.database_url(service)?).await;
    connect.with_context(|| format!("cannot connect to the database of {service}"))
}

/// How many open orders were asked for again, and how often the one that was asked for most.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn asked_again_and_open(stack: &Stack) -> anyhow::Result<(i64, i16)> {
    let mut connection = connect(stack, Service::Orders).await?;
    let asked = sqlx::query_as(
        "select count(*), coalesce(max(redrives), 0::smallint) from orders \
         where status = 'NEW' and redrives > 0",
    )
    .fetch_one(&mut connection)
    .await
    .context("cannot count orders")?;
    connection.close().await?;
    Ok(asked)
}

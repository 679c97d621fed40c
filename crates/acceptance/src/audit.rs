//! What steps ask the audit views about one order or one queue. Whether the whole is right, `prover` decides.

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::{MessageId, OrderUid};
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};
use uuid::Uuid;

use crate::eventually::eventually;
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

/// How many orders a service knows messages about under more than one id, be it that it sent them or that it took
/// them in.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn orders_with_two_ids(stack: &Stack, service: Service) -> anyhow::Result<i64> {
    let mut connection = connect(stack, service).await?;
    let count = sqlx::query_scalar(
        "select count(*) from ( \
             select from audit.outbox group by order_uid having count(distinct message_id) > 1 \
              union all \
             select from audit.inbox group by order_uid having count(distinct message_id) > 1) t",
    )
    .fetch_one(&mut connection)
    .await
    .context("cannot count ids")?;
    connection.close().await?;
    Ok(count)
}

/// How many orders are finished.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn all_finished(stack: &Stack) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Orders).await?;
    let count = sqlx::query_scalar("select count(*) from audit.orders where status = 'FINISHED'")
        .fetch_one(&mut connection)
        .await
        .context("cannot count orders")?;
    connection.close().await?;
    Ok(count)
}

/// What a service has parked, whatever became of it since.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn parked(stack: &Stack, service: Service) -> anyhow::Result<Vec<Parked>> {
    let mut connection = connect(stack, service).await?;
    let parked = sqlx::query_as("select queue, reason from parked_messages")
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

/// How many orders have come to their end.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn ended(stack: &Stack) -> anyhow::Result<i64> {
    let mut connection = connect(stack, Service::Orders).await?;
    let count = sqlx::query_scalar("select count(*) from audit.orders where status <> 'NEW'")
        .fetch_one(&mut connection)
        .await
        .context("cannot count orders")?;
    connection.close().await?;
    Ok(count)
}

/// The longest time between two orders' ends, and the longest that one order took.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn longest_waits(stack: &Stack) -> anyhow::Result<(Duration, Duration)> {
    let mut connection = connect(stack, Service::Orders).await?;
    let (pause, wait): (f64, f64) = sqlx::query_as(
        "select coalesce(max(pause), 0), coalesce(max(wait), 0) from ( \
           select extract(epoch from updated_at - lag(updated_at) over (order by updated_at))::float8 as pause, \
                  extract(epoch from updated_at - created_at)::float8 as wait \
             from audit.orders where status <> 'NEW') as ended",
    )
    .fetch_one(&mut connection)
    .await
    .context("cannot read how long orders took")?;
    connection.close().await?;
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).context("a clock was set back");
    Ok((span(pause)?, span(wait)?))
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

/// Which of these orders Payments has decided.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn decided_among(stack: &Stack, orders: &[Uuid]) -> anyhow::Result<Vec<Uuid>> {
    let mut connection = connect(stack, Service::Payments).await?;
    let decided =
        sqlx::query_scalar("select order_uid from audit.payments where order_uid = any ($1)")
            .bind(orders)
            .fetch_all(&mut connection)
            .await
            .context("cannot read payments")?;
    connection.close().await?;
    Ok(decided)
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

/// A count of the server's about a service's database, as `deadlocks`.
///
/// # Errors
/// If the database does not answer.
pub(crate) async fn statistic(
    stack: &Stack,
    service: Service,
    column: &str,
) -> anyhow::Result<i64> {
    let mut connection = connect(stack, service).await?;
    let count = sqlx::query_scalar(AssertSqlSafe(format!(
        "select {column} from pg_stat_database where datname = current_database()"
    )))
    .fetch_one(&mut connection)
    .await
    .context("cannot read statistics")?;
    connection.close().await?;
    Ok(count)
}

/// Whether no two transactions have waited for each other, but for `made` in the database of Payments that the scenario
/// has made itself; since the databases crashed last: a crash discards the server's counts. To be asked when the
/// services have ended: a session may keep its count to itself for ten seconds, and gives it up when it ends.
///
/// # Errors
/// If they have, a session does not end, or a database does not answer.
pub(crate) async fn no_deadlocks(stack: &Stack, made: i64) -> anyhow::Result<()> {
    for (service, made) in [(Service::Orders, 0), (Service::Payments, made)] {
        let deadlocks = eventually("the services' sessions end", || async move {
            let mut connection = connect(stack, service).await?;
            let sessions: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity \
                 where datname = current_database() and application_name ~ '^paidonce-(orders|payments)-'",
            )
            .fetch_one(&mut connection)
            .await
            .context("cannot read sessions")?;
            connection.close().await?;
            ensure!(sessions == 0, "{service} has {sessions}");
            statistic(stack, service, "deadlocks").await
        })
        .await?;
        ensure!(deadlocks <= made, "{service} had {deadlocks} deadlocks");
    }
    Ok(())
}

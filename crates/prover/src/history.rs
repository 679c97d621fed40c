//! What both databases know of one order, for the person who has to find out what became of it.
//!
//! Not here: whether that is right (`invariants`).

use uuid::Uuid;

use crate::audit::{Audit, AuditError, Databases, Side};

/// Of Orders: the order, its requests, the results that came.
const AT_ORDERS: &str = "
    select line from (
        select 1 as n, format('orders: order %s (%s) of user %s for %s is %s, placed %s, changed %s',
            order_id, order_uid, user_id, amount, status, created_at, updated_at) as line
          from audit.orders where order_id = any($1)
         union all
        select 2, format('orders sends: %s, %s, attempts: %s', b.message_id,
            case when b.sent then 'sent' else 'unsent' end, b.attempts)
          from audit.outbox b join audit.orders o using (order_uid) where o.order_id = any($1)
         union all
        select 3, format('orders took in: %s, %s', b.message_id, b.outcome)
          from audit.inbox b join audit.orders o using (order_uid) where o.order_id = any($1)
    ) as lines order by n, line";

/// Of Payments: the requests that came, the decision, what was booked, the results.
const AT_PAYMENTS: &str = "
    select line from (
        select 1 as n, format('payments took in: %s, %s', message_id, outcome) as line
          from audit.inbox where order_uid = any($1)
         union all
        select 2, format('payments decided: %s for %s of user %s, at %s',
            concat_ws(' ', outcome, reason), amount, user_id, settled_at)
          from audit.payments where order_uid = any($1)
         union all
        select 3, format('payments booked: %s of %s on user %s, at %s', kind, amount, user_id, at)
          from audit.ledger where order_uid = any($1)
         union all
        select 4, format('payments sends: %s, %s, attempts: %s', message_id,
            case when sent then 'sent' else 'unsent' end, attempts)
          from audit.outbox where order_uid = any($1)
    ) as lines order by n, line";

/// What is known of an order, a line for each row about it: order, requests, decision, bookings and
/// results, in the order in which they come about. Empty if there is no such order.
///
/// The two databases are asked one after the other, so an order that is under way may be a step
/// further at Payments.
///
/// # Errors
/// [`AuditError`] when a database cannot be asked.
pub async fn history(databases: &Databases, order_id: i64) -> Result<Vec<String>, AuditError> {
    let mut orders = Audit::connect(databases, Side::Orders).await?;
    let mut lines = lines_of(&mut orders, AT_ORDERS, &[order_id]).await?;
    let uids: Vec<(Uuid,)> = orders
        .rows_of(
            "select order_uid from audit.orders where order_id = any($1)",
            &[order_id],
        )
        .await?;
    orders.close().await;
    let uids: Vec<Uuid> = uids.into_iter().map(|(order_uid,)| order_uid).collect();
    let mut payments = Audit::connect(databases, Side::Payments).await?;
    lines.extend(lines_of(&mut payments, AT_PAYMENTS, &uids).await?);
    payments.close().await;
    Ok(lines)
}

async fn lines_of<Id>(
    audit: &mut Audit,
    sql: &'static str,
    ids: &[Id],
) -> Result<Vec<String>, AuditError>
where
    Id: Send + Sync,
    for<'i> &'i [Id]: sqlx::Encode<'i, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let rows: Vec<(String,)> = audit.rows_of(sql, ids).await?;
    Ok(rows.into_iter().map(|(line,)| line).collect())
}

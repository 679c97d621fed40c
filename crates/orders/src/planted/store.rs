//! SQL of the faults that are planted for the acceptance suite.

use std::collections::HashMap;

use contracts::OrderUid;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoredOrders;
use crate::order::{Known, Status};
use crate::store;

/// As if the orders had been stored without their events.
pub(crate) async fn take_the_events_out(
    pool: &PgPool,
    stored: &StoredOrders,
) -> Result<(), sqlx::Error> {
    let uids: Vec<Uuid> = stored.keys().map(|uid| uid.0).collect();
    sqlx::query("delete from outbox_messages where key = any ($1)")
        .bind(uids)
        .execute(pool)
        .await?;
    Ok(())
}

/// Writes a status over whatever stands there.
pub(crate) async fn overwrite_status(
    transaction: &mut PgConnection,
    settled: &[(OrderUid, Status)],
) -> Result<(), sqlx::Error> {
    for (order_uid, status) in settled {
        sqlx::query("update orders set status = $2, updated_at = now() where order_uid = $1")
            .bind(order_uid.0)
            .bind(status.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// Locks orders in the order in which they are named.
pub(crate) async fn lock_in_no_order(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<HashMap<OrderUid, Known>, sqlx::Error> {
    sqlx::query(
        "select from orders where order_uid = any ($1) \
         order by array_position($1, order_uid) for no key update",
    )
    .bind(uids)
    .execute(&mut *transaction)
    .await?;
    store::lock_orders(transaction, uids).await
}

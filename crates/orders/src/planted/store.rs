//! SQL of the faults that are planted for the acceptance suite.

use contracts::OrderUid;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::StoredOrders;
use crate::order::Status;

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

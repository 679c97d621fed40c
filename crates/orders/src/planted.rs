//! What the faults planted for the acceptance suite do to the tables of Orders. Only builds with
//! postbox's feature `failpoints` come here, and only when told so.

mod store;

use std::collections::HashMap;

use contracts::{OrderId, OrderUid, PaymentRequested, SCHEMA_VERSION};
use postbox::{NewMessage, OutboxRow};
use sqlx::PgPool;

pub(crate) use store::*;

type StoredOrders = HashMap<OrderUid, (OrderId, OutboxRow)>;

/// The events in a transaction of their own, as a naive service writes them.
pub(crate) async fn put_the_events_in(
    pool: &PgPool,
    stored: &mut StoredOrders,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for (order_uid, (_, row)) in stored {
        let message = NewMessage {
            message_id: row.message_id,
            kind: PaymentRequested::KIND,
            key: order_uid.0,
            schema_version: SCHEMA_VERSION,
            body: row.body.clone(),
            traceparent: row.traceparent.clone(),
            request_id: row.request_id.clone(),
        };
        if let Some(appended) = postbox::append(&mut transaction, vec![message])
            .await?
            .pop()
        {
            *row = appended;
        }
    }
    transaction.commit().await
}

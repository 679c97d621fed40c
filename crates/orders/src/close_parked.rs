//! Closing what is parked about orders that are final: results that came too late, and requests that could not be sent.

use std::time::Duration;

use chassis::database::bounded;
use chassis::error::chain;
use chassis::metrics::{Count, Parked};
use chassis::tasks::every;
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;

const QUEUES: &[&str] = &[ORDER_RESULTS.queue, PAYMENT_REQUESTS.queue];

/// How often to look. Most is closed by the message that settles its order.
const PERIOD: Duration = Duration::from_secs(10);

/// Closes it, again and again until `shutdown`.
pub(crate) async fn run(pool: &PgPool, shown: &Parked, shutdown: &CancellationToken) {
    every(PERIOD, shutdown.clone(), async || {
        match bounded(close_parked(pool, shown)).await {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "closed what was parked about settled orders"),
            Err(error) => tracing::warn!("cannot close what is parked: {}", chain(&error)),
        }
    })
    .await;
}

/// Closes it, shows what is left, and returns how many messages were closed.
async fn close_parked(pool: &PgPool, shown: &Parked) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let keys = postbox::find_parked_keys(&mut transaction, QUEUES).await?;
    let settled = store::find_final(&mut transaction, &keys).await?;
    let closed = postbox::close_parked(&mut transaction, QUEUES, &settled).await?;
    let counts = postbox::count_parked(&mut transaction).await?;
    transaction.commit().await?;
    let counts = counts.into_iter().map(|count| Count {
        queue: count.queue,
        reason: count.reason,
        open: count.open,
        all: count.all,
    });
    shown.set(&counts.collect::<Vec<_>>());
    Ok(closed)
}

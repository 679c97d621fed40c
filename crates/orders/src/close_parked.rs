//! Closing what is parked about orders that are final: results that came too late, and requests that could not be sent.

use std::time::Duration;

use chassis::database::bounded;
use chassis::error::chain;
use chassis::metrics::Parked;
use chassis::tasks::every;
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::store;

const QUEUES: &[&str] = &[ORDER_RESULTS.queue, PAYMENT_REQUESTS.queue];

/// How often to look. Most is closed by the message that settles its order.
const PERIOD: Duration = Duration::from_secs(10);

/// Closes it, now and again and again until `shutdown`, and shows what is parked.
pub(crate) async fn run(pool: &PgPool, shown: &Parked, shutdown: &CancellationToken) {
    look(pool, shown).await;
    every(PERIOD, shutdown.clone(), || look(pool, shown)).await;
}

async fn look(pool: &PgPool, shown: &Parked) {
    match bounded(close_parked(pool)).await {
        Ok(0) => {}
        Ok(messages) => tracing::info!(messages, "closed what was parked about settled orders"),
        Err(error) => tracing::warn!("cannot close what is parked: {}", chain(&error)),
    }
    // Apart: a count that takes too long must not keep anything open.
    match bounded(postbox::count_parked(pool)).await {
        Ok(counts) => shown.set(
            counts
                .iter()
                .map(|n| (&*n.queue, &*n.reason, n.open, n.all)),
        ),
        Err(error) => tracing::warn!("cannot count what is parked: {}", chain(&error)),
    }
}

/// Closes it, and returns how many messages.
async fn close_parked(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let keys = postbox::find_parked_keys(&mut transaction, QUEUES).await?;
    let settled = store::find_final(&mut transaction, &keys).await?;
    let closed = postbox::close_parked(&mut transaction, QUEUES, &settled).await?;
    transaction.commit().await?;
    Ok(closed)
}

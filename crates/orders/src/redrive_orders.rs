//! Asking again for orders that stay NEW. A confirmed message is not a processed one: a broker
//! can lose it, so an order is done only on its result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chassis::database::bounded;
use chassis::error::chain;
use chassis::tasks::every;
use contracts::{MessageId, PaymentRequested, SCHEMA_VERSION};
use postbox::{NewMessage, Outbox, TaskStatus};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::order::Unanswered;
use crate::store;

/// With so many messages still to be sent that were due long ago the relay is far behind, and what
/// is asked again would only stand behind them.
const RELAY_IS_BEHIND: i64 = 10_000;

/// Asks again until `shutdown`, and says in `status` whether it can.
pub(crate) async fn run(
    pool: &PgPool,
    outbox: &Outbox,
    (after, window): (Duration, i64),
    status: &TaskStatus,
    redriven: &AtomicU64,
    shutdown: &CancellationToken,
) {
    status.set(Ok("begins".into()));
    every(period(after), shutdown.clone(), async || {
        let state = match bounded(redrive_orders(pool, outbox, after, window)).await {
            Ok(Round::Asked(orders)) => {
                if orders > 0 {
                    redriven.fetch_add(orders as u64, Ordering::Relaxed);
                    tracing::info!(orders, "asked again for unanswered orders");
                }
                Ok("asks again for orders without an answer".to_owned())
            }
            Ok(Round::RelayIsBehind) => Ok(format!(
                "nothing is asked for again while {RELAY_IS_BEHIND} messages and more wait to be sent"
            )),
            Err(error) => Err(chain(&error)),
        };
        if status.set(state.clone()) {
            match state {
                Ok(text) => tracing::info!("{text}"),
                Err(text) => tracing::warn!("cannot ask again for unanswered orders: {text}"),
            }
        }
    })
    .await;
}

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// So many orders were asked for again.
    Asked(usize),
    /// None, because the relay has enough to do.
    RelayIsBehind,
}

/// Appends the requests of unanswered orders to the outbox once more, same id, same bytes.
pub(crate) async fn redrive_orders(
    pool: &PgPool,
    outbox: &Outbox,
    after: Duration,
    window: i64,
) -> Result<Round, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if postbox::planted("nothing_is_asked_again") {
        return Ok(Round::Asked(0));
    }
    let window = match postbox::planted("asked_again_without_a_window") {
        true => i64::MAX,
        false => window,
    };
    // The window is counted over all processes, so one looks at a time.
    if !store::is_only_one(&mut transaction).await? {
        return Ok(Round::Asked(0));
    }
    // A message younger than that is about an order that is not to be asked for yet.
    let unsent = postbox::find_unsent(&mut transaction, after / 2, RELAY_IS_BEHIND).await?;
    if unsent.len() as i64 >= RELAY_IS_BEHIND {
        return Ok(Round::RelayIsBehind);
    }
    let unanswered = store::claim_unanswered(&mut transaction, after, window, &unsent).await?;
    let count = unanswered.len();
    let mut messages: Vec<NewMessage> = unanswered.into_iter().map(Into::into).collect();
    if postbox::planted("asked_again_under_a_new_id") {
        for message in &mut messages {
            message.message_id = MessageId::new().0;
        }
    }
    let rows = postbox::append(&mut transaction, messages).await?;
    if count > 0 {
        postbox::moment("orders.asked_again");
    }
    transaction.commit().await?;
    if count > 0 {
        postbox::moment("orders.asked_again_committed");
    }
    outbox.hand_over(rows);
    Ok(Round::Asked(count))
}

impl From<Unanswered> for NewMessage {
    /// The same bytes under the same id as the first time.
    fn from(order: Unanswered) -> Self {
        Self {
            message_id: order.message_id.0,
            kind: PaymentRequested::KIND,
            key: order.request.order_uid.0,
            schema_version: postbox::version_sent(SCHEMA_VERSION),
            body: order.request.to_body(),
            traceparent: None,
            request_id: None,
        }
    }
}

/// How often to look: often enough that an order waits little beyond its time, and that a window
/// that has been answered is soon filled again.
fn period(after: Duration) -> Duration {
    (after / 6).clamp(Duration::from_millis(200), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_tests::pool;

    #[tokio::test]
    async fn it_says_when_it_cannot_ask_and_when_it_can_again() -> anyhow::Result<()> {
        let pool = pool(chassis::database::Role::Upkeep).await?;
        let (outbox, redriven) = (Outbox::new(), AtomicU64::new(0));
        let (status, shutdown) = (TaskStatus::default(), CancellationToken::new());
        let bounds = (Duration::from_millis(600), 3);
        let asking = run(&pool, &outbox, bounds, &status, &redriven, &shutdown);
        let watching = async {
            let _stop = shutdown.clone().drop_guard();
            for (change, well) in [
                ("alter table orders rename to elsewhere", false),
                ("alter table elsewhere rename to orders", true),
            ] {
                sqlx::raw_sql(change).execute(&pool).await?;
                let told = CancellationToken::new();
                let looking = every(Duration::from_millis(20), told.clone(), async || {
                    if status.check().is_ok() == well {
                        told.cancel();
                    }
                });
                tokio::time::timeout(Duration::from_secs(30), looking).await?;
            }
            anyhow::Ok(())
        };
        tokio::join!(asking, watching).1
    }
}

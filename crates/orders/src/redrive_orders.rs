//! Asking again for orders that stay NEW. A confirmed message is not a processed one: a broker
//! can lose it, so an order is done only on its result.

use std::time::Duration;

use contracts::MessageId;
use postbox::{NewMessage, Outbox};
use sqlx::PgPool;

use crate::store;

/// With so many messages still to be sent that were due long ago the relay is far behind, and what
/// is asked again would only stand behind them.
const RELAY_IS_BEHIND: i64 = 10_000;

/// Appends the requests of unanswered orders to the outbox once more, same id, same bytes, and
/// returns how many.
pub(crate) async fn redrive_orders(
    pool: &PgPool,
    outbox: &Outbox,
    after: Duration,
    window: i64,
) -> Result<usize, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if postbox::planted("nothing_is_asked_again") {
        return Ok(0);
    }
    let window = match postbox::planted("asked_again_without_a_window") {
        true => i64::MAX,
        false => window,
    };
    // The window is counted over all processes, so one looks at a time.
    if !store::is_only_one(&mut transaction).await? {
        return Ok(0);
    }
    // A message younger than that is about an order that is not to be asked for yet.
    let unsent = postbox::find_unsent(&mut transaction, after / 2, RELAY_IS_BEHIND).await?;
    if unsent.len() as i64 >= RELAY_IS_BEHIND {
        tracing::info!("nothing is asked for again: {RELAY_IS_BEHIND} messages wait to be sent");
        return Ok(0);
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
    Ok(count)
}

/// How often to look: often enough that an order waits little beyond its time, and that a window
/// that has been answered is soon filled again.
pub(crate) fn period(after: Duration) -> Duration {
    (after / 6).clamp(Duration::from_millis(200), Duration::from_secs(1))
}

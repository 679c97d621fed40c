//! Deciding the requests that found their account locked by somebody else, once it is free: in
//! their turn, with the same rules and the same writes as all others.

pub(crate) mod store;

use std::time::Duration;

use chassis::database::bounded;
use chassis::error::chain;
use contracts::{PaymentRequested, SCHEMA_VERSION};
use postbox::{HandleError, Incoming, NewMessage, Outbox, OutboxRow, TaskStatus};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::account::{self, Books};
use crate::charge_orders::{Writes, Written, sorted};
use store::Waiting;

/// Most accounts, and most requests, in one transaction.
const BATCH_MAX: i64 = 500;
/// How soon an account that is still held is tried again; doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Also how soon somebody looks for what a dead process has left.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Works off what waits until `shutdown`: at once when something was set aside, and with growing
/// pauses while the accounts stay held. One request that cannot be decided holds nobody up: after a
/// failure that does not pass by itself requests are decided one at a time, and one that fails alone
/// goes back to the consumer, who tries it as often as allowed and parks it.
pub(crate) async fn run(
    pool: &PgPool,
    outbox: &Outbox,
    set_aside: &Notify,
    status: &TaskStatus,
    shutdown: &CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    let mut most = BATCH_MAX;
    while !shutdown.is_cancelled() {
        let mut outcome = bounded(work_off_waiting(pool, most)).await;
        if let Err(error) = &outcome
            && !error.is_transient()
        {
            tracing::error!(most, "cannot work off what waits: {}", chain(error));
            if most > 1 {
                most = 1;
                continue;
            }
            outcome = bounded(send_one_back(pool)).await;
        }
        match outcome {
            Ok(done) => {
                status.set(Ok("works off what waits for an account".into()));
                outbox.hand_over(done.messages);
                if done.requests > 0 {
                    tracing::debug!(requests = done.requests, "decided what had waited");
                    pause = FIRST_PAUSE;
                    continue;
                }
                most = BATCH_MAX;
            }
            Err(error) => {
                let text = chain(&error);
                if status.set(Err(text.clone())) {
                    tracing::warn!("cannot work off what waits: {text}");
                }
            }
        }
        let woken = tokio::time::timeout(pause, set_aside.notified());
        match shutdown.run_until_cancelled(woken).await {
            Some(Ok(())) => pause = FIRST_PAUSE,
            Some(Err(_)) => pause = (pause * 2).min(LONGEST_PAUSE),
            None => {}
        }
    }
}

/// What one transaction did.
#[derive(Debug)]
pub(crate) struct WorkedOff {
    pub(crate) requests: usize,
    /// To be handed to the relay.
    pub(crate) messages: Vec<OutboxRow>,
}

/// Decides up to `most` of what waits for up to `most` accounts that are free now. The lock on an account keeps every other
/// process away from what waits for it.
pub(crate) async fn work_off_waiting(pool: &PgPool, most: i64) -> Result<WorkedOff, HandleError> {
    let mut transaction = pool.begin().await?;
    let balances = store::lock_awaited_accounts(&mut transaction, most).await?;
    let users = sorted(balances.keys().map(|user| user.0));
    let waiting = store::take_waiting(&mut transaction, &users, most).await?;
    let requests: Vec<&PaymentRequested> = waiting.iter().map(|w| &w.request).collect();
    let uids = sorted(requests.iter().map(|request| request.order_uid.0));
    let mut books = Books {
        balances,
        decided: crate::store::find_decided(&mut transaction, &uids).await?,
        ..Books::default()
    };

    let decisions = account::decide(&requests, &mut books);

    let mut writes = Writes::default();
    let mut returned = Vec::new();
    for (waiting, decision) in waiting.iter().zip(decisions) {
        if let Written::Nothing(_) = writes.add(waiting, decision) {
            returned.push(waiting);
        }
    }
    let mut messages = writes.write(&mut transaction).await?;
    // Another process decided the order for somebody else meanwhile. Parking is the consumer's: the
    // message is forgotten and sent to it once more.
    let forgotten: Vec<_> = returned.iter().map(|waiting| waiting.message_id).collect();
    store::forget_messages(&mut transaction, &forgotten).await?;
    let again = returned.into_iter().map(Waiting::to_message).collect();
    messages.extend(postbox::append(&mut transaction, again).await?);
    if !waiting.is_empty() {
        postbox::moment("payments.worked_off");
    }
    transaction.commit().await?;
    if !waiting.is_empty() {
        postbox::moment("payments.worked_off_committed");
    }
    Ok(WorkedOff {
        requests: waiting.len(),
        messages,
    })
}

/// Sends the request that [`work_off_waiting`] comes to first back to the consumer, undecided.
async fn send_one_back(pool: &PgPool) -> Result<WorkedOff, HandleError> {
    let mut transaction = pool.begin().await?;
    let balances = store::lock_awaited_accounts(&mut transaction, 1).await?;
    let users = sorted(balances.keys().map(|user| user.0));
    let waiting = store::take_waiting(&mut transaction, &users, 1).await?;
    let forgotten: Vec<_> = waiting.iter().map(|waiting| waiting.message_id).collect();
    store::forget_messages(&mut transaction, &forgotten).await?;
    let again = waiting.iter().map(Waiting::to_message).collect();
    let messages = postbox::append(&mut transaction, again).await?;
    transaction.commit().await?;
    Ok(WorkedOff {
        requests: waiting.len(),
        messages,
    })
}

impl From<&Incoming<PaymentRequested>> for Waiting {
    fn from(incoming: &Incoming<PaymentRequested>) -> Self {
        Self {
            message_id: incoming.message_id,
            request: incoming.message.clone(),
            traceparent: incoming.traceparent.clone(),
            request_id: incoming.request_id.clone(),
        }
    }
}

impl Waiting {
    fn to_message(&self) -> NewMessage {
        NewMessage {
            message_id: self.message_id,
            kind: PaymentRequested::KIND,
            key: self.request.order_uid.0,
            schema_version: postbox::version_sent(SCHEMA_VERSION),
            body: self.request.to_body(),
            traceparent: self.traceparent.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

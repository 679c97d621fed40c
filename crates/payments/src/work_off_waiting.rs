//! Deciding the requests that found their account locked by somebody else, once it is free: in
//! their turn, with the same rules and the same writes as all others.

pub(crate) mod store;

use std::time::Duration;

use chassis::database::bounded;
use chassis::error::chain;
use contracts::topology::PAYMENT_REQUESTS;
use contracts::{PaymentRequested, SCHEMA_VERSION};
use postbox::{
    HandleError, Incoming, NewMessage, Outbox, OutboxRow, ParkReason, TaskStatus, Unreadable,
};
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
/// pauses while the accounts stay held.
///
/// One request that cannot be decided holds nobody up: after a failure that does not pass by itself
/// the next try is for the oldest request alone, and one that has failed alone as often as a
/// message may is parked. Each success doubles how many are tried together.
pub(crate) async fn run(
    pool: &PgPool,
    outbox: &Outbox,
    set_aside: &Notify,
    max_attempts: u32,
    status: &TaskStatus,
    shutdown: &CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    let (mut most, mut attempts) = (BATCH_MAX, 0);
    while !shutdown.is_cancelled() {
        let mut oldest = None;
        let mut outcome = bounded(work_off_waiting(pool, most, &mut oldest)).await;
        match (&outcome, oldest) {
            (Err(error), Some(oldest)) if !error.is_transient() => {
                tracing::error!(most, "cannot work off what waits: {}", chain(error));
                if most > 1 {
                    (most, attempts) = (1, 0);
                    continue;
                }
                attempts += 1;
                if attempts < max_attempts {
                    continue;
                }
                outcome = bounded(park(pool, &oldest, error)).await;
            }
            _ => {}
        }
        attempts = 0;
        match outcome {
            Ok(done) => {
                status.set(Ok("works off what waits for an account".into()));
                outbox.hand_over(done.messages);
                most = (most * 2).min(BATCH_MAX);
                if done.requests > 0 {
                    tracing::debug!(requests = done.requests, "decided what had waited");
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            // One that passes at once is nobody's business.
            Err(error) if pause > FIRST_PAUSE => {
                let text = chain(&error);
                if status.set(Err(text.clone())) {
                    tracing::warn!("cannot work off what waits: {text}");
                }
            }
            Err(_) => {}
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

/// Decides up to `most` of what waits for up to `most` accounts that are free now, those first that
/// were waited for longest. The lock on an account keeps every other process away from what waits
/// for it. The oldest request of the batch is left in `oldest`, for whoever has to know which one
/// failed alone.
pub(crate) async fn work_off_waiting(
    pool: &PgPool,
    most: i64,
    oldest: &mut Option<Waiting>,
) -> Result<WorkedOff, HandleError> {
    let mut transaction = pool.begin().await?;
    let balances = store::lock_awaited_accounts(&mut transaction, most).await?;
    let users = sorted(balances.keys().map(|user| user.0));
    let waiting = store::take_waiting(&mut transaction, &users, most).await?;
    *oldest = waiting.first().cloned();
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

/// Parks a request that cannot be decided; nothing, if somebody else has decided it meanwhile.
async fn park(
    pool: &PgPool,
    waiting: &Waiting,
    error: &HandleError,
) -> Result<WorkedOff, HandleError> {
    let why = Unreadable::new(ParkReason::Attempts, chain(error));
    let mut transaction = pool.begin().await?;
    if store::remove_waiting(&mut transaction, waiting.id).await? {
        let queue = PAYMENT_REQUESTS.queue;
        postbox::park_later(&mut transaction, queue, &waiting.to_message(), why).await?;
    }
    transaction.commit().await?;
    Ok(WorkedOff {
        requests: 1,
        messages: Vec::new(),
    })
}

impl From<&Incoming<PaymentRequested>> for Waiting {
    fn from(incoming: &Incoming<PaymentRequested>) -> Self {
        Self {
            id: 0,
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

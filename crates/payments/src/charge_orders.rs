//! Charging orders: one decision each, for ever, and an answer to every request. The transaction
//! is the consumer's: inbox rows before, commit after.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contracts::{OrderUid, Outcome, PaymentRequested, SCHEMA_VERSION, UserId};
use postbox::{Envelope, HandleError, Handled, Handler, Incoming, ParkReason, Unreadable, Verdict};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::account::{self, Books, Decided, Decision};
use crate::planted;
use crate::store::{self, Answer, Locked};
use crate::work_off_waiting::store::{self as waiting, Waiting};

/// Takes in `payment.requested`. It waits for no account: what it cannot lock at once is set aside
/// together with its inbox row, and decided by `work_off_waiting`.
#[derive(Debug, Default)]
pub(crate) struct ChargeOrders {
    /// Wakes whoever works off what was set aside.
    pub(crate) set_aside: Arc<Notify>,
    /// Whether a batch that is not committed yet has set something aside.
    uncommitted: AtomicBool,
}

impl Handler for ChargeOrders {
    type Message = PaymentRequested;

    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, PaymentRequested), Unreadable> {
        envelope.expect(
            PaymentRequested::KIND,
            postbox::version_read(SCHEMA_VERSION),
        )?;
        let request = PaymentRequested::from_body(envelope.body).map_err(|error| {
            let reason = if error.is_data() {
                ParkReason::BadField
            } else {
                ParkReason::NotJson
            };
            Unreadable::new(reason, error)
        })?;
        Ok((request.order_uid.0, request))
    }

    async fn handle(
        &self,
        transaction: &mut PgConnection,
        batch: &[Incoming<PaymentRequested>],
    ) -> Result<Handled, HandleError> {
        let requests: Vec<&PaymentRequested> = batch.iter().map(|m| &m.message).collect();
        let mut books = open_books(transaction, &requests).await?;
        postbox::moment("payments.locked");
        postbox::hazard(requests.iter().map(|request| request.amount));

        let decisions = account::decide(&requests, &mut books);

        let mut writes = Writes::default();
        let mut aside = Vec::new();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (incoming, decision) in batch.iter().zip(decisions) {
            let waiting = Waiting::from(incoming);
            verdicts.push(match writes.add(&waiting, decision) {
                Written::New => Verdict::Applied,
                Written::Again => Verdict::Duplicate,
                Written::Nothing(why) => Verdict::Park(why),
                Written::Later => {
                    aside.push(waiting);
                    Verdict::Applied
                }
            });
        }
        postbox::moment("payments.decided");
        let answers = writes.write(transaction).await?;
        if postbox::planted("balances_read_and_written_back") {
            planted::write_balances(transaction, &books.balances).await?;
        }
        postbox::moment("payments.written");
        if !aside.is_empty() {
            waiting::insert_waiting(transaction, &aside).await?;
            self.uncommitted.store(true, Ordering::Relaxed);
            postbox::moment("payments.set_aside");
        }
        Ok(Handled { verdicts, answers })
    }

    fn committed(&self, _applied: &[Incoming<PaymentRequested>]) {
        if self.uncommitted.swap(false, Ordering::Relaxed) {
            self.set_aside.notify_one();
        }
    }
}

/// Locks the accounts and reads what is known. The decisions come last: only once an account is
/// locked does a concurrent copy's decision show.
async fn open_books(
    transaction: &mut PgConnection,
    requests: &[&PaymentRequested],
) -> Result<Books, sqlx::Error> {
    let users = requests.iter().map(|request| request.user_id.0);
    let users = match postbox::planted("locks_in_no_order") {
        true => users.collect(),
        false => sorted(users),
    };
    let uids = sorted(requests.iter().map(|request| request.order_uid.0));
    let mut decided = HashMap::new();
    if postbox::planted("looked_up_before_the_lock") {
        decided = store::find_decided(transaction, &uids).await?;
    }
    let locked = lock_accounts(transaction, &users).await?;
    let missing: Vec<i64> = users
        .into_iter()
        .filter(|user| !locked.balances.contains_key(&UserId(*user)))
        .collect();
    let mut books = Books {
        balances: locked.balances,
        ..Books::default()
    };
    // As a rule each account is there and free, and nothing waits: then nothing more is asked.
    if !missing.is_empty() {
        books.held = store::find_holders(transaction, &missing).await?;
    }
    if locked.something_waits || !books.held.is_empty() {
        books.waiting = waiting::find_waiting(transaction, &uids).await?;
    }
    books.decided = if postbox::planted("looked_up_before_the_lock")
        || postbox::planted("no_decision_is_remembered")
    {
        decided
    } else if postbox::planted("an_order_s_number_is_its_identity") {
        planted::find_decided_by_number(transaction, requests).await?
    } else {
        store::find_decided(transaction, &uids).await?
    };
    Ok(books)
}

async fn lock_accounts(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    if postbox::planted("balances_read_and_written_back") {
        planted::read_accounts(transaction, users).await
    } else if postbox::planted("locks_in_no_order") {
        planted::lock_in_no_order(transaction, users).await
    } else if postbox::planted("a_held_account_is_waited_for")
        || postbox::planted("looked_up_before_the_lock")
    {
        planted::wait_for_accounts(transaction, users).await
    } else {
        store::lock_free_accounts(transaction, users).await
    }
}

/// What a batch writes.
#[derive(Default)]
pub(crate) struct Writes {
    /// Sorted by key: two consumers insert in the same order.
    new: BTreeMap<OrderUid, Decided>,
    totals: BTreeMap<UserId, Decimal>,
    answers: Vec<Answer>,
}

/// What is written for one request.
pub(crate) enum Written {
    /// A decision and its answer.
    New,
    /// The answer once more.
    Again,
    /// Nothing yet.
    Later,
    /// Nothing, for this reason.
    Nothing(Unreadable),
}

impl Writes {
    pub(crate) fn add(&mut self, asked: &Waiting, decision: Decision) -> Written {
        let order_uid = asked.request.order_uid;
        let (decided, written) = match decision {
            Decision::New(decided) => {
                let forgotten = postbox::planted("a_decline_is_not_stored");
                if !forgotten || decided.outcome == Outcome::Paid {
                    self.new.insert(order_uid, decided);
                }
                if decided.outcome == Outcome::Paid {
                    *self.totals.entry(decided.user_id).or_default() += decided.amount.as_decimal();
                }
                (decided, Written::New)
            }
            Decision::Known(decided) => (decided, Written::Again),
            Decision::Wait => return Written::Later,
            Decision::Conflict => {
                let detail = format!(
                    "order {} was asked for by another user or for another amount",
                    asked.request.order_id
                );
                return Written::Nothing(Unreadable::new(ParkReason::Conflict, detail));
            }
        };
        self.answers.push(Answer {
            result_message_id: decided.result_message_id,
            result: decided.answer(order_uid),
            traceparent: asked.traceparent.clone(),
            request_id: asked.request_id.clone(),
        });
        written
    }

    /// Every row count is checked: a balance that did not change, or a request that got no
    /// answer, rolls the batch back.
    pub(crate) async fn write(
        self,
        transaction: &mut PgConnection,
    ) -> Result<Vec<postbox::OutboxRow>, HandleError> {
        if self.answers.is_empty() {
            return Ok(Vec::new());
        }
        let new: Vec<(OrderUid, Decided)> = self.new.into_iter().collect();
        let totals: Vec<(UserId, Decimal)> = self.totals.into_iter().collect();
        let expected = self.answers.len();
        let charged = store::write_charges(transaction, &new, &totals, self.answers).await?;
        if usize::try_from(charged.accounts) != Ok(totals.len()) {
            let text = format!(
                "{} accounts charged in place of {}",
                charged.accounts,
                totals.len()
            );
            return Err(HandleError::Broken(text));
        }
        if charged.answers.len() != expected {
            let text = format!("{} answers to {expected} requests", charged.answers.len());
            return Err(HandleError::Broken(text));
        }
        Ok(charged.answers)
    }
}

/// Each value once, in order.
pub(crate) fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

//! Charging orders: one decision each, for ever, and an answer to every request. The transaction
//! is the consumer's: inbox rows before, commit after.

use std::collections::BTreeMap;

use contracts::{OrderUid, Outcome, PaymentRequested, SCHEMA_VERSION, UserId};
use postbox::{Envelope, HandleError, Handled, Handler, Incoming, ParkReason, Unreadable, Verdict};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::account::{self, Decided, Decision};
use crate::store::{self, Answer};

/// Takes in `payment.requested`.
#[derive(Debug)]
pub(crate) struct ChargeOrders;

impl Handler for ChargeOrders {
    type Message = PaymentRequested;

    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, PaymentRequested), Unreadable> {
        envelope.expect(PaymentRequested::KIND, SCHEMA_VERSION)?;
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
        let users = sorted(requests.iter().map(|request| request.user_id.0));
        let uids = sorted(requests.iter().map(|request| request.order_uid.0));
        let mut balances = store::lock_accounts(transaction, &users).await?;
        postbox::moment("payments.locked");
        let mut decided = store::find_decided(transaction, &uids).await?;

        let decisions = account::decide(&requests, &mut balances, &mut decided);

        let mut batch_writes = Writes::default();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (incoming, decision) in batch.iter().zip(decisions) {
            verdicts.push(batch_writes.add(incoming, decision));
        }
        postbox::moment("payments.decided");
        let answers = batch_writes.write(transaction).await?;
        postbox::moment("payments.written");
        Ok(Handled { verdicts, answers })
    }
}

/// What a batch writes.
#[derive(Default)]
struct Writes {
    /// Sorted by key: two consumers insert in the same order.
    new: BTreeMap<OrderUid, Decided>,
    totals: BTreeMap<UserId, Decimal>,
    answers: Vec<Answer>,
}

impl Writes {
    fn add(&mut self, incoming: &Incoming<PaymentRequested>, decision: Decision) -> Verdict {
        let order_uid = incoming.message.order_uid;
        let (decided, verdict) = match decision {
            Decision::New(decided) => {
                self.new.insert(order_uid, decided);
                if decided.outcome == Outcome::Paid {
                    *self.totals.entry(decided.user_id).or_default() += decided.amount.as_decimal();
                }
                (decided, Verdict::Applied)
            }
            Decision::Known(decided) => (decided, Verdict::Duplicate),
            Decision::Conflict => {
                let detail = format!(
                    "order {} was decided for another user or amount",
                    incoming.message.order_id
                );
                return Verdict::Park(Unreadable::new(ParkReason::Conflict, detail));
            }
        };
        self.answers.push(Answer {
            result_message_id: decided.result_message_id,
            result: decided.answer(order_uid),
            traceparent: incoming.traceparent.clone(),
            request_id: incoming.request_id.clone(),
        });
        verdict
    }

    /// Every row count is checked: a balance that did not change, or a request that got no
    /// answer, rolls the batch back.
    async fn write(
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

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

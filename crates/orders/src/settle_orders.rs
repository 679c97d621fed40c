//! Settling orders on the results from Payments. The transaction is the consumer's: inbox rows
//! before, commit after.

use contracts::{PaymentSettled, SCHEMA_VERSION};
use postbox::{Envelope, HandleError, Handled, Handler, Incoming, ParkReason, Unreadable, Verdict};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::order::{self, Settlement, Status};
use crate::{planted, store};

/// Takes in `payment.settled`.
#[derive(Debug)]
pub(crate) struct SettleOrders;

impl Handler for SettleOrders {
    type Message = PaymentSettled;

    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, PaymentSettled), Unreadable> {
        envelope.expect(PaymentSettled::KIND, postbox::version_read(SCHEMA_VERSION))?;
        let result = PaymentSettled::from_body(envelope.body).map_err(|error| {
            let reason = if error.is_data() {
                ParkReason::BadField
            } else {
                ParkReason::NotJson
            };
            Unreadable::new(reason, error)
        })?;
        Ok((result.order_uid.0, result))
    }

    async fn handle(
        &self,
        transaction: &mut PgConnection,
        batch: &[Incoming<PaymentSettled>],
    ) -> Result<Handled, HandleError> {
        let mut uids: Vec<Uuid> = batch.iter().map(|incoming| incoming.key).collect();
        let mut known = if postbox::planted("settled_in_no_order") {
            planted::lock_in_no_order(transaction, &uids).await?
        } else {
            uids.sort_unstable();
            uids.dedup();
            store::lock_orders(transaction, &uids).await?
        };
        postbox::moment("orders.locked");

        let mut settled = Vec::new();
        let mut verdicts = Vec::with_capacity(batch.len());
        for Incoming { message, .. } in batch {
            let order = known.get_mut(&message.order_uid);
            let settlement = order::settle(order.as_deref(), message);
            if let (Settlement::Becomes(status), Some(order)) = (settlement, order) {
                order.status = status;
                settled.push((message.order_uid, status));
            }
            verdicts.push(verdict(settlement, message));
        }
        if postbox::planted("a_final_status_is_overwritten") {
            planted::overwrite_status(transaction, &settled).await?;
        } else if !settled.is_empty() {
            let changed = store::set_final(transaction, &settled).await?;
            if changed != settled.len() as u64 {
                let text = format!("{changed} orders settled in place of {}", settled.len());
                return Err(HandleError::Broken(text));
            }
            postbox::moment("orders.settled");
        }
        Ok(Handled {
            verdicts,
            answers: Vec::new(),
        })
    }
}

fn verdict(settlement: Settlement, result: &PaymentSettled) -> Verdict {
    let id = result.order_id;
    let park = |reason, detail: String| Verdict::Park(Unreadable::new(reason, detail));
    match settlement {
        Settlement::Becomes(_) => Verdict::Applied,
        Settlement::Already => Verdict::Duplicate,
        Settlement::Contradicts(status) => park(
            ParkReason::Contradiction,
            format!(
                "order {id} is {}, not {}",
                status.as_str(),
                Status::from(result.outcome).as_str()
            ),
        ),
        Settlement::Unknown => park(ParkReason::UnknownOrder, format!("no order {id}")),
        Settlement::Differs => park(
            ParkReason::Conflict,
            format!("order {id} has another user or amount"),
        ),
    }
}

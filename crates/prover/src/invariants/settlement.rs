//! Orders against the debits of the ledger: S3 to S6. A debit is a ledger entry of kind `charge`.

use std::pin::pin;

use futures::{Stream, StreamExt};
use uuid::Uuid;

use super::exactness::same_amount;
use crate::audit::{Audit, AuditError};
use crate::merge::merge;
use crate::verdict::{Tally, Verdict};

/// An order, sorted by its uid.
#[derive(sqlx::FromRow)]
pub(crate) struct OrderRow {
    pub(crate) order_uid: Uuid,
    pub(crate) order_id: i64,
    pub(crate) user_id: i64,
    pub(crate) amount: String,
}

/// All debits of one order together, sorted by its uid.
#[derive(sqlx::FromRow)]
pub(crate) struct Debits {
    pub(crate) order_uid: Uuid,
    pub(crate) debits: i64,
    pub(crate) total: String,
    pub(crate) user_id: i64,
    pub(crate) users: i64,
}

fn all_debits(payments: &mut Audit) -> impl Stream<Item = Result<Debits, AuditError>> + Send {
    payments.rows(
        "select order_uid, count(*) as debits, coalesce(-sum(amount), 0)::text as total,
                min(user_id) as user_id, count(distinct user_id) as users
           from audit.ledger
          where kind = 'charge' and order_uid is not null
          group by order_uid order by order_uid",
    )
}

impl Debits {
    /// What is wrong with these as the debits of that order; nothing if they are one, of its user
    /// and amount.
    fn differ_from(&self, order: &OrderRow) -> Option<String> {
        if self.debits != 1 {
            return Some(format!(
                "debited {} times, {} in all",
                self.debits, self.total
            ));
        }
        if self.user_id != order.user_id {
            return Some(format!("debited from user {}", self.user_id));
        }
        if !same_amount(&self.total, &order.amount) {
            return Some(format!("debited with {}", self.total));
        }
        None
    }
}

/// What breaks S4.
pub(crate) fn fault_of_finished(order: &OrderRow, debits: Option<&Debits>) -> Option<String> {
    let fault = match debits {
        Some(debits) => debits.differ_from(order),
        None => Some(String::from("never debited")),
    };
    fault.map(|fault| format!("{}: FINISHED and {fault}", order.name()))
}

/// What breaks S5.
pub(crate) fn fault_of_cancelled(order: &OrderRow, debits: Option<&Debits>) -> Option<String> {
    let Debits { total, .. } = debits?;
    Some(format!(
        "{}: CANCELLED and debited with {total}",
        order.name()
    ))
}

/// What breaks S6. An order that is debited more than once is the matter of S3.
pub(crate) fn fault_of_debit(order: Option<&OrderRow>, debits: &Debits) -> Option<String> {
    let Some(order) = order else {
        let Debits {
            order_uid,
            total,
            user_id,
            ..
        } = debits;
        return Some(format!(
            "order_uid {order_uid}: {total} debited from user {user_id}, no order"
        ));
    };
    if debits.debits != 1 {
        return None;
    }
    let fault = debits.differ_from(order)?;
    Some(format!("{}: {fault}", order.name()))
}

/// S3. The names of the orders are looked up only for the examples.
pub(super) async fn debited_once(
    payments: &mut Audit,
    orders: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    let mut examples = Vec::new();
    {
        let mut all = pin!(all_debits(payments));
        while let Some(debits) = all.next().await.transpose()? {
            tally.looked_at(1);
            if debits.debits > 1 && examples.len() < crate::verdict::FOUND_MAX {
                examples.push(debits);
            } else if debits.debits > 1 {
                tally.fault_without_example();
            }
        }
    }
    for debits in examples {
        let name = match orders.order_id_of(debits.order_uid).await? {
            Some(order_id) => format!("order {order_id}"),
            None => format!("order_uid {}", debits.order_uid),
        };
        let from = match debits.users {
            1 => format!("user {}", debits.user_id),
            users => format!("{users} users"),
        };
        let (times, total) = (debits.debits, debits.total);
        tally.fault(|| format!("{name}: debited {times} times from {from}, {total} in all"));
    }
    Ok(tally.verdict())
}

/// S4. Orders are the earlier snapshot: what was FINISHED then had been debited before.
pub(super) async fn finished_is_debited(
    orders: &mut Audit,
    payments: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    let finished = orders.rows::<OrderRow>(
        "select order_uid, order_id, user_id, coalesce(amount::text, 'none') as amount from audit.orders
          where status = 'FINISHED' order by order_uid",
    );
    let compare = |order: Option<&OrderRow>, debits: Option<&Debits>| {
        let Some(order) = order else { return };
        tally.looked_at(1);
        if let Some(fault) = fault_of_finished(order, debits) {
            tally.fault(|| fault);
        }
    };
    merge(
        finished,
        |o| o.order_uid,
        all_debits(payments),
        |d| d.order_uid,
        compare,
    )
    .await?;
    Ok(tally.verdict())
}

/// S5.
pub(super) async fn cancelled_is_not_debited(
    orders: &mut Audit,
    payments: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    let cancelled = orders.rows::<OrderRow>(
        "select order_uid, order_id, user_id, coalesce(amount::text, 'none') as amount from audit.orders
          where status = 'CANCELLED' order by order_uid",
    );
    let compare = |order: Option<&OrderRow>, debits: Option<&Debits>| {
        let Some(order) = order else { return };
        tally.looked_at(1);
        if let Some(fault) = fault_of_cancelled(order, debits) {
            tally.fault(|| fault);
        }
    };
    merge(
        cancelled,
        |o| o.order_uid,
        all_debits(payments),
        |d| d.order_uid,
        compare,
    )
    .await?;
    Ok(tally.verdict())
}

/// S6. Orders are the later snapshot: what had been debited was an order before.
pub(super) async fn debit_has_its_order(
    later_orders: &mut Audit,
    payments: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    {
        let mut nameless = pin!(payments.rows::<(i64, i64, String)>(
            "select entry_id, user_id, coalesce((-amount)::text, 'none') from audit.ledger
              where kind = 'charge' and order_uid is null order by entry_id",
        ));
        while let Some((entry_id, user_id, amount)) = nameless.next().await.transpose()? {
            tally.looked_at(1);
            tally.fault(|| format!("debit {entry_id} of {amount} from user {user_id}: no order"));
        }
    }
    let all_orders = later_orders.rows::<OrderRow>(
        "select order_uid, order_id, user_id, coalesce(amount::text, 'none') as amount from audit.orders
          order by order_uid",
    );
    let compare = |order: Option<&OrderRow>, debits: Option<&Debits>| {
        let Some(debits) = debits else { return };
        tally.looked_at(1);
        if let Some(fault) = fault_of_debit(order, debits) {
            tally.fault(|| fault);
        }
    };
    merge(
        all_orders,
        |o| o.order_uid,
        all_debits(payments),
        |d| d.order_uid,
        compare,
    )
    .await?;
    Ok(tally.verdict())
}

impl OrderRow {
    fn name(&self) -> String {
        format!(
            "order {} of user {} for {}",
            self.order_id, self.user_id, self.amount
        )
    }
}

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
struct OrderRow {
    order_uid: Uuid,
    order_id: i64,
    user_id: i64,
    amount: String,
}

/// All debits of one order together, sorted by its uid.
#[derive(sqlx::FromRow)]
struct Debits {
    order_uid: Uuid,
    debits: i64,
    total: String,
    user_id: i64,
    users: i64,
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
            if debits.debits > 1 && examples.len() < crate::EXAMPLES_MAX {
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
        let fault = match debits {
            Some(debits) => debits.differ_from(order),
            None => Some(String::from("never debited")),
        };
        if let Some(fault) = fault {
            tally.fault(|| format!("{}: FINISHED and {fault}", order.name()));
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
        if let Some(debits) = debits {
            tally.fault(|| {
                format!(
                    "{}: CANCELLED and debited with {}",
                    order.name(),
                    debits.total
                )
            });
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

/// S6. Orders are the later snapshot: what had been debited was an order before. An order that is
/// debited more than once is the matter of S3.
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
        match order {
            None => tally.fault(|| {
                let Debits {
                    order_uid,
                    total,
                    user_id,
                    ..
                } = debits;
                format!("order_uid {order_uid}: {total} debited from user {user_id}, no order")
            }),
            Some(order) if debits.debits == 1 => {
                if let Some(fault) = debits.differ_from(order) {
                    tally.fault(|| format!("{}: {fault}", order.name()));
                }
            }
            Some(_) => {}
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

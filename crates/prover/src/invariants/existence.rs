//! Orders that are lost and orders that nobody asked for: S8 and S9.

use std::collections::BTreeMap;
use std::pin::pin;

use contracts::Money;
use futures::StreamExt;
use uuid::Uuid;

use super::exactness::same_amount;
use crate::audit::{Audit, AuditError};
use crate::merge::merge;
use crate::seen::{Placed, Seen};
use crate::verdict::{Tally, Verdict};

/// How many ids are asked for in one query.
const IDS_MAX: usize = 10_000;

/// S8. Whatever names an order was written after it, so orders are the later snapshot.
pub(super) async fn none_lost(
    later_orders: &mut Audit,
    payments: &mut Audit,
    seen: Option<&Seen>,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    if let Some(seen) = seen {
        look_up_acknowledged(later_orders, seen, &mut tally).await?;
    }
    look_up_own_traces(later_orders, &mut tally).await?;
    look_up_traces(later_orders, payments, &mut tally).await?;
    Ok(tally.verdict())
}

async fn look_up_acknowledged(
    orders: &mut Audit,
    seen: &Seen,
    tally: &mut Tally,
) -> Result<(), AuditError> {
    for order_id in seen.acknowledged_twice() {
        tally.fault(|| format!("order {order_id}: acknowledged as two different orders"));
    }
    let acknowledged: Vec<(i64, Placed)> = seen
        .acknowledged_orders()
        .iter()
        .map(|(id, placed)| (*id, *placed))
        .collect();
    for some in acknowledged.chunks(IDS_MAX) {
        let ids: Vec<i64> = some.iter().map(|(order_id, _)| *order_id).collect();
        let rows: Vec<(i64, i64, String)> = orders
            .rows_of(
                "select order_id, user_id, coalesce(amount::text, 'none') from audit.orders \
                 where order_id = any($1)",
                &ids,
            )
            .await?;
        let stored: BTreeMap<i64, (i64, String)> = rows
            .into_iter()
            .map(|(id, user, amount)| (id, (user, amount)))
            .collect();
        for (order_id, Placed { user_id, amount }) in some {
            tally.looked_at(1);
            let order = || format!("order {order_id} of user {user_id} for {amount}");
            match stored.get(order_id) {
                None => tally.fault(|| format!("{}: acknowledged and lost", order())),
                Some((user, stored))
                    if user != user_id || !same_amount(stored, &amount.to_string()) =>
                {
                    tally.fault(|| {
                        format!(
                            "{}: acknowledged, and stored for user {user}, {stored}",
                            order()
                        )
                    });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Messages of Orders itself, in its own snapshot.
async fn look_up_own_traces(orders: &mut Audit, tally: &mut Tally) -> Result<(), AuditError> {
    let mut lost = pin!(orders.rows::<(Uuid, String)>(
        "select order_uid, min(place)
           from (select order_uid, 'outbox' as place from audit.outbox
                 union all select order_uid, 'inbox' from audit.inbox) named
          where order_uid is not null
            and not exists (select from audit.orders o where o.order_uid = named.order_uid)
          group by order_uid order by order_uid",
    ));
    while let Some((order_uid, place)) = lost.next().await.transpose()? {
        tally.fault(|| format!("order_uid {order_uid}: in the {place} of orders, but no order"));
    }
    Ok(())
}

/// What Payments knows of an order.
#[derive(sqlx::FromRow)]
struct Trace {
    order_uid: Uuid,
    order_id: Option<i64>,
    place: String,
}

async fn look_up_traces(
    later_orders: &mut Audit,
    payments: &mut Audit,
    tally: &mut Tally,
) -> Result<(), AuditError> {
    let traces = payments.rows::<Trace>(
        "select order_uid, max(order_id) as order_id, min(place) as place
           from (select order_uid, order_id, 'decisions' as place from audit.payments
                 union all select order_uid, null, 'ledger' from audit.ledger
                 union all select order_uid, null, 'outbox' from audit.outbox
                 union all select order_uid, null, 'inbox' from audit.inbox) named
          where order_uid is not null
          group by order_uid order by order_uid",
    );
    let orders =
        later_orders.rows::<(Uuid,)>("select order_uid from audit.orders order by order_uid");
    let compare = |order: Option<&(Uuid,)>, trace: Option<&Trace>| {
        let Some(Trace {
            order_uid,
            order_id,
            place,
        }) = trace
        else {
            return;
        };
        tally.looked_at(1);
        if order.is_none() {
            tally.fault(|| match order_id {
                Some(order_id) => {
                    format!("order {order_id}: in the {place} of payments, but no order")
                }
                None => format!("order_uid {order_uid}: in the {place} of payments, but no order"),
            });
        }
    };
    merge(orders, |o| o.0, traces, |t| t.order_uid, compare).await
}

/// S9. Without a client's history it can only be said that no order stands twice.
pub(super) async fn no_phantom(
    orders: &mut Audit,
    seen: Option<&Seen>,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    tally.looked_at(orders.count("select count(*) from audit.orders").await?);
    for sql in [
        "select min(order_id), 'the same order_id', count(*) from audit.orders
          group by order_id having count(*) > 1 order by 1",
        "select min(order_id), 'the same order_uid', count(*) from audit.orders
          group by order_uid having count(*) > 1 order by 1",
    ] {
        let mut several = pin!(orders.rows::<(i64, String, i64)>(sql));
        while let Some((order_id, what, times)) = several.next().await.transpose()? {
            tally.fault(|| format!("order {order_id}: {times} orders with {what}"));
        }
    }
    if let Some(seen) = seen {
        compare_with_invoked(orders, seen, &mut tally).await?;
    }
    Ok(tally.verdict())
}

/// A request without an answer has no order id, so orders are counted by user and amount. Those
/// never acknowledged are named first: the phantom is among them.
async fn compare_with_invoked(
    orders: &mut Audit,
    seen: &Seen,
    tally: &mut Tally,
) -> Result<(), AuditError> {
    for users in seen.users().chunks(IDS_MAX) {
        let rows: Vec<(i64, String, Vec<i64>)> = orders
            .rows_of(
                "select user_id, coalesce(amount::text, 'none'), array_agg(order_id order by order_id)
                   from audit.orders where user_id = any($1)
                  group by user_id, amount order by user_id, amount",
                users,
            )
            .await?;
        for (user_id, amount, order_ids) in rows {
            let invoked = amount
                .parse::<Money>()
                .map_or(0, |amount| seen.times_invoked(&Placed { user_id, amount }));
            if order_ids.len() as u64 <= invoked {
                continue;
            }
            tally.fault(|| {
                let acknowledged = seen.acknowledged_orders();
                let suspects: Vec<String> = order_ids
                    .iter()
                    .filter(|order_id| !acknowledged.contains_key(order_id))
                    .take(crate::EXAMPLES_MAX)
                    .map(i64::to_string)
                    .collect();
                format!(
                    "user {user_id}: {} orders for {amount}, asked for {invoked} times; never \
                     acknowledged: order {}",
                    order_ids.len(),
                    suspects.join(", ")
                )
            });
        }
    }
    Ok(())
}

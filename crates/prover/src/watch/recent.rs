//! The look at what is new: S4 to S6 for orders and debits of the last minutes, through the
//! indexes and in bounded memory, however large the databases are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::known::Breach;
use crate::audit::{Audit, AuditError, Databases, Side};
use crate::invariants::settlement::{self, Debits, OrderRow};

/// What was settled or debited in this time is looked at each time: so long a fail-over that loses
/// it may come after it was seen to be right.
const RECENT: Duration = Duration::from_secs(300);
/// Most orders that are looked at each time. Of more, the oldest are left to the whole look.
const ORDERS_MAX: usize = 100_000;
/// Most debits that are looked at each time, likewise.
const DEBITS_MAX: i64 = 100_000;
/// How far back the first look goes.
const FIRST: i64 = 20_000;
/// A number may be committed later than the next ones. So many before the newest are read again.
const OVERLAP: i64 = 1_000;
/// How many are asked for in one query.
const CHUNK: usize = 5_000;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Recent {
    /// Orders to look at, by number, and since when each is known to be final.
    orders: BTreeMap<i64, Option<Instant>>,
    /// The highest number of an order so far.
    newest_order: Option<i64>,
    /// Where the ledger ended at each look of the last minutes.
    ledger_ends: VecDeque<(Instant, i64)>,
    /// What is in breach is looked at until it is not.
    broken_orders: BTreeSet<i64>,
    broken_debits: BTreeSet<i64>,
}

/// An order and where it stands.
#[derive(sqlx::FromRow)]
struct Standing {
    #[sqlx(flatten)]
    order: OrderRow,
    status: String,
}

/// One debit of the ledger.
#[derive(sqlx::FromRow)]
struct Debit {
    entry_id: i64,
    order_uid: Uuid,
    user_id: i64,
    amount: String,
}

impl Recent {
    /// Looks once, and returns all that is broken among what it looked at. The order of the
    /// snapshots is that of [`judge`](crate::judge), so traffic gives no false alarm.
    ///
    /// # Errors
    /// [`AuditError`] when a database cannot be asked; nothing is said about any order then.
    pub async fn look(&mut self, databases: &Databases) -> Result<Vec<Breach>, AuditError> {
        let mut orders = Audit::snapshot(databases, Side::Orders).await?;
        let mut payments = Audit::snapshot(databases, Side::Payments).await?;
        let mut later_orders = Audit::snapshot(databases, Side::Orders).await?;
        let now = Instant::now();
        self.take_in_orders(&mut orders).await?;
        let mut found = self.check_orders(&mut orders, &mut payments, now).await?;
        let debits = self.check_debits(&mut payments, &mut later_orders, now);
        found.extend(debits.await?);
        for audit in [orders, payments, later_orders] {
            audit.close().await;
        }
        Ok(found)
    }

    async fn take_in_orders(&mut self, orders: &mut Audit) -> Result<(), AuditError> {
        let (newest,): (Option<i64>,) =
            orders.row("select max(order_id) from audit.orders").await?;
        let newest = newest.unwrap_or(0);
        let mut after = match self.newest_order {
            // Of a restored database the numbers begin anew further down.
            Some(before) => before.min(newest) - OVERLAP,
            None => {
                let open: Vec<(i64,)> = orders
                    .rows_above(
                        "select order_id from audit.orders where status = 'NEW' and order_id > $1
                          order by order_id desc limit 50000",
                        0,
                    )
                    .await?;
                self.orders.extend(open.into_iter().map(|(id,)| (id, None)));
                newest - FIRST
            }
        };
        loop {
            let more: Vec<(i64,)> = orders
                .rows_above(
                    "select order_id from audit.orders where order_id > $1
                      order by order_id limit 5000",
                    after,
                )
                .await?;
            let Some((last,)) = more.last() else { break };
            after = *last;
            for (order_id,) in more {
                self.orders.entry(order_id).or_insert(None);
            }
            while self.orders.len() > ORDERS_MAX {
                self.orders.pop_first();
            }
        }
        self.newest_order = Some(newest);
        Ok(())
    }

    /// S4 and S5. Orders are the earlier snapshot.
    async fn check_orders(
        &mut self,
        orders: &mut Audit,
        payments: &mut Audit,
        now: Instant,
    ) -> Result<Vec<Breach>, AuditError> {
        let mut found = Vec::new();
        let mut broken = BTreeSet::new();
        let ids: BTreeSet<i64> = self.orders.keys().copied().collect();
        let ids: Vec<i64> = ids.union(&self.broken_orders).copied().collect();
        let mut there = BTreeSet::new();
        for chunk in ids.chunks(CHUNK) {
            let standing: Vec<Standing> = orders
                .rows_of(
                    "select order_uid, order_id, user_id, coalesce(amount::text, 'none') as amount,
                            status
                       from audit.orders where order_id = any($1)",
                    chunk,
                )
                .await?;
            there.extend(standing.iter().map(|standing| standing.order.order_id));
            let mut ended = standing;
            ended.retain(|one| matches!(one.status.as_str(), "FINISHED" | "CANCELLED"));
            let uids: Vec<Uuid> = ended.iter().map(|one| one.order.order_uid).collect();
            let debits = debits_of(payments, &uids).await?;
            for Standing { order, status } in &ended {
                let debits = debits.get(&order.order_uid);
                let (rule, fault) = match status.as_str() {
                    "FINISHED" => ("S4", settlement::fault_of_finished(order, debits)),
                    _ => ("S5", settlement::fault_of_cancelled(order, debits)),
                };
                if let Some(fault) = fault {
                    broken.insert(order.order_id);
                    found.push(Breach::parse(rule, &fault));
                }
                if let Some(since) = self.orders.get_mut(&order.order_id) {
                    since.get_or_insert(now);
                }
            }
        }
        self.broken_orders = broken;
        self.orders.retain(|order_id, since| {
            let is_recent = since.is_none_or(|since| now.duration_since(since) < RECENT);
            is_recent && there.contains(order_id)
        });
        Ok(found)
    }

    /// S6. Orders are the later snapshot.
    async fn check_debits(
        &mut self,
        payments: &mut Audit,
        later_orders: &mut Audit,
        now: Instant,
    ) -> Result<Vec<Breach>, AuditError> {
        let (end,): (Option<i64>,) = payments
            .row("select max(entry_id) from audit.ledger")
            .await?;
        let end = end.unwrap_or(0);
        let mut found = Vec::new();
        let mut broken = BTreeSet::new();
        let known: Vec<i64> = self.broken_debits.iter().copied().collect();
        let mut debits: Vec<Debit> = payments
            .rows_of(
                "select entry_id, order_uid, user_id, coalesce((-amount)::text, 'none') as amount
                   from audit.ledger
                  where kind = 'charge' and order_uid is not null and entry_id = any($1)",
                &known,
            )
            .await?;
        let mut after = self.debits_after(now, end);
        loop {
            let more: Vec<Debit> = payments
                .rows_above(
                    "select entry_id, order_uid, user_id, coalesce((-amount)::text, 'none') as amount
                       from audit.ledger
                      where kind = 'charge' and order_uid is not null and entry_id > $1
                      order by entry_id limit 5000",
                    after,
                )
                .await?;
            let is_last = more.is_empty();
            after = more.last().map_or(after, |debit| debit.entry_id);
            debits.extend(more);
            let uids: Vec<Uuid> = debits.iter().map(|debit| debit.order_uid).collect();
            let orders = orders_of(later_orders, &uids).await?;
            for debit in debits.drain(..) {
                let entry_id = debit.entry_id;
                let order = orders.get(&debit.order_uid);
                let fault = settlement::fault_of_debit(order, &debit.into());
                // One that was known already may stand in the stretch as well.
                if let Some(fault) = fault.filter(|_| broken.insert(entry_id)) {
                    found.push(Breach::parse("S6", &fault));
                }
            }
            if is_last {
                break;
            }
        }
        self.broken_debits = broken;
        self.ledger_ends.push_back((now, end));
        Ok(found)
    }

    /// Where the ledger ended before the last minutes began.
    fn debits_after(&mut self, now: Instant, end: i64) -> i64 {
        let is_old = |at: &Instant| now.duration_since(*at) >= RECENT;
        while let [_, (next, _), ..] = self.ledger_ends.make_contiguous() {
            if !is_old(next) {
                break;
            }
            self.ledger_ends.pop_front();
        }
        let begin = self
            .ledger_ends
            .front()
            .map_or(end - FIRST, |(_, end)| *end);
        // Of a restored database the ledger ends earlier than before.
        begin.min(end).max(end - DEBITS_MAX) - OVERLAP
    }
}

impl From<Debit> for Debits {
    fn from(debit: Debit) -> Self {
        Self {
            order_uid: debit.order_uid,
            debits: 1,
            total: debit.amount,
            user_id: debit.user_id,
            users: 1,
        }
    }
}

async fn debits_of(
    payments: &mut Audit,
    uids: &[Uuid],
) -> Result<BTreeMap<Uuid, Debits>, AuditError> {
    let debits: Vec<Debits> = payments
        .rows_of(
            "select order_uid, count(*) as debits, coalesce(-sum(amount), 0)::text as total,
                    min(user_id) as user_id, count(distinct user_id) as users
               from audit.ledger
              where kind = 'charge' and order_uid = any($1)
              group by order_uid",
            uids,
        )
        .await?;
    Ok(debits.into_iter().map(|d| (d.order_uid, d)).collect())
}

async fn orders_of(
    orders: &mut Audit,
    uids: &[Uuid],
) -> Result<BTreeMap<Uuid, OrderRow>, AuditError> {
    let orders: Vec<OrderRow> = orders
        .rows_of(
            "select order_uid, order_id, user_id, coalesce(amount::text, 'none') as amount
               from audit.orders where order_uid = any($1)",
            uids,
        )
        .await?;
    Ok(orders.into_iter().map(|o| (o.order_uid, o)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_read_again_from_where_it_ended_before_the_last_minutes() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert_eq!(recent.debits_after(at(0), 50_000), 50_000 - FIRST - OVERLAP);
        for minutes in 0..=7 {
            let end = 50_000 + 10 * i64::try_from(minutes).expect("few");
            recent.ledger_ends.push_back((at(minutes), end));
        }
        // Five minutes ago it ended at 50020.
        assert_eq!(recent.debits_after(at(7), 50_070), 50_020 - OVERLAP);
        assert!(recent.ledger_ends.len() <= 6, "{recent:?}");
        assert_eq!(recent.debits_after(at(7), 400), 400 - OVERLAP);
        assert_eq!(
            recent.debits_after(at(7), 9_000_000),
            9_000_000 - DEBITS_MAX - OVERLAP
        );
    }
}

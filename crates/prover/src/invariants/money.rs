//! Conservation of money and balances that are never negative: S1 and S2. Sums are made by
//! PostgreSQL, exactly; here they are only compared. An amount that is missing counts as nothing
//! here; that it is missing is a fault of S18.

use std::pin::pin;

use futures::StreamExt;

use super::exactness::same_amount;
use crate::audit::{Audit, AuditError};
use crate::merge::merge;
use crate::verdict::{Tally, Verdict};

/// S1 at every moment: balance and ledger are written in one transaction.
pub(super) async fn conserved(payments: &mut Audit) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    compare_with_ledger(payments, &mut tally).await?;
    Ok(tally.verdict())
}

/// S1 in full. Per user is stronger than in total.
pub(super) async fn conserved_over_both(
    orders: &mut Audit,
    payments: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    compare_with_ledger(payments, &mut tally).await?;
    compare_with_orders(orders, payments, &mut tally).await?;
    Ok(tally.verdict())
}

async fn compare_with_ledger(payments: &mut Audit, tally: &mut Tally) -> Result<(), AuditError> {
    tally.looked_at(
        payments
            .count("select count(*) from audit.accounts")
            .await?,
    );
    let mut differing = pin!(payments.rows::<(i64, Option<String>, String)>(
        "select coalesce(a.user_id, l.user_id), a.balance::text, coalesce(l.total, 0)::text
           from (select user_id, sum(balance) as balance from audit.accounts group by user_id) a
           full join (select user_id, sum(amount) as total from audit.ledger group by user_id) l
             on l.user_id = a.user_id
          where a.balance is distinct from coalesce(l.total, 0)
          order by 1",
    ));
    while let Some((user_id, balance, total)) = differing.next().await.transpose()? {
        tally.fault(|| match balance {
            Some(balance) => {
                format!("user {user_id}: the balance is {balance}, the ledger's sum {total}")
            }
            None => format!("user {user_id}: no account, but ledger entries of {total} in all"),
        });
    }
    Ok(())
}

/// What Payments knows of one user.
#[derive(sqlx::FromRow)]
struct Held {
    user_id: i64,
    deposits: String,
    balance: String,
    /// Deposits less balance.
    gone: String,
}

async fn compare_with_orders(
    orders: &mut Audit,
    payments: &mut Audit,
    tally: &mut Tally,
) -> Result<(), AuditError> {
    let spent = orders.rows::<(i64, String)>(
        "select user_id, coalesce(sum(amount), 0)::text from audit.orders
          where status = 'FINISHED' group by user_id order by user_id",
    );
    let held = payments.rows::<Held>(
        "select user_id, sum(deposit)::text as deposits, sum(balance)::text as balance,
                (sum(deposit) - sum(balance))::text as gone
           from (select user_id, coalesce(amount, 0) as deposit, 0::numeric as balance
                   from audit.ledger where kind = 'deposit'
                 union all
                 select user_id, 0, coalesce(balance, 0) from audit.accounts) known
          group by user_id order by user_id",
    );
    let compare = |spent: Option<&(i64, String)>, held: Option<&Held>| {
        let finished = spent.map_or("0.00", |spent| &spent.1);
        match held {
            Some(held) if !same_amount(&held.gone, finished) => tally.fault(|| {
                format!(
                    "user {}: deposits of {} less FINISHED orders of {finished} are not the \
                     balance of {}",
                    held.user_id, held.deposits, held.balance
                )
            }),
            Some(_) => {}
            None => tally.fault(|| {
                let user_id = spent.map_or(0, |spent| spent.0);
                format!("user {user_id}: FINISHED orders of {finished} and never a deposit")
            }),
        }
    };
    merge(spent, |s| s.0, held, |h| h.user_id, compare).await
}

/// S2: today's balances, and every sum of the ledger on the way to them.
pub(super) async fn never_negative(payments: &mut Audit) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    tally.looked_at(
        payments
            .count("select count(*) from audit.accounts")
            .await?,
    );
    tally.looked_at(payments.count("select count(*) from audit.ledger").await?);
    {
        let mut below = pin!(payments.rows::<(i64, String)>(
            "select user_id, balance::text from audit.accounts where balance < 0 order by user_id",
        ));
        while let Some((user_id, balance)) = below.next().await.transpose()? {
            tally.fault(|| format!("user {user_id}: the balance is {balance}"));
        }
    }
    let mut fallen = pin!(payments.rows::<(i64, Option<i64>, String, String)>(
        "select user_id,
                (select min(p.order_id) from audit.payments p where p.order_uid = l.order_uid),
                coalesce(amount::text, 'none'), running::text
           from (select entry_id, user_id, order_uid, amount,
                        sum(amount) over (partition by user_id order by entry_id) as running
                   from audit.ledger) l
          where running < 0
          order by entry_id",
    ));
    while let Some((user_id, order_id, amount, running)) = fallen.next().await.transpose()? {
        tally.fault(|| {
            let of = order_id.map_or(String::new(), |order_id| format!(" for order {order_id}"));
            format!("user {user_id}: the entry of {amount}{of} left {running}")
        });
    }
    Ok(tally.verdict())
}

//! The judgement: which rules are looked at, and in which order two databases are. The rules
//! themselves stand in the files below, one per subject.

mod exactness;
mod existence;
mod list;
mod money;
pub(crate) mod settlement;

use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;

use crate::Report;
use crate::audit::{Audit, AuditError, Databases, Side};
use crate::seen::Seen;
use crate::verdict::{At, Finding, Tally, Verdict};
use list::{RULES, Rule};

/// Looks at everything that SQL can decide and names the rest.
///
/// Two databases have no common moment, so the order of the snapshots decides what may be compared
/// under traffic. What depends on something is read before the thing it depends on: FINISHED
/// orders before the ledger (S4, S5), and the ledger before the orders it was charged for (S6,
/// S8). Hence three snapshots: orders, payments, orders again.
///
/// `seen` must be complete: nobody places orders for its users any more.
///
/// # Errors
/// [`AuditError`] when a database cannot be asked; nothing is said about any rule then.
pub async fn judge(
    databases: &Databases,
    at: At,
    seen: Option<&Seen>,
) -> Result<Report, AuditError> {
    let mut report = judge_in_full(databases, at, seen).await?;
    for finding in &mut report.findings {
        finding.verdict.shorten();
    }
    Ok(report)
}

/// As [`judge`], with all the examples that are kept.
pub(crate) async fn judge_in_full(
    databases: &Databases,
    at: At,
    seen: Option<&Seen>,
) -> Result<Report, AuditError> {
    let mut orders = Audit::snapshot(databases, Side::Orders).await?;
    let mut payments = Audit::snapshot(databases, Side::Payments).await?;
    let mut later_orders = Audit::snapshot(databases, Side::Orders).await?;

    let mut checked = BTreeMap::new();
    if at == At::Rest {
        checked.insert("rest", rest(&mut orders, &mut payments).await?);
    }
    let conserved = match at {
        At::Rest => money::conserved_over_both(&mut orders, &mut payments).await?,
        At::Live => money::conserved(&mut payments).await?,
    };
    checked.insert("S1", conserved);
    checked.insert("S2", money::never_negative(&mut payments).await?);
    let verdict = settlement::debited_once(&mut payments, &mut later_orders).await?;
    checked.insert("S3", verdict);
    let verdict = settlement::finished_is_debited(&mut orders, &mut payments).await?;
    checked.insert("S4", verdict);
    let verdict = settlement::cancelled_is_not_debited(&mut orders, &mut payments).await?;
    checked.insert("S5", verdict);
    let verdict = settlement::debit_has_its_order(&mut later_orders, &mut payments).await?;
    checked.insert("S6", verdict);
    let verdict = existence::none_lost(&mut later_orders, &mut payments, seen).await?;
    checked.insert("S8", verdict);
    let verdict = existence::no_phantom(&mut later_orders, seen).await?;
    checked.insert("S9", verdict);
    let verdict = exactness::one_account_per_user(&mut payments).await?;
    checked.insert("S15", verdict);
    let verdict = exactness::exact_money(&mut orders, &mut payments).await?;
    checked.insert("S18", verdict);

    for audit in [orders, payments, later_orders] {
        audit.close().await;
    }
    let finding = |rule: &Rule| Finding {
        id: rule.id,
        title: rule.title(at, seen.is_some()),
        verdict: checked
            .remove(rule.id)
            .unwrap_or(Verdict::NotChecked { why: rule.needs }),
    };
    Ok(Report {
        at,
        findings: RULES.iter().map(finding).collect(),
    })
}

/// The state that S1 over both databases assumes.
async fn rest(orders: &mut Audit, payments: &mut Audit) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    tally.looked_at(orders.count("select count(*) from audit.orders").await?);
    {
        let mut open = pin!(orders.rows::<(i64, String, String)>(
            "select order_id, coalesce(amount::text, 'none'), status from audit.orders \
             where status not in ('FINISHED', 'CANCELLED') order by order_id",
        ));
        while let Some((order_id, amount, status)) = open.next().await.transpose()? {
            tally.fault(|| format!("order {order_id} for {amount} is {status}"));
        }
    }
    for audit in [orders, payments] {
        let side = audit.side();
        tally.looked_at(audit.count("select count(*) from audit.outbox").await?);
        let mut unsent = pin!(audit.rows::<(String, Option<String>)>(
            "select message_id::text, order_uid::text from audit.outbox where not sent",
        ));
        while let Some((message_id, order_uid)) = unsent.next().await.transpose()? {
            let order = order_uid.unwrap_or_else(|| String::from("unknown"));
            tally.fault(|| format!("message {message_id} of {side}, order_uid {order}, is unsent"));
        }
    }
    Ok(tally.verdict())
}

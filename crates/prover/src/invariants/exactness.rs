//! One account per user, and amounts that are exact: S15 and S18.

use std::pin::pin;
use std::str::FromStr;

use futures::StreamExt;
use rust_decimal::Decimal;

use crate::audit::{Audit, AuditError};
use crate::verdict::{Tally, Verdict};

/// Whether two of PostgreSQL's numbers are the same number: `150` is `150.00`. What is no finite
/// number is the same as nothing but its own spelling.
pub(super) fn same_amount(one: &str, other: &str) -> bool {
    one == other
        || matches!(
            (Decimal::from_str(one), Decimal::from_str(other)),
            (Ok(one), Ok(other)) if one == other
        )
}

/// S15, as far as a state shows it.
pub(super) async fn one_account_per_user(payments: &mut Audit) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    tally.looked_at(
        payments
            .count("select count(*) from audit.accounts")
            .await?,
    );
    let mut several = pin!(payments.rows::<(i64, i64, String)>(
        "select user_id, count(*), string_agg(coalesce(balance::text, 'none'), ', ') from audit.accounts
          group by user_id having count(*) > 1 order by user_id",
    ));
    while let Some((user_id, accounts, balances)) = several.next().await.transpose()? {
        tally.fault(|| format!("user {user_id}: {accounts} accounts, with {balances}"));
    }
    Ok(tally.verdict())
}

/// What stands where an amount should, and what it belongs to.
type Wrong = (String, Option<String>);

/// S18. NaN is greater than every number in PostgreSQL, and infinity has no scale, so both fall
/// out of these conditions like any other wrong amount; so does null.
pub(super) async fn exact_money(
    orders: &mut Audit,
    payments: &mut Audit,
) -> Result<Verdict, AuditError> {
    let mut tally = Tally::default();
    tally.looked_at(orders.count("select count(*) from audit.orders").await?);
    note(
        &mut tally,
        orders,
        "select 'order ' || order_id, amount::text from audit.orders
          where (scale(amount) = 2 and amount > 0 and amount <= 9999999999999999.99) is not true
          order by order_id",
    )
    .await?;
    tally.looked_at(
        payments
            .count(
                "select (select count(*) from audit.accounts)
                      + (select count(*) from audit.payments)
                      + (select count(*) from audit.ledger)",
            )
            .await?,
    );
    for sql in [
        "select 'the balance of user ' || user_id, balance::text from audit.accounts
          where (scale(balance) = 2 and balance <= 9999999999999999.99) is not true
          order by user_id",
        "select 'the decision on order ' || order_id, amount::text from audit.payments
          where (scale(amount) = 2 and amount > 0 and amount <= 9999999999999999.99) is not true
          order by order_id",
        "select 'the ' || kind || ' ' || entry_id || ' of user ' || user_id, amount::text
           from audit.ledger
          where (scale(amount) = 2 and abs(amount) <= 9999999999999999.99
                 and case kind when 'deposit' then amount > 0 when 'charge' then amount < 0 end)
                is not true
          order by entry_id",
    ] {
        note(&mut tally, payments, sql).await?;
    }
    Ok(tally.verdict())
}

async fn note(tally: &mut Tally, audit: &mut Audit, sql: &'static str) -> Result<(), AuditError> {
    let mut wrong = pin!(audit.rows::<Wrong>(sql));
    while let Some((what, amount)) = wrong.next().await.transpose()? {
        tally.fault(|| match amount {
            Some(amount) => format!("{what}: {amount}"),
            None => format!("{what}: no amount"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::same_amount;

    #[test]
    fn amounts_are_compared_as_numbers() {
        assert!(same_amount("150", "150.00"));
        assert!(same_amount("NaN", "NaN"));
        assert!(!same_amount("150.00", "150.01"));
        assert!(!same_amount("NaN", "0.00"));
    }
}

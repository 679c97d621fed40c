//! Accounts and deposits that a load needs, made before the clock starts.

use contracts::Money;
use futures::{StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;

use super::{Length, LoadError, Plan};
use crate::client::Client;

/// How many accounts are prepared at a time.
const AT_A_TIME: usize = 16;
/// For how many orders a user gets money when their number is not known.
const ORDERS_MANY: u64 = 100_000_000;

pub(super) async fn accounts(client: &Client, plan: &Plan) -> Result<(), LoadError> {
    let deposit = deposit(plan).to_string();
    let prepare = async |user_id: i64| {
        client.open_account(user_id).await.ok()?;
        if plan.has_money(user_id) {
            client.deposit(user_id, &deposit).await.ok()?;
        }
        Ok(())
    };
    stream::iter(plan.all_users().map(|user_id| {
        let prepare = prepare(user_id);
        async move {
            prepare
                .await
                .map_err(|source| LoadError::Setup { user_id, source })
        }
    }))
    .buffer_unordered(AT_A_TIME)
    .try_collect()
    .await
}

/// Enough for all orders on one user, as far as an account can hold it.
fn deposit(plan: &Plan) -> Money {
    let orders = match plan.length {
        Length::Orders(orders) => orders.max(1),
        Length::For(_) => ORDERS_MANY,
    };
    plan.amount
        .as_decimal()
        .checked_mul(Decimal::from(orders))
        .and_then(|enough| Money::try_from(enough).ok())
        .unwrap_or(Money::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deposit_pays_for_every_order() {
        let plan = Plan {
            length: Length::Orders(5000),
            ..Plan::default()
        };
        assert_eq!(deposit(&plan).to_string(), "7500.00");
    }

    #[test]
    fn the_deposit_is_never_more_than_an_account_holds() {
        let plan = Plan {
            amount: Money::MAX,
            ..Plan::default()
        };
        assert_eq!(deposit(&plan), Money::MAX);
    }
}

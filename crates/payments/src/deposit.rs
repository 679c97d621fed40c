//! Paying money into an account.

use chassis::database::{again, bounded};
use chassis::error::{ApiError, Code};
use contracts::{Money, UserId};
use sqlx::PgPool;

use crate::account::Account;
use crate::store;

/// `numeric_value_out_of_range`: the balance would not fit `NUMERIC(18,2)`.
const OUT_OF_RANGE: &str = "22003";

/// Adds money to the balance and its entry to the ledger; one statement, so one transaction.
pub(crate) async fn deposit(
    pool: &PgPool,
    user_id: UserId,
    amount: Money,
) -> Result<Account, ApiError> {
    match bounded(again(|| store::add_deposit(pool, user_id, amount))).await {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(ApiError::not_found(
            Code::AccountNotFound,
            "Account not found",
        )),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(OUT_OF_RANGE) => {
            Err(ApiError::conflict(
                Code::BalanceLimit,
                "The balance would exceed 9999999999999999.99",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

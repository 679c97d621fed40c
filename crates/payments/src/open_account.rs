//! Opening an account.

use chassis::database::{again, bounded};
use chassis::error::{ApiError, Code};
use contracts::UserId;
use sqlx::PgPool;

use crate::account::Account;
use crate::store;

/// Opens an account of nothing; one statement, so one transaction. The unique key decides
/// between any number of requests at once.
pub(crate) async fn open_account(pool: &PgPool, user_id: UserId) -> Result<Account, ApiError> {
    bounded(again(|| store::insert_account(pool, user_id)))
        .await?
        .ok_or_else(|| ApiError::conflict(Code::AccountExists, "Account already exists"))
}

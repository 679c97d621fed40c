//! SQL of the faults that are planted for the acceptance suite.

use std::collections::HashMap;

use contracts::{Money, OrderUid, PaymentRequested, UserId};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::account::Decided;
use crate::store::{self, Locked, money};

/// Reads balances and locks nothing.
pub(crate) async fn read_accounts(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    read(
        transaction,
        "select user_id, balance from accounts where user_id = any ($1)",
        users,
    )
    .await
}

/// Locks accounts in the order of their numbers and waits for those that somebody holds.
pub(crate) async fn wait_for_accounts(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    read(
        transaction,
        "select user_id, balance from accounts where user_id = any ($1) \
         order by user_id for no key update",
        users,
    )
    .await
}

/// Locks accounts in the order in which they are named, and waits for those that somebody holds.
pub(crate) async fn lock_in_no_order(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    read(
        transaction,
        "select user_id, balance from accounts where user_id = any ($1) \
         order by array_position($1, user_id) for no key update",
        users,
    )
    .await
}

async fn read(
    transaction: &mut PgConnection,
    query: &'static str,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    let rows: Vec<(i64, Decimal)> = sqlx::query_as(query)
        .bind(users)
        .fetch_all(transaction)
        .await?;
    Ok(Locked {
        balances: rows
            .into_iter()
            .map(|(user, balance)| Ok((UserId(user), money(balance)?)))
            .collect::<Result<_, sqlx::Error>>()?,
        something_waits: false,
    })
}

/// Writes balances as they were read and reckoned.
pub(crate) async fn write_balances(
    transaction: &mut PgConnection,
    balances: &HashMap<UserId, Money>,
) -> Result<(), sqlx::Error> {
    for (user_id, balance) in balances {
        sqlx::query("update accounts set balance = $2 where user_id = $1")
            .bind(user_id.0)
            .bind(balance.as_decimal())
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

/// What was decided on orders of the same numbers.
pub(crate) async fn find_decided_by_number(
    transaction: &mut PgConnection,
    requests: &[&PaymentRequested],
) -> Result<HashMap<OrderUid, Decided>, sqlx::Error> {
    let numbers: Vec<i64> = requests.iter().map(|request| request.order_id.0).collect();
    let uids: Vec<Uuid> =
        sqlx::query_scalar("select order_uid from payments where order_id = any ($1)")
            .bind(numbers)
            .fetch_all(&mut *transaction)
            .await?;
    let decided = store::find_decided(transaction, &uids).await?;
    Ok(requests
        .iter()
        .filter_map(|request| {
            let known = decided
                .values()
                .find(|known| known.order_id == request.order_id)?;
            Some((request.order_uid, *known))
        })
        .collect())
}

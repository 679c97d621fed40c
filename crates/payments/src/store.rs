//! All SQL of the Payments service. It decides nothing.

use std::collections::{HashMap, HashSet};

use chassis::database::minding_plans;
use contracts::{
    DeclineReason, MessageId, Money, OrderId, OrderUid, Outcome, PaymentSettled, SCHEMA_VERSION,
    UserId,
};
use postbox::{NewMessage, OutboxRow, RowRef, Stored};
use rust_decimal::Decimal;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::account::{Account, Decided};

/// What stands in the row is not what the schema allows.
fn corrupt(what: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} in payments").into())
}

/// Money as it stands in a row.
pub(crate) fn money(decimal: Decimal) -> Result<Money, sqlx::Error> {
    decimal.try_into().map_err(corrupt)
}

/// Opens an account of nothing, unless the user has one.
pub(crate) async fn insert_account(
    pool: &PgPool,
    user_id: UserId,
) -> Result<Option<Account>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let row = sqlx::query!(
        r#"
        insert into accounts (user_id) values ($1)
            on conflict (user_id) do nothing
        returning id, user_id, balance
        "#,
        user_id.0,
    )
    .fetch_optional(&mut *connection)
    .await;
    let row = minding_plans(&mut connection, row).await?;
    row.map(|r| {
        Ok(Account {
            id: r.id,
            user_id: UserId(r.user_id),
            balance: money(r.balance)?,
        })
    })
    .transpose()
}

/// The account of a user.
pub(crate) async fn find_account(
    pool: &PgPool,
    user_id: UserId,
) -> Result<Option<Account>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let row = sqlx::query!(
        "select id, user_id, balance from accounts where user_id = $1",
        user_id.0,
    )
    .fetch_optional(&mut *connection)
    .await;
    let row = minding_plans(&mut connection, row).await?;
    row.map(|r| {
        Ok(Account {
            id: r.id,
            user_id: UserId(r.user_id),
            balance: money(r.balance)?,
        })
    })
    .transpose()
}

/// Adds money to an account and the entry that explains it, in one statement.
pub(crate) async fn add_deposit(
    pool: &PgPool,
    user_id: UserId,
    amount: Money,
) -> Result<Option<Account>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let row = sqlx::query!(
        r#"
        with a as (
            update accounts
               set balance = balance + $2
             where user_id = $1
            returning id, user_id, balance
        ), l as (
            insert into ledger_entries (user_id, kind, amount)
            select user_id, 'deposit', $2 from a
        )
        select id, user_id, balance from a
        "#,
        user_id.0,
        amount.as_decimal(),
    )
    .fetch_optional(&mut *connection)
    .await;
    let row = minding_plans(&mut connection, row).await?;
    row.map(|r| {
        Ok(Account {
            id: r.id,
            user_id: UserId(r.user_id),
            balance: money(r.balance)?,
        })
    })
    .transpose()
}

/// What [`lock_free_accounts`] got hold of.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) balances: HashMap<UserId, Money>,
    /// Whether some request waits for some account.
    pub(crate) something_waits: bool,
}

/// Locks those of the accounts that nobody else holds and no earlier request waits for, and reads
/// their balances. Waits for none of them.
pub(crate) async fn lock_free_accounts(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<Locked, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select user_id, balance, exists (select from waiting_messages) as "something_waits!"
          from accounts a
         where user_id = any ($1)
           -- as a rule nothing waits, and that is asked once; else a subquery for each account,
           -- because a join would read all that waits
           and (not exists (select from waiting_messages)
                or (select true from waiting_messages w where w.user_id = a.user_id limit 1) is null)
         order by user_id
           for no key update of a skip locked
        "#,
        users,
    )
    .fetch_all(transaction)
    .await?;
    Ok(Locked {
        something_waits: rows.iter().any(|row| row.something_waits),
        balances: rows
            .into_iter()
            .map(|r| Ok((UserId(r.user_id), money(r.balance)?)))
            .collect::<Result<_, sqlx::Error>>()?,
    })
}

/// Which of these users have an account, whoever holds it.
pub(crate) async fn find_holders(
    transaction: &mut PgConnection,
    users: &[i64],
) -> Result<HashSet<UserId>, sqlx::Error> {
    let users = sqlx::query_scalar!(
        "select user_id from accounts where user_id = any ($1)",
        users
    )
    .fetch_all(transaction)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}

/// What was decided on these orders. To be asked after the inbox rows are in and the accounts
/// are locked: only then does a concurrent copy's decision show.
pub(crate) async fn find_decided(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<HashMap<OrderUid, Decided>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select order_uid, order_id, user_id, amount, outcome, reason, result_message_id
          from payments
         where order_uid = any ($1)
        "#,
        uids,
    )
    .fetch_all(transaction)
    .await?;
    rows.into_iter()
        .map(|r| {
            let decided = Decided {
                order_id: OrderId(r.order_id),
                user_id: UserId(r.user_id),
                amount: money(r.amount)?,
                outcome: match r.outcome.as_str() {
                    "paid" => Outcome::Paid,
                    "declined" => Outcome::Declined,
                    other => return Err(corrupt(other)),
                },
                reason: match r.reason.as_deref() {
                    None => None,
                    Some("no_account") => Some(DeclineReason::NoAccount),
                    Some("insufficient_funds") => Some(DeclineReason::InsufficientFunds),
                    Some(other) => return Err(corrupt(other)),
                },
                result_message_id: MessageId(r.result_message_id),
            };
            Ok((OrderUid(r.order_uid), decided))
        })
        .collect()
}

/// Those among these on which a decision was made.
pub(crate) async fn find_decided_uids(
    transaction: &mut PgConnection,
    uids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select order_uid from payments where order_uid = any ($1)",
        uids,
    )
    .fetch_all(transaction)
    .await
}

/// One answer to be sent, with the trace of the request it answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) result_message_id: MessageId,
    pub(crate) result: PaymentSettled,
    pub(crate) traceparent: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// How many rows a batch of charges touched.
#[derive(Debug)]
pub(crate) struct Charged {
    pub(crate) accounts: i64,
    pub(crate) answers: Vec<OutboxRow>,
}

/// Writes a batch: new decisions, their ledger entries, the balances, and an answer for each
/// request, duplicates included. One statement, so that a ledger without its balance, or a
/// charge without its answer, cannot be.
///
/// `new`: decisions made in this batch, sorted by `order_uid`. `totals`: what each account pays.
pub(crate) async fn write_charges(
    transaction: &mut PgConnection,
    new: &[(OrderUid, Decided)],
    totals: &[(UserId, Decimal)],
    answers: Vec<Answer>,
) -> Result<Charged, sqlx::Error> {
    let uids: Vec<Uuid> = new.iter().map(|(uid, _)| uid.0).collect();
    let order_ids: Vec<i64> = new.iter().map(|(_, d)| d.order_id.0).collect();
    let users: Vec<i64> = new.iter().map(|(_, d)| d.user_id.0).collect();
    let amounts: Vec<Decimal> = new.iter().map(|(_, d)| d.amount.as_decimal()).collect();
    let outcomes: Vec<String> = new
        .iter()
        .map(|(_, d)| d.outcome.as_str().to_owned())
        .collect();
    let reasons: Vec<Option<String>> = new
        .iter()
        .map(|(_, d)| d.reason.map(|r| r.as_str().to_owned()))
        .collect();
    let result_ids: Vec<Uuid> = new.iter().map(|(_, d)| d.result_message_id.0).collect();
    let (payers, sums): (Vec<i64>, Vec<Decimal>) =
        totals.iter().map(|(user, total)| (user.0, *total)).unzip();

    let messages: Vec<NewMessage> = answers.into_iter().map(Into::into).collect();
    let message_ids: Vec<Uuid> = messages.iter().map(|m| m.message_id).collect();
    let keys: Vec<Uuid> = messages.iter().map(|m| m.key).collect();
    let bodies: Vec<String> = messages.iter().map(|m| m.body.clone()).collect();
    let traceparents: Vec<Option<String>> =
        messages.iter().map(|m| m.traceparent.clone()).collect();
    let request_ids: Vec<Option<String>> = messages.iter().map(|m| m.request_id.clone()).collect();

    let rows = sqlx::query!(
        r#"
        with m as materialized (
            select *
              from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::numeric[], $5::text[],
                          $6::text[], $7::uuid[])
                as t (order_uid, order_id, user_id, amount, outcome, reason, result_message_id)
        ), p as (
            insert into payments
                   (order_uid, order_id, user_id, amount, outcome, reason, result_message_id)
            select * from m
        ), a as (
            -- the guard repeats what was decided under the lock: a balance is never overdrawn
            update accounts
               set balance = accounts.balance - s.total
              from unnest($8::bigint[], $9::numeric[]) as s (user_id, total)
             where accounts.user_id = any ($8)
               and accounts.user_id = s.user_id
               and accounts.balance >= s.total
            returning accounts.user_id
        ), l as (
            insert into ledger_entries (user_id, kind, amount, order_uid)
            select user_id, 'charge', -amount, order_uid from m where outcome = 'paid'
        ), b as (
            insert into outbox_messages
                   (message_id, kind, key, schema_version, body, traceparent, request_id)
            select message_id, $15, key, $16, body, traceparent, request_id
              from unnest($10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::text[])
                as t (message_id, key, body, traceparent, request_id)
            returning id, created_at, due_at, message_id
        )
        select b.id as "id!", b.created_at as "created_at!", b.due_at as "due_at!",
               b.message_id as "message_id!", (select count(*) from a) as "accounts!"
          from b
        "#,
        &uids,
        &order_ids,
        &users,
        &amounts,
        &outcomes,
        &reasons as &[Option<String>],
        &result_ids,
        &payers,
        &sums,
        &message_ids,
        &keys,
        &bodies,
        &traceparents as &[Option<String>],
        &request_ids as &[Option<String>],
        PaymentSettled::KIND,
        postbox::version_sent(SCHEMA_VERSION),
    )
    .fetch_all(transaction)
    .await?;
    let accounts = rows.first().map_or(0, |row| row.accounts);
    let stored = rows.into_iter().map(|r| Stored {
        row: RowRef {
            id: r.id,
            created_at: r.created_at,
            due_at: r.due_at,
        },
        message_id: r.message_id,
    });
    Ok(Charged {
        accounts,
        answers: postbox::pair(messages, stored),
    })
}

impl From<Answer> for NewMessage {
    fn from(answer: Answer) -> Self {
        Self {
            message_id: answer.result_message_id.0,
            kind: PaymentSettled::KIND,
            key: answer.result.order_uid.0,
            schema_version: postbox::version_sent(SCHEMA_VERSION),
            body: answer.result.to_body(),
            traceparent: answer.traceparent,
            request_id: answer.request_id,
        }
    }
}

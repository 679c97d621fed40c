//! The SQL of the reconciliation. Each function is one statement, and so one snapshot; none locks
//! anything. It decides nothing.

use sqlx::PgConnection;
use uuid::Uuid;

use super::account::{Looked, Position};

/// The newest entry of the ledger; 0 when there is none.
pub(super) async fn newest_entry(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select coalesce(max(entry_id), 0) as "newest!" from ledger_entries"#)
        .fetch_one(connection)
        .await
}

/// A stretch of the ledger.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Its last entry; none when there is nothing any more.
    pub(super) last: Option<i64>,
    pub(super) entries: i64,
    /// Whose entries these are, each once.
    pub(super) users: Vec<i64>,
}

/// The next entries behind one.
pub(super) async fn stretch(
    connection: &mut PgConnection,
    after: i64,
    most: i64,
) -> Result<Stretch, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select max(entry_id) as last, count(*) as "entries!",
               coalesce(array_agg(distinct user_id), '{}') as "users!"
          from (select entry_id, user_id
                  from ledger_entries
                 where entry_id > $1
                 order by entry_id
                 limit $2) taken
        "#,
        after,
        most,
    )
    .fetch_one(connection)
    .await?;
    Ok(Stretch {
        last: row.last,
        entries: row.entries,
        users: row.users,
    })
}

/// An order that is debited more often than once.
#[derive(Debug)]
pub(super) struct Twice {
    pub(super) order_uid: Uuid,
    /// Its number, where a decision knows it.
    pub(super) order_id: Option<i64>,
    pub(super) debits: i64,
}

/// Orders with a debit in this stretch and one more, wherever that stands.
pub(super) async fn debited_twice(
    connection: &mut PgConnection,
    after: i64,
    last: i64,
) -> Result<Vec<Twice>, sqlx::Error> {
    sqlx::query_as!(
        Twice,
        r#"
        with looked as materialized (
            select order_uid
              from ledger_entries
             where entry_id > $1 and entry_id <= $2
        )
        select e.order_uid as "order_uid!", count(*) as "debits!",
               (select order_id from payments p where p.order_uid = e.order_uid) as order_id
          from ledger_entries e
         where e.kind = 'charge'
           and e.order_uid in (select order_uid from looked)
         group by e.order_uid
        having count(*) > 1
        "#,
        after,
        last,
    )
    .fetch_all(connection)
    .await
}

/// Which of these orders are debited more often than once.
pub(super) async fn still_debited_twice(
    connection: &mut PgConnection,
    uids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select order_uid as "order_uid!"
          from ledger_entries
         where kind = 'charge' and order_uid = any ($1)
         group by order_uid
        having count(*) > 1
        "#,
        uids,
    )
    .fetch_all(connection)
    .await
}

/// The next users behind one that have an account or entries in the ledger. Each is found by two
/// probes of an index.
pub(super) async fn users_after(
    connection: &mut PgConnection,
    after: i64,
    most: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with recursive next (user_id, n) as (
            select least((select min(user_id) from accounts where user_id > $1),
                         (select min(user_id) from ledger_entries where user_id > $1)), 1
            union all
            select least((select min(a.user_id) from accounts a where a.user_id > next.user_id),
                         (select min(l.user_id) from ledger_entries l where l.user_id > next.user_id)),
                   n + 1
              from next
             where next.user_id is not null and n < $2
        )
        select user_id as "user_id!" from next where user_id is not null order by n
        "#,
        after,
        i32::try_from(most).unwrap_or(i32::MAX),
    )
    .fetch_all(connection)
    .await
}

/// Compares each of these accounts with its ledger, from a position on, over `most` entries of
/// each. What an account with fewer shows is balance and sum of the same moment.
pub(super) async fn look_at(
    connection: &mut PgConnection,
    accounts: &[(i64, Position)],
    most: i64,
) -> Result<Vec<Looked>, sqlx::Error> {
    let users: Vec<i64> = accounts.iter().map(|(user, _)| *user).collect();
    let after: Vec<i64> = accounts.iter().map(|(_, from)| from.entry).collect();
    let sums: Vec<String> = accounts.iter().map(|(_, from)| from.sum.clone()).collect();
    sqlx::query_as!(
        Looked,
        r#"
        select w.user_id as "user_id!", a.balance::text as balance, l.total::text as "total!",
               coalesce(a.balance, 0) is distinct from l.total as "differs!",
               coalesce(a.balance < 0, false) as "is_below_zero!",
               l.entries as "entries!", l.last_entry, l.fallen_at
          from unnest($1::bigint[], $2::bigint[], $3::text[]) as w (user_id, entry, sum)
         cross join lateral (
               select sum(balance) as balance
                 from accounts
                where accounts.user_id = w.user_id) a
         cross join lateral (
               select w.sum::numeric + coalesce(sum(amount), 0) as total,
                      count(*) as entries, max(entry_id) as last_entry,
                      min(entry_id) filter (where w.sum::numeric + running < 0) as fallen_at
                 from (select entry_id, amount, sum(amount) over (order by entry_id) as running
                         from (select entry_id, amount
                                 from ledger_entries e
                                where e.user_id = w.user_id and e.entry_id > w.entry
                                order by e.entry_id
                                limit $4) taken) walked) l
        "#,
        &users,
        &after,
        &sums,
        most,
    )
    .fetch_all(connection)
    .await
}

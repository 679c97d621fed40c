//! Partitions of the outbox and the inbox: made ahead of time, dropped when nobody needs them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::deadline;

/// Makes what is missing and drops what is over, and logs what cannot be done. To be called at the
/// start and every hour or so.
pub async fn keep_partitions(pool: &PgPool, retention: Retention) {
    if let Err(error) = deadline::transaction(make_partitions(pool)).await {
        tracing::warn!("cannot make partitions ahead: {error}");
    }
    if let Err(error) = deadline::transaction(drop_partitions(pool, retention)).await {
        tracing::warn!("cannot drop partitions that are over: {error}");
    }
}

/// Makes the outbox days and inbox weeks ahead that are missing, and returns how many it made.
/// To be called every hour or so: a week of missed calls is harmless, and after that rows go to
/// the DEFAULT partitions.
///
/// # Errors
/// The database's, also for want of the right to create tables.
pub async fn make_partitions(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(r#"select postbox_make_partitions() as "made!""#)
        .fetch_one(pool)
        .await
}

/// How long rows of the outbox that are sent, and rows of the inbox, are kept; a week unless said.
///
/// An inbox row must be there for as long as its message can be delivered again. The longest that
/// this takes by itself is half an hour (how long a broker waits for an acknowledgement) or the
/// pause before an unanswered order is asked for again, so less than a day is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(Duration);

impl Retention {
    /// The shortest that is accepted, and the grain: partitions of the outbox are of a day.
    pub const SHORTEST: Duration = Duration::from_secs(24 * 3600);
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

    /// `None` if it is shorter than [`Self::SHORTEST`], or longer than a hundred years.
    #[must_use]
    pub fn new(duration: Duration) -> Option<Self> {
        (Self::SHORTEST..=Self::LONGEST)
            .contains(&duration)
            .then_some(Self(duration))
    }

    /// How long.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }

    fn interval(self) -> PgInterval {
        PgInterval {
            months: 0,
            days: 0,
            microseconds: i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self(7 * Self::SHORTEST)
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duration = humantime_serde::deserialize(deserializer)?;
        Self::new(duration).ok_or_else(|| {
            D::Error::custom(
                "rows are to be kept for at least 1d, so that a message that is delivered again is \
                 known, and for no more than a hundred years",
            )
        })
    }
}

/// How long a partition may be waited for: whoever comes behind waits as well.
const LOCK_LIMIT: &str = "set local lock_timeout = '500ms'";

/// What an hour may take out of a DEFAULT partition, so that it ends.
const FOREIGN_MAX: i64 = 10_000;

/// Drops partitions that ended longer ago than `retention`, and returns how many: days of the outbox
/// in which nothing is still to be sent, and weeks of the inbox, by the time at which their messages
/// were made; never the last whole week, which is made ahead. What stands outside every
/// range (foreign ids, a clock far off) is deleted row by row. One table to a transaction, and
/// whoever does not get it within half a second leaves it for the next time.
///
/// # Errors
/// The database's. What was dropped before stays dropped.
pub async fn drop_partitions(pool: &PgPool, retention: Retention) -> Result<usize, sqlx::Error> {
    let mut dropped = 0;
    for name in find_old(pool, retention).await? {
        let mut transaction = pool.begin().await?;
        sqlx::query(LOCK_LIMIT).execute(&mut *transaction).await?;
        if drop_one(&mut transaction, &name).await? {
            transaction.commit().await?;
            tracing::info!(partition = name, "dropped");
            dropped += 1;
        }
    }
    delete_foreign(pool, retention).await?;
    Ok(dropped)
}

async fn find_old(pool: &PgPool, retention: Retention) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select name as "name!"
          from (select c.relname::text as name,
                       case when i.inhparent = 'outbox_messages'::regclass
                            then to_date(right(c.relname, 8), 'YYYYMMDD') + 1
                            else to_date(right(c.relname, 7), 'IYYY"w"IW') + 7 end as ends
                  from pg_inherits i
                  join pg_class c on c.oid = i.inhrelid
                 where (i.inhparent = 'outbox_messages'::regclass
                        and c.relname ~ '^outbox_messages_[0-9]{8}$')
                    or (i.inhparent = 'inbox_messages'::regclass
                        and c.relname ~ '^inbox_messages_[0-9]{4}w[0-9]{2}$')) partitions
         where ends::timestamp at time zone 'UTC'
               <= now() - case when name like 'inbox%' then greatest($1::interval, interval '7 days')
                               else $1::interval end
         order by name
        "#,
        retention.interval(),
    )
    .fetch_all(pool)
    .await
}

/// False if something in it is still to be sent, or somebody else has dropped it.
async fn drop_one(transaction: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let (parent, kept) = match name.starts_with("outbox") {
        true => ("outbox_messages", "where not is_published"),
        false => ("inbox_messages", "where false"),
    };
    // The parent before its partition, as every statement that goes through it.
    let lock = format!("lock table only {parent} in access exclusive mode");
    sqlx::query(AssertSqlSafe(lock))
        .execute(&mut *transaction)
        .await?;
    let is_there =
        sqlx::query_scalar!(r#"select to_regclass($1) is not null as "is_there!""#, name)
            .fetch_one(&mut *transaction)
            .await?;
    if !is_there {
        return Ok(false);
    }
    let needed = format!("select exists (select from {name} {kept})");
    let needed: bool = sqlx::query_scalar(AssertSqlSafe(needed))
        .fetch_one(&mut *transaction)
        .await?;
    if needed {
        return Ok(false);
    }
    sqlx::query(AssertSqlSafe(format!("drop table {name}")))
        .execute(transaction)
        .await?;
    Ok(true)
}

async fn delete_foreign(pool: &PgPool, retention: Retention) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from outbox_messages_default
          where ctid = any (array(select ctid from outbox_messages_default
                                   where is_published and created_at < now() - $1::interval
                                   limit $2))",
        retention.interval(),
        FOREIGN_MAX,
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "delete from inbox_messages_default
          where ctid = any (array(select ctid from inbox_messages_default
                                   where received_at < now() - $1::interval
                                   limit $2))",
        retention.interval(),
        FOREIGN_MAX,
    )
    .execute(pool)
    .await?;
    Ok(())
}

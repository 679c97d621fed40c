//! Rows that nobody needs any more go, a whole partition at a time.

use std::time::Duration;

use anyhow::{Result, ensure};
use postbox::{Retention, drop_partitions, make_partitions};
use uuid::Uuid;

use crate::office::{EFFECTS, Office, letter};

const PARTITIONS: &str = "select count(*) from pg_inherits
     where inhparent in ('outbox_messages'::regclass, 'inbox_messages'::regclass)";

/// Two days of the outbox and a week of the inbox of 2020, and rows in them.
const OLD: &str = "
    create table outbox_messages_20200101 partition of outbox_messages
        for values from ('2020-01-01 00:00Z') to ('2020-01-02 00:00Z');
    create table outbox_messages_20200102 partition of outbox_messages
        for values from ('2020-01-02 00:00Z') to ('2020-01-03 00:00Z');
    create table inbox_messages_2020w01 partition of inbox_messages
        for values from (uuid7_floor('2019-12-30 00:00Z')) to (uuid7_floor('2020-01-06 00:00Z'));
    insert into outbox_messages (message_id, kind, body, is_published, created_at)
    values (gen_random_uuid(), 'letter', 'sent', true, '2020-01-01 12:00Z'),
           (gen_random_uuid(), 'letter', 'sent', true, '2020-01-02 12:00Z'),
           (gen_random_uuid(), 'letter', 'not sent', false, '2020-01-02 12:00Z'),
           (gen_random_uuid(), 'letter', 'outside, sent', true, '2020-02-01 12:00Z'),
           (gen_random_uuid(), 'letter', 'outside, not sent', false, '2020-02-01 12:00Z');
    insert into inbox_messages (message_id, key, outcome, received_at)
    values (uuid7_floor('2020-01-01 12:00Z'), gen_random_uuid(), 'applied', '2020-01-01 12:00Z'),
           ('ffffffff-0000-4000-8000-000000000001', gen_random_uuid(), 'applied', '2020-01-01 12:00Z'),
           ('ffffffff-0000-4000-8000-000000000002', gen_random_uuid(), 'applied', now());
";

#[tokio::test]
async fn what_is_over_goes_and_what_is_needed_stays() -> Result<()> {
    let office = Office::open().await?;
    let before = office.count(PARTITIONS).await?;
    sqlx::raw_sql(OLD).execute(&office.pool).await?;
    office.send(vec![letter("letter")]).await?;
    let dropped = drop_partitions(&office.pool, Retention::default()).await?;
    ensure!(dropped == 2, "{dropped} were dropped");
    ensure!(office.count(PARTITIONS).await? == before + 1);
    let left: Vec<String> = sqlx::query_scalar("select body from outbox_messages order by 1")
        .fetch_all(&office.pool)
        .await?;
    ensure!(
        left == ["hello", "not sent", "outside, not sent", "sent"],
        "left are {left:?}"
    );
    let known: Vec<Uuid> = sqlx::query_scalar("select message_id from inbox_messages")
        .fetch_all(&office.pool)
        .await?;
    ensure!(known.len() == 1, "known are {known:?}");

    // What holds the day up is sent, and it goes too.
    sqlx::raw_sql("update outbox_messages set is_published = true where body = 'not sent'")
        .execute(&office.pool)
        .await?;
    ensure!(drop_partitions(&office.pool, Retention::default()).await? == 1);
    ensure!(office.count(PARTITIONS).await? == before);
    ensure!(make_partitions(&office.pool).await? == 0, "none is missing");
    Ok(())
}

/// Somebody reads the table for a long time. The partitions stay until the next time, and who
/// sends and receives meanwhile goes on.
#[tokio::test]
async fn a_table_that_is_in_use_is_left_for_the_next_time() -> Result<()> {
    let office = Office::open().await?;
    sqlx::raw_sql(OLD).execute(&office.pool).await?;
    office.start_relay();
    office.start_consumer();
    let mut reader = office.pool.begin().await?;
    sqlx::query("select from outbox_messages limit 1")
        .execute(&mut *reader)
        .await?;
    let drops = drop_partitions(&office.pool, Retention::default());
    let (dropped, sent) = tokio::join!(drops, office.send(vec![letter("letter")]));
    sent?;
    let code = dropped
        .err()
        .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
    ensure!(code.as_deref() == Some("55P03"), "{code:?}");
    office.eventually_count(EFFECTS, 1).await?;
    reader.rollback().await?;
    ensure!(drop_partitions(&office.pool, Retention::default()).await? == 1);
    Ok(())
}

#[test]
fn less_than_a_day_is_refused() {
    let hours = |hours: u64| Retention::new(Duration::from_secs(hours * 3600));
    assert_eq!(hours(23), None);
    assert_eq!(hours(24 * 7), Some(Retention::default()));
    assert_eq!(hours(24 * 365 * 1000), None);
}

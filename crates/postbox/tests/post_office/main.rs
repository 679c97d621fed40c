//! The post office against a real PostgreSQL and RabbitMQ.

mod alone;
mod eventually;
mod office;
mod parked;
mod partitions;
mod peer;
mod scripted;
mod wedged;

use anyhow::{Context, Result, ensure};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use uuid::Uuid;

use eventually::eventually;
use office::{EFFECTS, Office, PARKED, SENT, UNSENT, letter};

#[tokio::test]
async fn what_is_handed_over_is_sent_marked_and_applied() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    office.start_consumer();
    let rows = office
        .append((0..300).map(|_| letter("letter")).collect())
        .await?;
    office.outbox.hand_over(rows);
    office.eventually_count(EFFECTS, 300).await?;
    office.eventually_count(UNSENT, 0).await
}

#[tokio::test]
async fn a_row_of_a_dead_process_leaves_when_its_lease_ends() -> Result<()> {
    let office = Office::open().await?;
    office
        .append(vec![letter("letter"), letter("letter")])
        .await?;
    office.start_relay();
    office.start_consumer();
    // Never handed over: its writer died. The lease of 15 s runs out by itself.
    office.eventually_count(EFFECTS, 2).await?;
    office.eventually_count(UNSENT, 0).await
}

#[tokio::test]
async fn a_message_delivered_twice_is_applied_once() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    let once = letter("letter");
    let copies = vec![once.clone(), once.clone(), once];
    // The same message in three rows, and in one batch at the consumer.
    let rows = office.append(copies).await?;
    ensure!(
        rows.len() == 3,
        "three rows, each with its own id: {rows:?}"
    );
    office.outbox.hand_over(rows);
    office.eventually_count(SENT, 3).await?;
    office.start_consumer();
    office.eventually_count(EFFECTS, 1).await?;
    // And one more, alone, after the effect.
    let rows = office.append(vec![letter("letter")]).await?;
    office.outbox.hand_over(rows.clone());
    office.eventually_count(EFFECTS, 2).await?;
    office.outbox.hand_over(rows);
    office
        .outbox
        .hand_over(office.append(vec![letter("letter")]).await?);
    office.eventually_count(EFFECTS, 3).await
}

#[tokio::test]
async fn an_unroutable_message_stays_pending_and_holds_nobody_up() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    office.start_consumer();
    let kinds = (0..210).map(|n| if n % 7 == 0 { "nowhere" } else { "letter" });
    let rows = office.append(kinds.map(letter).collect()).await?;
    office.outbox.hand_over(rows);
    office.eventually_count(EFFECTS, 180).await?;
    office.eventually_count(SENT, 180).await?;
    let wrong = "select count(*) from outbox_messages where is_published = (kind = 'nowhere')";
    ensure!(
        office.count(wrong).await? == 0,
        "a return was taken for another message's"
    );
    let tried = "select count(*) from outbox_messages where kind = 'nowhere' and attempts >= 2";
    office.eventually_count(tried, 30).await
}

#[tokio::test]
async fn a_message_sent_while_its_binding_was_gone_arrives_once_it_is_back() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    eventually("the relay is connected", async || {
        office.relay.check().map(drop).map_err(anyhow::Error::msg)
    })
    .await?;
    let connection = office.amqp().await?;
    let channel = connection.create_channel().await?;
    channel
        .queue_unbind(
            "letters".into(),
            "office".into(),
            "letter".into(),
            FieldTable::default(),
        )
        .await
        .context("the binding was there")?;
    office
        .outbox
        .hand_over(office.append(vec![letter("letter")]).await?);
    office
        .eventually_count("select count(*) from outbox_messages where attempts > 0", 1)
        .await?;
    // The consumer declares the binding anew when it starts.
    office.start_consumer();
    office.eventually_count(EFFECTS, 1).await
}

/// Here a row was left over from a backup. Two transactions that come together on a key look the
/// same, so it is tried a few times first.
#[tokio::test]
async fn a_message_that_collides_for_good_is_parked_and_its_neighbours_go_on() -> Result<()> {
    let office = Office::open().await?;
    let letters: Vec<_> = (0..3).map(|_| letter("letter")).collect();
    sqlx::raw_sql("create unique index on effects (message_id)")
        .execute(&office.pool)
        .await?;
    sqlx::query("insert into effects (message_id) values ($1)")
        .bind(letters[1].message_id)
        .execute(&office.pool)
        .await?;
    office.start_relay();
    office.start_consumer();
    office.send(letters).await?;
    office.eventually_count(EFFECTS, 3).await?;
    office.eventually_parked("attempts", "open", 1).await?;
    eventually("the consumer is well", async || {
        let status = office.consumer.check();
        ensure!(status.is_ok(), "it says {status:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn poison_is_parked_at_first_sight_and_its_neighbours_go_on() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    office.start_consumer();
    office
        .outbox
        .hand_over(office.append(vec![letter("letter")]).await?);
    office.eventually_count(EFFECTS, 1).await?;

    let connection = office.amqp().await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let id = || BasicProperties::default().with_message_id(Uuid::now_v7().to_string().into());
    let kind = |p: BasicProperties| p.with_type("letter".into());
    let poison: Vec<(BasicProperties, &[u8], &str)> = vec![
        (
            BasicProperties::default().with_type("letter".into()),
            b"hello",
            "no_message_id",
        ),
        (
            kind(id().with_message_id("seven".into())),
            b"hello",
            "bad_message_id",
        ),
        (kind(id()), b"\xff\xfe", "not_json"),
        (
            kind(id().with_content_encoding("gzip".into())),
            b"hello",
            "encoding",
        ),
        (id().with_type("parcel".into()), b"hello", "unknown_type"),
        (kind(id()), b"broken", "attempts"),
    ];
    let good = kind(id());
    for (properties, body, _) in &poison {
        for (properties, body) in [(properties, *body), (&good, b"hello".as_slice())] {
            channel
                .basic_publish(
                    "".into(),
                    "letters".into(),
                    BasicPublishOptions::default(),
                    body,
                    properties.clone(),
                )
                .await?
                .await?;
        }
    }
    office.eventually_count(PARKED, 6).await?;
    office.eventually_count(EFFECTS, 2).await?;
    for (_, _, reason) in poison {
        let sql = "select count(*) from parked_messages where reason = $1";
        let count: i64 = sqlx::query_scalar(sql)
            .bind(reason)
            .fetch_one(&office.pool)
            .await?;
        ensure!(count == 1, "{count} parked as {reason}");
    }
    // Parking writes no inbox row: a copy after the mend would be judged anew.
    ensure!(office.count("select count(*) from inbox_messages").await? == 2);
    eventually("all is counted", async || {
        let (handled, duplicates) = (office.consumer.handled(), office.consumer.duplicates());
        ensure!((handled, duplicates) == (7, 5), "{handled}, {duplicates}");
        let published = office.relay.published();
        ensure!(published == 1, "{published} were published");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_queue_is_a_fault_that_heals_by_itself() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    office.start_consumer();
    office
        .outbox
        .hand_over(office.append(vec![letter("letter")]).await?);
    office.eventually_count(EFFECTS, 1).await?;
    let channel = office.amqp().await?.create_channel().await?;
    channel
        .queue_delete("letters".into(), Default::default())
        .await?;
    office
        .outbox
        .hand_over(office.append(vec![letter("letter")]).await?);
    office.eventually_count(EFFECTS, 2).await
}

//! Parked messages: how they come there, what becomes of them, and what an operator does.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicRejectOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use postbox::{NewMessage, ParkedError, Route, drop_parked, replay_parked, show_parked};
use uuid::Uuid;

use crate::eventually::eventually;
use crate::office::{EFFECTS, Office, PARKED, SENT, TOPOLOGY, letter, saying, stamped};

const LIVE: &str = TOPOLOGY.reads.queue;
const DEAD: &str = "letters.dead";

/// An office whose consumer is up, so that the queues are there.
async fn open() -> Result<Office> {
    let office = Office::open().await?;
    office.start_relay();
    office.start_consumer();
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(EFFECTS, 1).await?;
    Ok(office)
}

fn of_version_2() -> NewMessage {
    NewMessage {
        schema_version: 2,
        ..letter("letter")
    }
}

#[tokio::test]
async fn a_dead_letter_is_moved_to_the_parked_ones() -> Result<()> {
    let mut office = open().await?;
    office.stop_consumer().await?;
    // Given up by the broker itself: its only reader refuses it.
    office
        .put(LIVE, stamped(&Uuid::now_v7().to_string(), 1), b"hello")
        .await?;
    let channel = office.amqp().await?.create_channel().await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel
        .basic_consume(LIVE.into(), "".into(), options, FieldTable::default())
        .await?;
    let refused = deliveries.next().await.context("nothing came")??;
    refused
        .reject(BasicRejectOptions { requeue: false })
        .await?;
    channel.close(200, "done".into()).await?;
    office.start_consumer();
    office.eventually_parked("dead_lettered", "open", 1).await?;
    let parked = show_parked(&office.pool, office.parked_id().await?).await?;
    let parked = parked.context("it was there")?;
    ensure!(
        parked.row.queue == LIVE,
        "it is to go back to {}",
        parked.row.queue
    );
    ensure!(
        parked.row.detail.contains("rejected"),
        "{}",
        parked.row.detail
    );
    ensure!(parked.headers.contains("x-death"), "{}", parked.headers);
    // The handler never saw it.
    ensure!(office.count(EFFECTS).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_says_why_and_copies_are_counted() -> Result<()> {
    let office = open().await?;
    let id = Uuid::now_v7().to_string();
    for _ in 0..3 {
        office.put(DEAD, stamped(&id, 7), b"hello").await?;
    }
    office.eventually_parked("unknown_version", "open", 3).await
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_gone_comes_back_and_the_live_one_goes_on() -> Result<()> {
    let office = open().await?;
    let channel = office.amqp().await?.create_channel().await?;
    channel
        .queue_delete(DEAD.into(), QueueDeleteOptions::default())
        .await?;
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(EFFECTS, 2).await?;
    eventually("there is a queue for dead letters again", async || {
        let properties = stamped(&Uuid::now_v7().to_string(), 1);
        office.put(DEAD, properties, b"hello").await
    })
    .await?;
    office.eventually_parked("dead_lettered", "open", 1).await
}

#[tokio::test]
async fn a_copy_that_comes_after_the_mend_is_taken_in_and_closes_the_row() -> Result<()> {
    let office = open().await?;
    let message = of_version_2();
    office.send(vec![message.clone()]).await?;
    office
        .eventually_parked("unknown_version", "open", 1)
        .await?;
    // Still not readable: counted.
    office.send(vec![message.clone()]).await?;
    office
        .eventually_parked("unknown_version", "open", 2)
        .await?;
    office.handler.mended.store(true, Ordering::Relaxed);
    office.send(vec![message]).await?;
    office.eventually_count(EFFECTS, 2).await?;
    office
        .eventually_parked("unknown_version", "closed", 2)
        .await?;
    ensure!(office.count("select count(*) from audit.parked").await? == 0);
    Ok(())
}

#[tokio::test]
async fn what_is_settled_by_another_message_closes_what_is_parked_about_it() -> Result<()> {
    let office = open().await?;
    let (subject, other) = (Uuid::now_v7(), Uuid::now_v7());
    office
        .send(vec![saying(&format!("early, about {subject}"))])
        .await?;
    office.eventually_parked("unknown_order", "open", 1).await?;
    office.send(vec![saying(&format!("about {other}"))]).await?;
    office.eventually_count(EFFECTS, 2).await?;
    ensure!(office.parked().await?.1 == "open", "closed by a stranger");
    office
        .send(vec![saying(&format!("about {subject}"))])
        .await?;
    office.eventually_count(EFFECTS, 3).await?;
    office.eventually_parked("unknown_order", "closed", 1).await
}

/// Parked by hand as this or that, to be told by its reason.
async fn park(office: &Office, queue: &str, reason: &str, key: Uuid, bytes: i32) -> Result<i64> {
    let id = sqlx::query_scalar(
        "insert into parked_messages
                (queue, message_id, identity, key, kind, schema_version, reason, detail, headers, body)
         select $1, id, id, $2, 'letter', 1, $3, '', '', convert_to(repeat('x', $4), 'UTF8')
           from (select gen_random_uuid()::text as id) new
         returning id",
    );
    let id = id.bind(queue).bind(key).bind(reason).bind(bytes);
    Ok(id.fetch_one(&office.pool).await?)
}

async fn states(office: &Office) -> Result<Vec<String>> {
    let states = sqlx::query_scalar("select state from parked_messages order by id");
    Ok(states.fetch_all(&office.pool).await?)
}

#[tokio::test]
async fn what_could_not_be_sent_is_closed_too_when_its_key_is_settled() -> Result<()> {
    let office = open().await?;
    let subject = Uuid::now_v7();
    park(&office, "elsewhere", "attempts", subject, 1).await?;
    park(&office, "elsewhere", "attempts", Uuid::now_v7(), 1).await?;
    office
        .send(vec![saying(&format!("about {subject}"))])
        .await?;
    office.eventually_count(EFFECTS, 2).await?;
    ensure!(states(&office).await? == ["closed", "open"]);
    Ok(())
}

#[tokio::test]
async fn what_was_parked_after_its_key_was_settled_can_be_found_and_closed() -> Result<()> {
    let office = open().await?;
    let (settled, other) = (Uuid::now_v7(), Uuid::now_v7());
    for (queue, reason, key) in [
        (LIVE, "dead_lettered", settled),
        (LIVE, "attempts", settled),
        (LIVE, "contradiction", settled),
        (LIVE, "attempts", other),
        ("elsewhere", "attempts", settled),
    ] {
        park(&office, queue, reason, key, 1).await?;
    }
    let mut transaction = office.pool.begin().await?;
    let keys = postbox::find_parked_keys(&mut transaction, &[LIVE]).await?;
    ensure!(keys == [other, settled, settled], "found {keys:?}");
    let closed = postbox::close_parked(&mut transaction, &[LIVE], &[settled]).await?;
    transaction.commit().await?;
    ensure!(closed == 2, "closed {closed}");
    ensure!(states(&office).await? == ["closed", "closed", "open", "open", "open"]);
    Ok(())
}

#[tokio::test]
async fn a_body_of_which_a_part_is_kept_is_not_replayed() -> Result<()> {
    let office = Office::open().await?;
    let cut = park(&office, LIVE, "attempts", Uuid::now_v7(), 131_072).await?;
    let whole = park(&office, LIVE, "attempts", Uuid::now_v7(), 131_071).await?;
    let refused = replay_parked(&office.pool, cut, &[TOPOLOGY.reads]).await;
    ensure!(
        matches!(refused, Err(ParkedError::NotSendable { .. })),
        "{refused:?}"
    );
    replay_parked(&office.pool, whole, &[TOPOLOGY.reads]).await?;
    ensure!(states(&office).await? == ["open", "replayed"]);
    Ok(())
}

#[tokio::test]
async fn a_message_under_the_id_of_another_is_parked_and_the_first_stands() -> Result<()> {
    let office = open().await?;
    let first = saying(&format!("about {}", Uuid::now_v7()));
    let second = NewMessage {
        body: format!("about {}", Uuid::now_v7()),
        ..first.clone()
    };
    office.send(vec![first.clone()]).await?;
    office.eventually_count(EFFECTS, 2).await?;
    office.send(vec![second.clone()]).await?;
    office.eventually_parked("conflict", "open", 1).await?;
    // And a true copy of the first does not close the alarm.
    office.send(vec![first, second]).await?;
    office.eventually_parked("conflict", "open", 2).await?;
    ensure!(office.count(EFFECTS).await? == 2);
    Ok(())
}

#[tokio::test]
async fn many_operators_at_once_make_one_replay() -> Result<()> {
    let mut office = open().await?;
    let message = of_version_2();
    office.send(vec![message.clone()]).await?;
    office
        .eventually_parked("unknown_version", "open", 1)
        .await?;
    let id = office.parked_id().await?;
    office.stop_consumer().await?;
    let ask = || replay_parked(&office.pool, id, &[TOPOLOGY.reads]);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    let answers = [a, b, c, d];
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    ensure!(done == 1, "{answers:?}");
    let refused = |answer: &Result<(), ParkedError>| match answer {
        Err(ParkedError::NotOpen { state, .. }) => state == "replayed",
        other => other.is_ok(),
    };
    ensure!(answers.iter().all(refused), "{answers:?}");
    // Consumer and relay were stopped together.
    office.start_relay();
    office.handler.mended.store(true, Ordering::Relaxed);
    office.start_consumer();
    office.eventually_count(EFFECTS, 2).await?;
    office
        .eventually_parked("unknown_version", "closed", 1)
        .await?;
    office.eventually_count(SENT, 3).await?;
    let same: i64 = sqlx::query_scalar(
        "select count(*) from outbox_messages where message_id = $1 and body = $2 \
            and schema_version = 2 and kind = 'letter'",
    )
    .bind(message.message_id)
    .bind(message.body)
    .fetch_one(&office.pool)
    .await?;
    ensure!(same == 2, "the replay is the same message: {same}");
    Ok(())
}

#[tokio::test]
async fn a_replayed_message_that_fails_again_is_open_anew() -> Result<()> {
    let office = open().await?;
    office.send(vec![of_version_2()]).await?;
    office
        .eventually_parked("unknown_version", "open", 1)
        .await?;
    replay_parked(&office.pool, office.parked_id().await?, &[TOPOLOGY.reads]).await?;
    office.eventually_parked("unknown_version", "open", 2).await
}

#[tokio::test]
async fn a_dropped_message_is_not_parked_again() -> Result<()> {
    let office = open().await?;
    let message = of_version_2();
    office.send(vec![message.clone()]).await?;
    office
        .eventually_parked("unknown_version", "open", 1)
        .await?;
    let id = office.parked_id().await?;
    drop_parked(&office.pool, id).await?;
    office.send(vec![message]).await?;
    office
        .eventually_parked("unknown_version", "dropped", 2)
        .await?;
    ensure!(office.count("select count(*) from audit.parked").await? == 0);
    for refused in [
        replay_parked(&office.pool, id, &[TOPOLOGY.reads]).await,
        drop_parked(&office.pool, id).await,
    ] {
        ensure!(
            matches!(refused, Err(ParkedError::NotOpen { .. })),
            "{refused:?}"
        );
    }
    // Not only this code holds it.
    let revived = sqlx::query("update parked_messages set state = 'open'")
        .execute(&office.pool)
        .await;
    let error = revived.err().context("a tombstone came to life")?;
    let error = error.as_database_error().context("another error")?;
    ensure!(
        error.constraint() == Some("parked_messages_states"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn what_an_outbox_cannot_hold_is_not_replayed_and_says_what_to_do() -> Result<()> {
    let office = open().await?;
    let nameless = BasicProperties::default().with_type("letter".into());
    office.put(LIVE, nameless, b"hello").await?;
    office.put(LIVE, stamped("seven", 1), b"hello").await?;
    office
        .put(LIVE, stamped(&Uuid::now_v7().to_string(), 1), b"\xff\xfe")
        .await?;
    office
        .put(LIVE, stamped(&Uuid::now_v7().to_string(), 70_000), b"hello")
        .await?;
    office.eventually_count(PARKED, 4).await?;
    for row in postbox::list_parked(&office.pool, false, 10).await? {
        let refused = replay_parked(&office.pool, row.id, &[TOPOLOGY.reads]).await;
        ensure!(
            matches!(refused, Err(ParkedError::NotSendable { .. })),
            "{row:?}: {refused:?}"
        );
    }
    let missing = replay_parked(&office.pool, 1_000_000, &[TOPOLOGY.reads]).await;
    ensure!(matches!(missing, Err(ParkedError::Missing)), "{missing:?}");
    ensure!(office.count("select count(*) from audit.parked").await? == 4);
    Ok(())
}

/// Two copies of a request: one settles it, the broker gives the other up, and a third comes.
#[tokio::test]
async fn a_copy_that_was_given_up_is_closed_by_the_next_one() -> Result<()> {
    let office = open().await?;
    let id = Uuid::now_v7();
    let copy = || stamped(&id.to_string(), 1);
    office.put(LIVE, copy(), b"hello").await?;
    office.eventually_count(EFFECTS, 2).await?;
    office.put(DEAD, copy(), b"hello").await?;
    office.eventually_parked("dead_lettered", "open", 1).await?;
    office.put(LIVE, copy(), b"hello").await?;
    office
        .eventually_parked("dead_lettered", "closed", 1)
        .await?;
    ensure!(office.count(EFFECTS).await? == 2);
    Ok(())
}

/// Sent as what its queue is for, it would be obeyed.
#[tokio::test]
async fn a_message_of_another_type_is_not_replayed_as_what_it_is_not() -> Result<()> {
    const ROWS: &str = "select count(*) from outbox_messages where kind = 'parcel'";
    let office = open().await?;
    let parcel = stamped(&Uuid::now_v7().to_string(), 1).with_type("parcel".into());
    office.put(LIVE, parcel, b"hello").await?;
    office.eventually_parked("unknown_type", "open", 1).await?;
    let id = office.parked_id().await?;
    let refused = replay_parked(&office.pool, id, &[TOPOLOGY.reads]).await;
    ensure!(
        matches!(&refused, Err(ParkedError::ForeignKind { kind, .. }) if kind == "parcel"),
        "{refused:?}"
    );
    office.eventually_parked("unknown_type", "open", 1).await?;
    ensure!(office.count(ROWS).await? == 0);
    // A version that reads parcels from this queue too.
    let later = Route {
        kind: "parcel",
        ..TOPOLOGY.reads
    };
    replay_parked(&office.pool, id, &[TOPOLOGY.reads, later]).await?;
    ensure!(office.count(ROWS).await? == 1);
    Ok(())
}

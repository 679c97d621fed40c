//! A broker that is killed right after a queue was declared: RabbitMQ brings the queue back dead.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use sandbox::{Options, Sandbox};

use crate::eventually::{eventually, stays};
use crate::office::{EFFECTS, Office, SENT, letter};

/// A kill bites if it comes before the broker has written down where the queue lives.
const TRIES: usize = 5;
/// A queue that is well answers at once, or as soon as its broker is whole again.
const DEAD_AFTER: Duration = Duration::from_secs(5);
const DEAD: &str = "letters.dead";
/// In which the dead letters are asked for at least twice.
const ASKED_TWICE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_an_early_kill_left_dead_is_named_and_healed_where_that_is_on() -> Result<()> {
    let sandbox = Sandbox::start(Options::default()).await?;
    let mut office = wedge(&sandbox).await?;
    // Without the switch a person is told what to do, and nothing is deleted.
    office.start_relay();
    office.outbox.hand_over(
        office
            .append(vec![letter("letter"), letter("letter")])
            .await?,
    );
    eventually("it says which queue to delete", async || {
        let status = office.relay.check();
        let told = status
            .as_ref()
            .is_err_and(|text| text.contains("delete_queue letters"));
        ensure!(told, "it says {status:?}");
        Ok(())
    })
    .await?;
    ensure!(office.count(SENT).await? == 0, "something was confirmed");
    // With it, what is still to be sent arrives.
    office.stop_relay().await?;
    office.broker.heal_wedged = true;
    office.start_relay();
    office.eventually_count(SENT, 2).await?;
    office.start_consumer();
    office.eventually_count(EFFECTS, 2).await?;
    sandbox.stop().await
}

/// Its reader would lose its connection, and with it the live queue, each time it asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_whose_queue_is_dead_hold_nothing_else_up() -> Result<()> {
    let sandbox = Sandbox::start(Options::default()).await?;
    let mut office = Office::in_sandbox(&sandbox).await?;
    office.start_relay();
    office.start_consumer();
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(EFFECTS, 1).await?;
    let moves = async |office: &Office| {
        let status = office.dead_letters.status.check();
        ensure!(status.is_ok(), "it says {status:?}");
        Ok(())
    };
    wedge_dead_letters(&sandbox, &mut office).await?;
    office.start_relay();
    office.start_consumer();
    eventually("it says which queue to delete", async || {
        let status = office.dead_letters.status.check();
        let told = status
            .as_ref()
            .is_err_and(|text| text.contains("delete_queue letters.dead"));
        ensure!(told, "it says {status:?}");
        Ok(())
    })
    .await?;
    eventually("letters are taken in", async || {
        office
            .consumer
            .check()
            .map(drop)
            .map_err(anyhow::Error::msg)
    })
    .await?;
    stays("letters are taken in", ASKED_TWICE, async || {
        office
            .consumer
            .check()
            .map(drop)
            .map_err(anyhow::Error::msg)
    })
    .await?;
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(EFFECTS, 2).await?;
    office.stop_consumer().await?;
    office.broker.heal_wedged = true;
    office.start_consumer();
    eventually("dead letters are moved", async || moves(&office).await).await?;
    sandbox.stop().await
}

/// Stops the consumer, and leaves the queue of its dead letters dead, and that one alone.
async fn wedge_dead_letters(sandbox: &Sandbox, office: &mut Office) -> Result<()> {
    office.stop_consumer().await?;
    // A broker that ends in good order has written down where the other queues live.
    sandbox.rabbitmq.stop().await?;
    sandbox.rabbitmq.start().await?;
    for _ in 0..TRIES {
        let channel = office.amqp().await?.create_channel().await?;
        channel
            .queue_delete(DEAD.into(), QueueDeleteOptions::default())
            .await?;
        let mut arguments = FieldTable::default();
        for (name, value) in [("x-queue-type", "quorum"), ("x-overflow", "reject-publish")] {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1000));
        let durable = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channel
            .queue_declare(DEAD.into(), durable, arguments)
            .await?;
        sandbox.rabbitmq.kill().await?;
        sandbox.rabbitmq.start().await?;
        if !answers(office, DEAD).await? {
            ensure!(answers(office, "letters").await?, "both are dead");
            return Ok(());
        }
    }
    anyhow::bail!("{TRIES} kills, and no queue came back dead: nothing is shown")
}

/// A full queue refuses as a dead one may. It is asked as often as that lasts, and each message that
/// is taken and given back comes nearer to being given up.
#[tokio::test]
async fn a_full_queue_is_asked_without_taking_anything_from_it() -> Result<()> {
    let office = Office::open().await?;
    office.start_relay();
    office.send(vec![letter("letter")]).await?;
    office.eventually_count(SENT, 1).await?;
    let path = format!("/api/policies/{}/short", office.broker.vhost);
    let policy = serde_json::json!({
        "pattern": ".*", "apply-to": "queues", "definition": { "max-length": 1 }
    });
    let broker = sandbox::shared().await.vhost().await?;
    broker.management("PUT", &path, Some(policy)).await?;
    // A policy comes into force some time later, and the bound is not exact.
    eventually("a letter is refused", async || {
        office.send(vec![letter("letter")]).await?;
        let refused = "select count(*) from outbox_messages where attempts > 0";
        ensure!(office.count(refused).await? > 0, "all find room");
        Ok(())
    })
    .await?;
    // Refused again and again, so the queue was asked between.
    let refused =
        "select least(count(*), 1) from outbox_messages where not is_published and attempts > 2";
    office.eventually_count(refused, 1).await?;
    let channel = office.amqp().await?.create_channel().await?;
    let first = channel.basic_get("letters".into(), BasicGetOptions::default());
    let first = first.await?.context("the queue is empty")?;
    ensure!(!first.redelivered, "it was taken and given back");
    Ok(())
}

/// An office whose queue has taken a message, and is dead.
async fn wedge(sandbox: &Sandbox) -> Result<Office> {
    for _ in 0..TRIES {
        let mut office = Office::in_sandbox(sandbox).await?;
        office.config.confirm_timeout = Duration::from_secs(1);
        declare_and_publish(&office).await?;
        sandbox.rabbitmq.kill().await?;
        sandbox.rabbitmq.start().await?;
        if !answers(&office, "letters").await? {
            return Ok(office);
        }
    }
    anyhow::bail!("{TRIES} kills, and no queue came back dead: nothing is shown")
}

/// Whether a message can be asked for at all, for some time.
async fn answers(office: &Office, queue: &str) -> Result<bool> {
    let dead = stays("the queue is dead", DEAD_AFTER, async || {
        let channel = office.amqp().await?.create_channel().await?;
        let get = channel.basic_get(queue.into(), BasicGetOptions::default());
        let answer = tokio::time::timeout(DEAD_AFTER, get).await;
        ensure!(!matches!(answer, Ok(Ok(_))), "it answers");
        Ok(())
    });
    Ok(dead.await.is_err())
}

/// The queue as the relay declares it, in as little time as can be.
async fn declare_and_publish(office: &Office) -> Result<()> {
    let connection = office.amqp().await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-overflow", "reject-publish"),
        ("x-dead-letter-exchange", "office.dead"),
        ("x-dead-letter-routing-key", "letters"),
        ("x-dead-letter-strategy", "at-least-once"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1000));
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare("letters".into(), durable, arguments)
        .await?;
    channel
        .basic_publish(
            "".into(),
            "letters".into(),
            BasicPublishOptions::default(),
            b"lost",
            BasicProperties::default().with_delivery_mode(2),
        )
        .await?
        .await?;
    Ok(())
}

//! The duplicator and the raw tools, on a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use contracts::topology::{EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS, Route};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};
use prover::amqp::{self, BasicProperties, Published, RawMessage, Stolen};
use prover::duplicator::{CopyId, Duplicator};
use prover::eventually::eventually;
use sandbox::{Options, Sandbox};

const SOON: Duration = Duration::from_secs(20);

/// The queues of the system, without its services; classic ones, because a quorum queue does not
/// survive a kill right after it was declared.
async fn declare_queues(connection: &Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await?;
    for Route { queue, kind } in [PAYMENT_REQUESTS, ORDER_RESULTS] {
        let durable = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("classic".into()),
        );
        channel
            .queue_declare(queue.into(), durable, arguments)
            .await?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(
                queue.into(),
                EXCHANGE.into(),
                kind.into(),
                options,
                arguments,
            )
            .await?;
    }
    Ok(())
}

fn message(route: Route, id: &str) -> RawMessage {
    RawMessage {
        exchange: EXCHANGE.to_owned(),
        routing_key: route.kind.to_owned(),
        properties: BasicProperties::default()
            .with_message_id(id.into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2),
        body: format!("body of {id}").into_bytes(),
    }
}

fn id(stolen: &Stolen) -> &str {
    stolen
        .properties
        .message_id()
        .as_ref()
        .map_or("", |id| id.as_str())
}

async fn copied(duplicator: &Duplicator, requests: u64, results: u64) -> Result<()> {
    eventually(SOON, "everything is copied", || async {
        let copies = duplicator.copies();
        if (copies.requests, copies.results) == (requests, results) {
            Ok(())
        } else {
            Err(format!("{copies:?}"))
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn every_message_arrives_twice_and_not_more_often() -> Result<()> {
    let vhost = sandbox::shared().await.vhost().await?;
    let connection = amqp::connect(&vhost.url(), "test").await?;
    declare_queues(&connection).await?;
    let duplicator = Duplicator::start(&vhost.url(), CopyId::Same).await?;
    for n in 0..20 {
        let request = message(PAYMENT_REQUESTS, &format!("request {n}"));
        assert_eq!(
            amqp::publish(&connection, &request).await?,
            Published::Queued
        );
    }
    amqp::publish(&connection, &message(ORDER_RESULTS, "result")).await?;
    copied(&duplicator, 20, 1).await?;

    let requests = amqp::steal(&connection, PAYMENT_REQUESTS.queue, Duration::from_secs(1)).await?;
    assert_eq!(requests.len(), 40);
    for n in 0..20 {
        let original = message(PAYMENT_REQUESTS, &format!("request {n}"));
        let same = requests.iter().filter(|stolen| {
            stolen.body == original.body && stolen.properties == original.properties
        });
        assert_eq!(same.count(), 2, "request {n}");
    }
    let results = amqp::steal(&connection, ORDER_RESULTS.queue, Duration::from_millis(300)).await?;
    assert_eq!(
        results.iter().map(id).collect::<Vec<_>>(),
        ["result", "result"]
    );

    let copies = duplicator.stop().await?;
    assert_eq!(
        (copies.requests, copies.results, copies.unroutable),
        (20, 1, 0)
    );
    let queues = vhost
        .management("GET", &format!("/api/queues/{}", vhost.name), None)
        .await?;
    let left = queues.as_array().context("a list")?.len();
    assert_eq!(left, 2, "the duplicator's queue is left behind: {queues}");
    Ok(())
}

#[tokio::test]
async fn a_copy_can_carry_another_message_id() -> Result<()> {
    let vhost = sandbox::shared().await.vhost().await?;
    let connection = amqp::connect(&vhost.url(), "test").await?;
    declare_queues(&connection).await?;
    let duplicator = Duplicator::start(&vhost.url(), CopyId::New).await?;
    amqp::publish(&connection, &message(PAYMENT_REQUESTS, "original")).await?;
    copied(&duplicator, 1, 0).await?;
    let both = amqp::steal(
        &connection,
        PAYMENT_REQUESTS.queue,
        Duration::from_millis(500),
    )
    .await?;
    let others: Vec<&Stolen> = both
        .iter()
        .filter(|stolen| id(stolen) != "original")
        .collect();
    assert_eq!((both.len(), others.len()), (2, 1));
    let new_id: uuid::Uuid = id(others[0]).parse()?;
    assert_eq!(new_id.get_version_num(), 7);
    assert_eq!(others[0].body, message(PAYMENT_REQUESTS, "original").body);
    Ok(())
}

#[tokio::test]
async fn the_duplicator_comes_back_after_its_connection_is_closed() -> Result<()> {
    let vhost = sandbox::shared().await.vhost().await?;
    let connection = amqp::connect(&vhost.url(), "test").await?;
    declare_queues(&connection).await?;
    let duplicator = Duplicator::start(&vhost.url(), CopyId::Same).await?;
    amqp::publish(&connection, &message(PAYMENT_REQUESTS, "before")).await?;
    copied(&duplicator, 1, 0).await?;

    // The management API learns of a connection some seconds after it was opened.
    eventually(SOON, "the fault is felt", || async {
        let closed = vhost
            .close_all_connections()
            .await
            .map_err(|e| e.to_string())?;
        match duplicator.copies().faults {
            0 => Err(format!("{closed} connections closed, no fault yet")),
            _ => Ok(()),
        }
    })
    .await?;
    let connection = amqp::connect(&vhost.url(), "test").await?;
    amqp::publish(&connection, &message(PAYMENT_REQUESTS, "after")).await?;
    copied(&duplicator, 2, 0).await?;
    duplicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_duplicator_survives_a_killed_broker_with_what_it_had_not_copied() -> Result<()> {
    let servers = Sandbox::start(Options::default()).await?;
    let broker = &servers.rabbitmq;
    broker.create_vhost("killed").await?;
    let url = broker.url("killed");
    let connection = amqp::connect(&url, "test").await?;
    declare_queues(&connection).await?;
    let duplicator = Duplicator::start(&url, CopyId::Same).await?;
    let publish = async |connection: &Connection, ids: std::ops::Range<u32>| {
        for n in ids {
            amqp::publish(connection, &message(PAYMENT_REQUESTS, &n.to_string())).await?;
        }
        anyhow::Ok(())
    };
    publish(&connection, 0..50).await?;
    broker.kill().await?;
    broker.start().await?;
    let connection = amqp::connect(&url, "test").await?;
    publish(&connection, 50..100).await?;

    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    eventually(SOON, "everything is copied", || async {
        let copies = duplicator.copies();
        if copies.requests >= 100 && copies.faults > 0 {
            Ok(())
        } else {
            Err(format!("{copies:?}"))
        }
    })
    .await?;
    for stolen in amqp::steal(&connection, PAYMENT_REQUESTS.queue, Duration::from_secs(2)).await? {
        *times.entry(id(&stolen).to_owned()).or_default() += 1;
    }
    assert_eq!(times.len(), 100);
    assert!(times.values().all(|times| *times >= 2), "{times:?}");
    duplicator.stop().await?;
    servers.stop().await
}

#[tokio::test]
async fn what_no_queue_takes_is_unroutable_and_a_purge_counts() -> Result<()> {
    let vhost = sandbox::shared().await.vhost().await?;
    let connection = amqp::connect(&vhost.url(), "test").await?;
    declare_queues(&connection).await?;
    let lost = RawMessage {
        routing_key: String::from("nobody"),
        ..message(PAYMENT_REQUESTS, "1")
    };
    assert_eq!(
        amqp::publish(&connection, &lost).await?,
        Published::Unroutable
    );
    for n in 0..3 {
        amqp::publish(&connection, &message(PAYMENT_REQUESTS, &n.to_string())).await?;
    }
    assert_eq!(amqp::purge(&connection, PAYMENT_REQUESTS.queue).await?, 3);
    let left = amqp::steal(
        &connection,
        PAYMENT_REQUESTS.queue,
        Duration::from_millis(200),
    )
    .await?;
    assert_eq!(left, []);
    Ok(())
}

//! The shared sandbox: what every test of every other crate stands on.

use anyhow::Context;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn each_test_has_an_empty_database_of_its_own() -> anyhow::Result<()> {
    let shared = sandbox::shared().await;
    let (one, other) = (shared.database().await?, shared.database().await?);
    assert_ne!(one.name, other.name);

    let mut connection = PgConnection::connect(&one.url()).await?;
    sqlx::raw_sql("create table mine (id int)")
        .execute(&mut connection)
        .await?;
    let mut connection = PgConnection::connect(&other.url()).await?;
    let found: Option<String> = sqlx::query_scalar("select to_regclass('mine')::text")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(found, None);
    Ok(())
}

#[tokio::test]
async fn a_query_of_a_crash_safe_server_is_answered() -> anyhow::Result<()> {
    let database = sandbox::shared().await.database().await?;
    let mut connection = PgConnection::connect(&database.url()).await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(value, "on", "{setting}");
    }
    Ok(())
}

#[tokio::test]
async fn messages_of_one_virtual_host_are_not_seen_in_another() -> anyhow::Result<()> {
    let shared = sandbox::shared().await;
    let (one, other) = (shared.vhost().await?, shared.vhost().await?);
    publish(&one, 3).await?;
    eventually("three messages are counted", async || {
        Ok(one.queue_depth("letters").await?.ready == 3)
    })
    .await?;
    assert!(other.queue_depth("letters").await.is_err());

    one.purge_queue("letters").await?;
    eventually("the purge is counted", async || {
        Ok(one.queue_depth("letters").await?.ready == 0)
    })
    .await?;
    one.delete_queue("letters").await?;
    assert!(one.queue_depth("letters").await.is_err());
    Ok(())
}

/// Declares a queue and publishes into it, both by the management API: this crate speaks no AMQP.
async fn publish(vhost: &sandbox::Vhost, messages: usize) -> anyhow::Result<()> {
    let queue = format!("/api/queues/{}/letters", vhost.name);
    let quorum = serde_json::json!({
        "durable": true,
        "arguments": { "x-queue-type": "quorum" },
    });
    vhost.management("PUT", &queue, Some(quorum)).await?;
    let path = format!("/api/exchanges/{}/amq.default/publish", vhost.name);
    for _ in 0..messages {
        let message = serde_json::json!({
            "properties": { "delivery_mode": 2 },
            "routing_key": "letters",
            "payload": "a letter",
            "payload_encoding": "string",
        });
        let answer = vhost.management("POST", &path, Some(message)).await?;
        let routed = answer["routed"].as_bool().context("no answer")?;
        anyhow::ensure!(routed, "the queue is not there");
    }
    Ok(())
}

async fn eventually(
    what: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = std::time::Instant::now();
    while !condition().await? {
        anyhow::ensure!(
            begin.elapsed().as_secs() < 20,
            "not seen within 20 s: {what}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

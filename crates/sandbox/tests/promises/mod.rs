//! What must hold for the servers of every backend that can be harmed. The backends' own tests call these.
//!
//! Not here: the choice of a backend.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sandbox::{Link, Sandbox};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for an answer on a busy machine, and short enough to wait for its absence.
const SILENCE: Duration = Duration::from_millis(700);

/// Kills and stops PostgreSQL; what was committed is there after each.
pub(crate) async fn postgres_comes_back_with_its_data(sandbox: &Sandbox) -> anyhow::Result<()> {
    let postgres = &sandbox.postgres;
    postgres.create_database("kept").await?;
    let url = postgres.url("kept");
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("create table kept (id int); insert into kept values (1)")
        .execute(&mut connection)
        .await?;

    postgres.kill().await?;
    ensure!(
        count(&mut connection).await.is_err(),
        "the kill did not bite"
    );
    ensure!(
        PgConnection::connect(&url).await.is_err(),
        "it still answers"
    );
    ensure!(postgres.kill().await.is_err(), "it was killed twice");
    postgres.start().await?;
    ensure!(postgres.start().await.is_err(), "it was started twice");
    let mut connection = PgConnection::connect(&url).await?;
    ensure!(count(&mut connection).await? == 1, "a commit is lost");
    ensure!(
        postgres.log_contains("not properly shut down"),
        "no trace of a crash"
    );

    postgres.stop().await?;
    ensure!(
        count(&mut connection).await.is_err(),
        "the stop did not bite"
    );
    postgres.start().await?;
    let mut connection = PgConnection::connect(&url).await?;
    ensure!(count(&mut connection).await? == 1, "a commit is lost");
    Ok(())
}

async fn count(connection: &mut PgConnection) -> anyhow::Result<i64> {
    sqlx::query_scalar("select count(*) from kept")
        .fetch_one(connection)
        .await
        .context("no answer")
}

/// Kills and stops RabbitMQ; confirmed messages are there after each, at the same addresses.
pub(crate) async fn rabbitmq_comes_back_with_its_messages(sandbox: &Sandbox) -> anyhow::Result<()> {
    let rabbitmq = &sandbox.rabbitmq;
    rabbitmq.create_vhost("kept").await?;
    declare(sandbox, "letters").await?;
    publish(sandbox, "letters").await?;
    // A quorum queue is registered on disk a moment after it is declared.
    tokio::time::sleep(Duration::from_secs(2)).await;

    rabbitmq.kill().await?;
    ensure!(greet(sandbox).await.is_err(), "the kill did not bite");
    rabbitmq.start().await?;
    greet(sandbox).await?;
    ensure!(take(sandbox, "letters").await? == 1, "a message is lost");
    ensure!(
        !rabbitmq.log_contains("name_not_registered"),
        "the queue is lost"
    );
    ensure!(rabbitmq.log_contains("Server startup complete"), "no log");

    rabbitmq.stop().await?;
    ensure!(greet(sandbox).await.is_err(), "the stop did not bite");
    rabbitmq.start().await?;
    ensure!(take(sandbox, "letters").await? == 1, "a message is lost");
    rabbitmq.delete_queue("kept", "letters").await?;
    rabbitmq.delete_vhost("kept").await?;
    Ok(())
}

async fn declare(sandbox: &Sandbox, queue: &str) -> anyhow::Result<()> {
    let quorum = serde_json::json!({
        "durable": true,
        "arguments": { "x-queue-type": "quorum" },
    });
    let path = format!("/api/queues/kept/{queue}");
    sandbox
        .rabbitmq
        .management("PUT", &path, Some(quorum))
        .await?;
    Ok(())
}

async fn publish(sandbox: &Sandbox, queue: &str) -> anyhow::Result<()> {
    let message = serde_json::json!({
        "properties": { "delivery_mode": 2 },
        "routing_key": queue,
        "payload": "a letter",
        "payload_encoding": "string",
    });
    let path = "/api/exchanges/kept/amq.default/publish";
    let answer = sandbox
        .rabbitmq
        .management("POST", path, Some(message))
        .await?;
    ensure!(answer["routed"] == true, "the queue is not there");
    Ok(())
}

/// Takes messages and puts them back; a queue elects its leader for a moment after the start.
async fn take(sandbox: &Sandbox, queue: &str) -> anyhow::Result<usize> {
    let path = format!("/api/queues/kept/{queue}/get");
    let begin = Instant::now();
    loop {
        let request = serde_json::json!({
            "count": 10, "ackmode": "ack_requeue_true", "encoding": "auto",
        });
        let answer = sandbox
            .rabbitmq
            .management("POST", &path, Some(request))
            .await;
        let taken = answer
            .ok()
            .and_then(|answer| answer.as_array().map(Vec::len));
        match taken {
            Some(taken) if taken > 0 => return Ok(taken),
            _ if begin.elapsed() > Duration::from_secs(20) => return Ok(0),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Opens AMQP through the proxy as a client does.
async fn greet(sandbox: &Sandbox) -> anyhow::Result<()> {
    let rabbitmq = &sandbox.rabbitmq;
    let mut stream = TcpStream::connect((rabbitmq.host(), rabbitmq.port())).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut first = [0];
    stream.read_exact(&mut first).await?;
    Ok(())
}

/// Freezes both servers; what was asked meanwhile is answered after the thaw.
pub(crate) async fn a_frozen_server_is_silent(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&sandbox.postgres.url("postgres")).await?;
    sandbox.postgres.freeze().await?;
    let mut question = Box::pin(sqlx::query("select 1").execute(&mut connection));
    let answer = tokio::time::timeout(SILENCE, &mut question).await;
    ensure!(answer.is_err(), "a frozen PostgreSQL answered");
    sandbox.postgres.thaw().await?;
    tokio::time::timeout(Duration::from_secs(10), question)
        .await
        .context("no answer after the thaw")??;

    greet(sandbox).await?;
    sandbox.rabbitmq.freeze().await?;
    let answer = tokio::time::timeout(SILENCE, greet(sandbox)).await;
    ensure!(answer.is_err(), "a frozen RabbitMQ answered");
    sandbox.rabbitmq.thaw().await?;
    tokio::time::timeout(Duration::from_secs(10), greet(sandbox))
        .await
        .context("no greeting after the thaw")??;

    // A frozen server can be killed, too.
    sandbox.postgres.freeze().await?;
    sandbox.postgres.kill().await?;
    sandbox.postgres.start().await?;
    PgConnection::connect(&sandbox.postgres.url("postgres")).await?;
    Ok(())
}

/// Holds back, cuts and slows the network to PostgreSQL.
pub(crate) async fn a_link_stalls_breaks_and_slows(sandbox: &Sandbox) -> anyhow::Result<()> {
    let link = sandbox.postgres.link();
    let url = sandbox.postgres.url("postgres");
    let mut connection = PgConnection::connect(&url).await?;

    link.set_link(Link::Stalled);
    let mut question = Box::pin(sqlx::query("select 1").execute(&mut connection));
    let answer = tokio::time::timeout(SILENCE, &mut question).await;
    ensure!(answer.is_err(), "a stalled link answered");
    link.set_link(Link::Up);
    tokio::time::timeout(Duration::from_secs(10), question)
        .await
        .context("the link does not recover")??;

    ensure!(link.open_connections() > 0, "no connection is counted");
    link.set_link(Link::Down);
    let answer = sqlx::query("select 1").execute(&mut connection).await;
    ensure!(answer.is_err(), "a cut link answered");
    ensure!(
        PgConnection::connect(&url).await.is_err(),
        "a cut link connects"
    );
    let begin = Instant::now();
    // A client sees the end of its connection a moment before it is no longer counted.
    while link.open_connections() > 0 {
        ensure!(
            begin.elapsed() < Duration::from_secs(5),
            "a cut link has connections"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    link.set_link(Link::Up);

    let mut connection = PgConnection::connect(&url).await?;
    let delay = Duration::from_millis(150);
    link.set_delay(delay);
    let begin = Instant::now();
    sqlx::query("select 1").execute(&mut connection).await?;
    ensure!(
        begin.elapsed() >= 2 * delay,
        "there and back takes twice the delay"
    );
    link.set_delay(Duration::ZERO);
    Ok(())
}

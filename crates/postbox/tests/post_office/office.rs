//! One office that sends to itself on a fresh database and vhost, so that a test sees both ends.
//! Waiting is done in `eventually` only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use postbox::{
    BrokerConfig, Consumer, ConsumerConfig, DeadLetters, Envelope, HandleError, Handled, Handler,
    Incoming, NewMessage, Outbox, ParkReason, Relay, RelayConfig, Route, TaskStatus, Topology,
    Unreadable, Verdict,
};
use sandbox::Sandbox;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::eventually::eventually;

pub(crate) const TOPOLOGY: Topology = Topology {
    exchange: "office",
    dead_exchange: "office.dead",
    reads: Route {
        queue: "letters",
        kind: "letter",
    },
    sends: Route {
        queue: "letters",
        kind: "letter",
    },
};

/// Writes one row for each letter. What a letter says happens: "broken" is refused, "deadly"
/// ends the process, "about UUID" gives it that key; "early" cannot be applied, and version 2
/// not be read, before the handler is mended.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) calls: AtomicUsize,
    pub(crate) mended: AtomicBool,
}

impl Handler for Count {
    type Message = String;

    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, String), Unreadable> {
        let version = if self.mended.load(Ordering::Relaxed) {
            2
        } else {
            1
        };
        envelope.expect("letter", version)?;
        let (_, about) = envelope.body.split_once("about ").unwrap_or_default();
        let key = Uuid::parse_str(about).unwrap_or(envelope.message_id);
        Ok((key, envelope.body.to_owned()))
    }

    async fn handle(
        &self,
        transaction: &mut PgConnection,
        batch: &[Incoming<String>],
    ) -> Result<Handled, HandleError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut verdicts = Vec::new();
        for letter in batch {
            if letter.message == "broken" {
                return Err(HandleError::Broken("a letter says so".into()));
            }
            if letter.message == "deadly" {
                std::process::abort();
            }
            if letter.message.starts_with("early") && !self.mended.load(Ordering::Relaxed) {
                let why = Unreadable::new(ParkReason::UnknownOrder, "it is too early");
                verdicts.push(Verdict::Park(why));
                continue;
            }
            if letter.first_time {
                sqlx::query("insert into effects (message_id) values ($1)")
                    .bind(letter.message_id)
                    .execute(&mut *transaction)
                    .await?;
            }
            verdicts.push(if letter.first_time {
                Verdict::Applied
            } else {
                Verdict::Duplicate
            });
        }
        Ok(Handled {
            verdicts,
            answers: Vec::new(),
        })
    }
}

pub(crate) struct Office {
    pub(crate) pool: PgPool,
    pub(crate) database: String,
    pub(crate) outbox: Outbox,
    pub(crate) broker: BrokerConfig,
    pub(crate) config: RelayConfig,
    pub(crate) url: String,
    pub(crate) handler: Arc<Count>,
    pub(crate) relay: TaskStatus,
    pub(crate) consumer: TaskStatus,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) stop: CancellationToken,
}

impl Office {
    /// On a fresh database and virtual host of the shared servers.
    pub(crate) async fn open() -> Result<Self> {
        let shared = sandbox::shared().await;
        let (database, vhost) = (shared.database().await?, shared.vhost().await?);
        let broker = BrokerConfig {
            host: vhost.host().into(),
            port: vhost.port(),
            user: vhost.user().into(),
            password: vhost.password().into(),
            vhost: vhost.name.clone(),
            ..BrokerConfig::default()
        };
        Self::on(&database.url(), broker, vhost.url()).await
    }

    /// The same on servers of the test's own, which it may harm.
    pub(crate) async fn in_sandbox(sandbox: &Sandbox) -> Result<Self> {
        let (postgres, rabbitmq) = (&sandbox.postgres, &sandbox.rabbitmq);
        let name = format!("office_{}", Uuid::now_v7().simple());
        postgres.create_database(&name).await?;
        rabbitmq.create_vhost(&name).await?;
        let broker = BrokerConfig {
            host: rabbitmq.host().into(),
            port: rabbitmq.port(),
            user: rabbitmq.user().into(),
            password: rabbitmq.password().into(),
            vhost: name.clone(),
            ..BrokerConfig::default()
        };
        Self::on(&postgres.url(&name), broker, rabbitmq.url(&name)).await
    }

    async fn on(database: &str, broker: BrokerConfig, url: String) -> Result<Self> {
        let office = Self::at(database, broker, url).await?;
        sqlx::raw_sql(postbox::MIGRATION)
            .execute(&office.pool)
            .await?;
        sqlx::raw_sql("create table effects (message_id uuid not null)")
            .execute(&office.pool)
            .await?;
        Ok(office)
    }

    /// An office on a database and a vhost that are there.
    pub(crate) async fn at(database: &str, broker: BrokerConfig, url: String) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect(database)
            .await?;
        Ok(Self {
            pool,
            database: database.to_owned(),
            outbox: Outbox::new(),
            broker,
            config: RelayConfig {
                poll_interval: Duration::from_millis(200),
                ..RelayConfig::default()
            },
            url,
            handler: Arc::default(),
            relay: TaskStatus::default(),
            consumer: TaskStatus::default(),
            dead_letters: DeadLetters::default(),
            stop: CancellationToken::new(),
        })
    }

    /// Ends the relay, so that another can be started.
    pub(crate) async fn stop_relay(&mut self) -> Result<()> {
        std::mem::take(&mut self.stop).cancel();
        eventually("the relay has stopped", async || {
            let status = self.relay.check();
            ensure!(status == Err("stopped".into()), "it says {status:?}");
            Ok(())
        })
        .await
    }

    pub(crate) fn start_relay(&self) {
        let relay = Relay {
            pool: self.pool.clone(),
            outbox: self.outbox.clone(),
            broker: self.broker.clone(),
            topology: TOPOLOGY,
            config: self.config.clone(),
            app_id: "office",
            status: self.relay.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { relay.run(stop).await });
    }

    pub(crate) fn start_consumer(&self) {
        let consumer = Consumer {
            pool: self.pool.clone(),
            outbox: self.outbox.clone(),
            broker: self.broker.clone(),
            topology: TOPOLOGY,
            config: ConsumerConfig::default(),
            handler: Arc::clone(&self.handler),
            app_id: "office",
            status: self.consumer.clone(),
            dead_letters: self.dead_letters.clone(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { consumer.run(stop).await });
    }

    /// Stops what was started, to start it again.
    pub(crate) async fn stop_consumer(&mut self) -> Result<()> {
        std::mem::take(&mut self.stop).cancel();
        let status = &self.consumer;
        eventually("the consumer has stopped", async || match status.check() {
            Err(state) if state == "stopped" => Ok(()),
            other => anyhow::bail!("it says {other:?}"),
        })
        .await
    }

    /// Stores messages and hands them over.
    pub(crate) async fn send(&self, messages: Vec<NewMessage>) -> Result<()> {
        self.outbox.hand_over(self.append(messages).await?);
        Ok(())
    }

    /// Puts a message straight into a queue, as a stranger could.
    pub(crate) async fn put(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<()> {
        let connection = self.amqp().await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let confirm = channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await?
            .await?;
        ensure!(
            matches!(confirm, lapin::Confirmation::Ack(None)),
            "{queue}: {confirm:?}"
        );
        connection.close(200, "done".into()).await?;
        Ok(())
    }

    /// What is parked: reason, state and copies of the only row.
    pub(crate) async fn parked(&self) -> Result<(String, String, i64)> {
        let sql = "select reason, state, seen from parked_messages";
        let mut rows = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        ensure!(rows.len() == 1, "parked are {rows:?}");
        rows.pop().context("nothing is parked")
    }

    pub(crate) async fn eventually_parked(
        &self,
        reason: &str,
        state: &str,
        seen: i64,
    ) -> Result<()> {
        eventually("it is parked so", async || {
            let found = self.parked().await?;
            ensure!(
                found == (reason.to_owned(), state.to_owned(), seen),
                "it is {found:?}"
            );
            Ok(())
        })
        .await
    }

    /// The number of the only parked message.
    pub(crate) async fn parked_id(&self) -> Result<i64> {
        let rows = postbox::list_parked(&self.pool, true, 10).await?;
        ensure!(rows.len() == 1, "parked are {rows:?}");
        Ok(rows[0].id)
    }

    /// Stores messages; does not hand them over.
    pub(crate) async fn append(
        &self,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<postbox::OutboxRow>> {
        let mut transaction = self.pool.begin().await?;
        let rows = postbox::append(&mut transaction, messages).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    pub(crate) async fn amqp(&self) -> Result<Connection> {
        Ok(Connection::connect(&self.url, ConnectionProperties::default()).await?)
    }

    pub(crate) async fn count(&self, sql: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    pub(crate) async fn eventually_count(&self, sql: &'static str, expected: i64) -> Result<()> {
        eventually(&format!("{sql} is {expected}"), async || {
            let count = self.count(sql).await?;
            ensure!(count == expected, "it is {count}");
            Ok(())
        })
        .await
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) const EFFECTS: &str = "select count(*) from effects";
pub(crate) const UNSENT: &str = "select count(*) from outbox_messages where not is_published";
pub(crate) const SENT: &str = "select count(*) from outbox_messages where is_published";
pub(crate) const PARKED: &str = "select count(*) from parked_messages";

pub(crate) fn letter(kind: &'static str) -> NewMessage {
    let message_id = Uuid::now_v7();
    NewMessage {
        message_id,
        kind,
        key: message_id,
        schema_version: 1,
        body: "hello".into(),
        traceparent: None,
        request_id: None,
    }
}

/// The same under another text.
pub(crate) fn saying(body: &str) -> NewMessage {
    NewMessage {
        body: body.into(),
        ..letter("letter")
    }
}

/// Properties of a letter as a stranger sends it.
pub(crate) fn stamped(message_id: &str, version: i32) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("schema_version".into(), AMQPValue::LongInt(version));
    BasicProperties::default()
        .with_message_id(message_id.into())
        .with_type("letter".into())
        .with_headers(headers)
}

//! One office that sends to itself on a fresh database and vhost, so that a test sees both ends.
//! Waiting is done in `eventually` only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use lapin::{Connection, ConnectionProperties};
use postbox::{
    BrokerConfig, Consumer, ConsumerConfig, Envelope, HandleError, Handled, Handler, Incoming,
    NewMessage, Outbox, ParkReason, Relay, RelayConfig, Route, TaskStatus, Topology, Unreadable,
    Verdict,
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

/// Writes one row for each letter; refuses what says "broken".
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) calls: AtomicUsize,
}

impl Handler for Count {
    type Message = String;

    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, String), Unreadable> {
        if envelope.kind != "letter" {
            return Err(Unreadable::new(ParkReason::UnknownType, envelope.kind));
        }
        Ok((envelope.message_id, envelope.body.to_owned()))
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
    pub(crate) outbox: Outbox,
    pub(crate) broker: BrokerConfig,
    pub(crate) config: RelayConfig,
    pub(crate) url: String,
    pub(crate) handler: Arc<Count>,
    pub(crate) relay: TaskStatus,
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
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect(database)
            .await?;
        sqlx::raw_sql(postbox::MIGRATION).execute(&pool).await?;
        sqlx::raw_sql("create table effects (message_id uuid not null)")
            .execute(&pool)
            .await?;
        Ok(Self {
            pool,
            outbox: Outbox::new(),
            broker,
            config: RelayConfig {
                poll_interval: Duration::from_millis(200),
                ..RelayConfig::default()
            },
            url,
            handler: Arc::default(),
            relay: TaskStatus::default(),
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
            status: TaskStatus::default(),
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { consumer.run(stop).await });
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

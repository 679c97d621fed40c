//! The service put together: listeners, pools, the relay, the consumer, and the
//! order in which they stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chassis::database::{self, Role};
use chassis::health::{Health, Scope};
use chassis::tasks::{Tasks, every};
use contracts::topology::{DEAD_EXCHANGE, EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS};
use postbox::{Consumer, Outbox, Relay, Route, TaskStatus, Topology};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::charge_orders::ChargeOrders;
use crate::config::PaymentsConfig;
use crate::http::{self, Api};

const SERVICE: &str = "payments";
/// How often partitions ahead are looked after.
const HOURLY: Duration = Duration::from_secs(3600);

const TOPOLOGY: Topology = Topology {
    exchange: EXCHANGE,
    dead_exchange: DEAD_EXCHANGE,
    reads: Route {
        queue: PAYMENT_REQUESTS.queue,
        kind: PAYMENT_REQUESTS.kind,
    },
    sends: Route {
        queue: ORDER_RESULTS.queue,
        kind: ORDER_RESULTS.kind,
    },
};

/// The Payments service, bound to its ports and not yet running.
#[derive(Debug)]
pub struct Payments {
    config: PaymentsConfig,
    api: TcpListener,
    ops: TcpListener,
}

impl Payments {
    /// Takes the ports. Neither the database nor the broker need be there.
    ///
    /// # Errors
    /// A port cannot be had.
    pub async fn bind(config: PaymentsConfig) -> anyhow::Result<Self> {
        let bind = async |addr: SocketAddr| {
            TcpListener::bind(addr)
                .await
                .with_context(|| format!("cannot listen on {addr}"))
        };
        let api = bind(config.payments.listen).await?;
        let ops = bind(config.payments.ops_listen).await?;
        Ok(Self { config, api, ops })
    }

    /// Address of the API.
    ///
    /// # Errors
    /// The socket has none.
    pub fn api_addr(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Address of the ops port.
    ///
    /// # Errors
    /// The socket has none.
    pub fn ops_addr(&self) -> std::io::Result<SocketAddr> {
        self.ops.local_addr()
    }

    /// Runs until `shutdown`, then finishes what is under way.
    ///
    /// # Errors
    /// A migration failed for good, a task failed for good, or the stop took too long.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { config, api, ops } = self;
        let limit = config.shutdown_timeout;
        // A child: our own failure stops us, not the caller's other services.
        let stop = shutdown.child_token();
        let health = Health::new(SERVICE);
        let ops = tokio::spawn(chassis::serve::serve(
            ops,
            health.router(),
            stop.clone(),
            limit,
        ));
        let outcome = run(config, api, &health, &stop).await;
        stop.cancel();
        ops.await.context("the ops port broke")?;
        outcome
    }
}

async fn run(
    config: PaymentsConfig,
    listener: TcpListener,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let limit = config.shutdown_timeout;
    let pool = |role, size| database::pool(&config.db_payments, SERVICE, role, size);
    let api_pool = pool(Role::Api, config.db_payments.pool);
    check_database(health, api_pool.clone());
    if !database::migrate(&config.db_payments, SERVICE, &crate::MIGRATOR, stop).await? {
        return Ok(());
    }

    let outbox = Outbox::new();
    let intake = Tasks::new(stop.clone());
    // The relay stops last: it still has to send what the others hand over while they stop.
    let relay_stop = CancellationToken::new();
    let relaying = Tasks::new(relay_stop.clone());
    start_relay(
        &config,
        &relaying,
        pool(Role::Relay, 3),
        outbox.clone(),
        health,
    );
    start_consumer(
        &config,
        &intake,
        pool(Role::Consumer, 2),
        outbox.clone(),
        health,
    );
    start_partitions(&intake, &api_pool);
    health.check_tasks("intake tasks", &intake);
    health.check_tasks("relay task", &relaying);

    let router = http::router(Api {
        pool: api_pool,
        tasks: intake.clone(),
    })
    .merge(health.public_router());
    let serving =
        chassis::serve::serve(listener, chassis::http::shell(router), stop.clone(), limit);
    let failed = tokio::select! {
        () = serving => None,
        name = intake.failed() => Some(name),
        name = relaying.failed() => Some(name),
    };
    stop.cancel();
    intake.drain(limit).await?;
    relay_stop.cancel();
    relaying.drain(limit).await?;
    match failed {
        Some(name) => anyhow::bail!("the task {name} failed three times within a minute"),
        None => Ok(()),
    }
}

fn check_database(health: &Health, pool: PgPool) {
    health.check(Scope::Accepting, "database", move || {
        let pool = pool.clone();
        async move {
            let asked = sqlx::query("select 1").execute(&pool).await;
            asked
                .map(|_| "answers".to_owned())
                .map_err(|error| error.to_string())
        }
    });
}

fn check_status(health: &Health, name: &'static str, status: TaskStatus) {
    health.check(Scope::Ready, name, move || {
        std::future::ready(status.check())
    });
}

fn start_relay(
    config: &PaymentsConfig,
    tasks: &Tasks,
    pool: PgPool,
    outbox: Outbox,
    health: &Health,
) {
    let mut relay_config = config.relay.clone();
    relay_config.confirm_timeout = config.confirm_timeout;
    let relay = Relay {
        pool,
        outbox,
        broker: config.rabbitmq.clone(),
        topology: TOPOLOGY,
        config: relay_config,
        app_id: SERVICE,
        status: TaskStatus::default(),
    };
    check_status(health, "relay", relay.status.clone());
    let stop = tasks.shutdown().clone();
    tasks.supervise("relay", move || {
        let (relay, stop) = (relay.clone(), stop.clone());
        async move { relay.run(stop).await }
    });
}

fn start_consumer(
    config: &PaymentsConfig,
    tasks: &Tasks,
    pool: PgPool,
    outbox: Outbox,
    health: &Health,
) {
    let consumer = Arc::new(Consumer {
        pool,
        outbox,
        broker: config.rabbitmq.clone(),
        topology: TOPOLOGY,
        config: config.consumer.clone(),
        handler: Arc::new(ChargeOrders),
        app_id: SERVICE,
        status: TaskStatus::default(),
    });
    check_status(health, "consumer", consumer.status.clone());
    let stop = tasks.shutdown().clone();
    tasks.supervise("consumer", move || {
        let (consumer, stop) = (Arc::clone(&consumer), stop.clone());
        async move { consumer.run(stop).await }
    });
}

fn start_partitions(tasks: &Tasks, pool: &PgPool) {
    let (pool, stop) = (pool.clone(), tasks.shutdown().clone());
    tasks.supervise("partitions", move || {
        let pool = pool.clone();
        every(HOURLY, stop.clone(), move || {
            let pool = pool.clone();
            async move {
                if let Err(error) = postbox::make_partitions(&pool).await {
                    tracing::warn!("cannot make partitions ahead: {error}");
                }
            }
        })
    });
}

//! The service put together: listeners, pools, the relay, the consumer, the writers, and the
//! order in which they stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chassis::coalesce::Coalesce;
use chassis::database::{self, Role};
use chassis::health::{Health, Scope};
use chassis::tasks::{Tasks, every};
use contracts::topology::{DEAD_EXCHANGE, EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS};
use postbox::{Consumer, Outbox, Relay, Route, TaskStatus, Topology};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::OrdersConfig;
use crate::http::{self, Api};
use crate::place_order::{BATCH_MAX, place_orders};
use crate::redrive_orders::{self, redrive_orders};
use crate::settle_orders::SettleOrders;

const SERVICE: &str = "orders";
/// Requests waiting to be written; more are answered 503.
const ACCEPT_QUEUE: usize = 4096;
/// How often partitions ahead are looked after.
const HOURLY: Duration = Duration::from_secs(3600);

const TOPOLOGY: Topology = Topology {
    exchange: EXCHANGE,
    dead_exchange: DEAD_EXCHANGE,
    reads: Route {
        queue: ORDER_RESULTS.queue,
        kind: ORDER_RESULTS.kind,
    },
    sends: Route {
        queue: PAYMENT_REQUESTS.queue,
        kind: PAYMENT_REQUESTS.kind,
    },
};

/// The Orders service, bound to its ports and not yet running.
#[derive(Debug)]
pub struct Orders {
    config: OrdersConfig,
    api: TcpListener,
    ops: TcpListener,
}

impl Orders {
    /// Takes the ports. Neither the database nor the broker need be there.
    ///
    /// # Errors
    /// A port cannot be had.
    pub async fn bind(config: OrdersConfig) -> anyhow::Result<Self> {
        let bind = async |addr: SocketAddr| {
            TcpListener::bind(addr)
                .await
                .with_context(|| format!("cannot listen on {addr}"))
        };
        let api = bind(config.orders.listen).await?;
        let ops = bind(config.orders.ops_listen).await?;
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
    config: OrdersConfig,
    listener: TcpListener,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let limit = config.shutdown_timeout;
    let pool = |role, size| database::pool(&config.db_orders, SERVICE, role, size);
    let api_pool = pool(Role::Api, config.db_orders.pool);
    check_database(health, api_pool.clone());
    if !database::migrate(&config.db_orders, SERVICE, &crate::MIGRATOR, stop).await? {
        return Ok(());
    }

    let outbox = Outbox::new();
    let accept = Coalesce::new(ACCEPT_QUEUE);
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
    start_writers(&config, &intake, &api_pool, &outbox, &accept);
    start_redrive(&config, &intake, &api_pool, &outbox);
    health.check_tasks("intake tasks", &intake);
    health.check_tasks("relay task", &relaying);

    let router = http::router(Api {
        pool: api_pool,
        accept,
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
    config: &OrdersConfig,
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
    config: &OrdersConfig,
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
        handler: Arc::new(SettleOrders),
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

/// Two writers: while one commits, the other gathers.
fn start_writers(
    config: &OrdersConfig,
    tasks: &Tasks,
    pool: &PgPool,
    outbox: &Outbox,
    accept: &Coalesce<crate::order::NewOrder, crate::place_order::Placed>,
) {
    for name in ["writer-1", "writer-2"] {
        let (pool, outbox, accept) = (pool.clone(), outbox.clone(), accept.clone());
        let (after, stop) = (config.redrive_after, tasks.shutdown().clone());
        tasks.supervise(name, move || {
            let (pool, outbox, accept) = (pool.clone(), outbox.clone(), accept.clone());
            let stop = stop.clone();
            async move {
                let write = |tickets| place_orders(&pool, &outbox, after, tickets);
                accept.work(BATCH_MAX, stop, write).await;
            }
        });
    }
}

fn start_redrive(config: &OrdersConfig, tasks: &Tasks, pool: &PgPool, outbox: &Outbox) {
    let (after, window) = (config.redrive_after, config.redrive.window);
    let (pool, outbox, stop) = (pool.clone(), outbox.clone(), tasks.shutdown().clone());
    let partitions = pool.clone();
    let partitions_stop = stop.clone();
    tasks.supervise("redrive", move || {
        let (pool, outbox) = (pool.clone(), outbox.clone());
        every(redrive_orders::period(after), stop.clone(), move || {
            let (pool, outbox) = (pool.clone(), outbox.clone());
            async move {
                match redrive_orders(&pool, &outbox, after, window).await {
                    Ok(0) => {}
                    Ok(orders) => tracing::info!(orders, "asked again for unanswered orders"),
                    Err(error) => tracing::warn!("cannot ask again for unanswered orders: {error}"),
                }
            }
        })
    });
    tasks.supervise("partitions", move || {
        let pool = partitions.clone();
        every(HOURLY, partitions_stop.clone(), move || {
            let pool = pool.clone();
            async move {
                if let Err(error) = postbox::make_partitions(&pool).await {
                    tracing::warn!("cannot make partitions ahead: {error}");
                }
            }
        })
    });
}

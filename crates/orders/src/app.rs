//! The service put together: listeners, pools, the relay, the consumer, the writers, and the
//! order in which they stop.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chassis::coalesce::Coalesce;
use chassis::database::{self, Role};
use chassis::door::Door;
use chassis::health::{Health, Scope};
use chassis::http::shell;
use chassis::metrics::{Metrics, Parked};
use chassis::ports::Ports;
use chassis::serve::serve;
use chassis::tasks::{Tasks, every};
use contracts::topology::{DEAD_EXCHANGE, EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS};
use postbox::{Office, Outbox, RelayConfig, Route, TaskStatus, Topology};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::close_parked;
use crate::config::OrdersConfig;
use crate::http::{self, Api};
use crate::place_order::{BATCH_MAX, place_orders};
use crate::redrive_orders;
use crate::settle_orders::SettleOrders;

const SERVICE: &str = "orders";
/// Requests waiting to be written; more are answered 503.
const ACCEPT_QUEUE: usize = 4096;
/// How often partitions ahead are looked after.
const HOURLY: Duration = Duration::from_secs(3600);

/// What is parked came from one of these, or could not be sent to it.
const QUEUES: [&str; 2] = [PAYMENT_REQUESTS.queue, ORDER_RESULTS.queue];
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
    ports: Ports,
}

impl Orders {
    /// Takes the ports. Neither the database nor the broker need be there.
    ///
    /// # Errors
    /// A port cannot be had.
    pub async fn bind(config: OrdersConfig) -> anyhow::Result<Self> {
        let ports = Ports::bind("ORDERS", &config.orders).await?;
        Ok(Self { config, ports })
    }

    /// Where the gateway finds the API.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.ports.api_addr()
    }

    /// Where operators are served.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ports.ops_addr()
    }

    /// Runs until `shutdown`, then finishes what is under way.
    ///
    /// # Errors
    /// A migration failed for good, or a task did.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { config, ports } = self;
        // A child: our own failure stops us, not the caller's other services.
        let stop = shutdown.child_token();
        let health = Health::new(SERVICE);
        let metrics = Metrics::new(SERVICE);
        let ops = health.router().merge(metrics.router());
        let work = async |api| run(config, api, &health, &metrics, &stop).await;
        ports.serve_ops_beside(ops, work).await
    }
}

async fn run(
    config: OrdersConfig,
    listener: TcpListener,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let limit = config.shutdown_timeout;
    let pool = |role, size| database::pool(&config.db_orders, SERVICE, role, size);
    let api_pool = pool(Role::Api, config.db_orders.pool);
    database::check(health, api_pool.clone());
    let door = Door::default();
    door.check(health);
    // Half of the time is for requests under way, a quarter each for what is behind them.
    let mut serving = pin!(serve(listener, door.router(), stop.clone(), limit / 2));
    let migrated = tokio::select! {
        migrated = database::migrate(&config.db_orders, SERVICE, &crate::MIGRATOR, stop) => migrated?,
        () = &mut serving => false,
    };
    if !migrated {
        return Ok(());
    }
    let (relay_pool, consumer_pool) = (pool(Role::Relay, 3), pool(Role::Consumer, 2));
    // Asking again does not wait for the partitions.
    let upkeep_pool = pool(Role::Upkeep, 2);
    let pools = [&api_pool, &relay_pool, &consumer_pool, &upkeep_pool];
    database::check_room(&pools, "DB_ORDERS__POOL").await?;

    let office = Office {
        app_id: SERVICE,
        topology: TOPOLOGY,
        broker: config.rabbitmq.clone(),
        outbox: Outbox::new(),
    };
    let accept = Coalesce::new(ACCEPT_QUEUE);
    let intake = Tasks::new(stop.clone());
    // The writers go on while requests are being finished.
    let write_stop = CancellationToken::new();
    let writing = Tasks::new(write_stop.clone());
    // The relay stops last: it still has to send what the others hand over while they stop.
    let relay_stop = CancellationToken::new();
    let relaying = Tasks::new(relay_stop.clone());
    let relay = start_relay(&config, &relaying, relay_pool, &office, health);
    count_relay(metrics, &relay);
    let consumer = start_consumer(&config, &intake, consumer_pool, &office, health);
    count_consumer(metrics, &consumer);
    start_writers(&config, &writing, &api_pool, &office.outbox, &accept);
    start_redrive(
        &config,
        &intake,
        &upkeep_pool,
        &office.outbox,
        health,
        metrics,
    );
    start_closing(&intake, &upkeep_pool, metrics);
    start_partitions(&config, &intake, &upkeep_pool);
    health.check_tasks("intake tasks", &intake);
    health.check_tasks("writers", &writing);
    health.check_tasks("relay task", &relaying);
    metrics.tasks(&[&intake, &writing, &relaying]);

    let router = http::router(Api {
        pool: api_pool,
        accept,
    })
    .merge(health.public_router());
    door.open(shell(router));
    let failed = tokio::select! {
        () = &mut serving => None,
        name = intake.failed() => Some(name),
        name = writing.failed() => Some(name),
        name = relaying.failed() => Some(name),
    };
    stop.cancel();
    if failed.is_some() {
        serving.await;
    }
    write_stop.cancel();
    tokio::join!(intake.wind_up(limit / 4), writing.wind_up(limit / 4));
    relay_stop.cancel();
    relaying.wind_up(limit / 4).await;
    match failed {
        Some(name) => anyhow::bail!("the task {name} failed three times within a minute"),
        None => Ok(()),
    }
}

fn start_relay(
    config: &OrdersConfig,
    tasks: &Tasks,
    pool: PgPool,
    office: &Office,
    health: &Health,
) -> TaskStatus {
    let relay_config = RelayConfig {
        confirm_timeout: config.confirm_timeout,
        ..config.relay.clone()
    };
    let relay = office.relay(pool, relay_config);
    let counted = relay.status.clone();
    let (status, stop) = (relay.status.clone(), tasks.shutdown().clone());
    health.check(Scope::Ready, "relay", move || ready(status.check()));
    tasks.supervise("relay", move || {
        let (relay, stop) = (relay.clone(), stop.clone());
        async move { relay.run(stop).await }
    });
    counted
}

fn start_consumer(
    config: &OrdersConfig,
    tasks: &Tasks,
    pool: PgPool,
    office: &Office,
    health: &Health,
) -> TaskStatus {
    let consumer = Arc::new(office.consumer(pool, config.consumer.clone(), SettleOrders));
    let counted = consumer.status.clone();
    let (status, stop) = (consumer.status.clone(), tasks.shutdown().clone());
    health.check(Scope::Ready, "consumer", move || ready(status.check()));
    let letters = consumer.dead_letters.status.clone();
    health.check(Scope::Ready, "dead letters", move || ready(letters.check()));
    tasks.supervise("consumer", move || {
        let (consumer, stop) = (Arc::clone(&consumer), stop.clone());
        async move { consumer.run(stop).await }
    });
    counted
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

fn start_redrive(
    config: &OrdersConfig,
    tasks: &Tasks,
    pool: &PgPool,
    outbox: &Outbox,
    health: &Health,
    metrics: &Metrics,
) {
    let (status, redriven) = (TaskStatus::default(), Arc::new(AtomicU64::new(0)));
    let (shown, counted) = (status.clone(), Arc::clone(&redriven));
    health.check(Scope::Ready, "redrive", move || ready(shown.check()));
    metrics.counter(
        "outbox_redriven",
        "Requests that were appended again for orders without an answer",
        move || counted.load(Ordering::Relaxed),
    );
    let bounds = (config.redrive_after, i64::from(config.redrive.window.get()));
    let (pool, outbox, stop) = (pool.clone(), outbox.clone(), tasks.shutdown().clone());
    tasks.supervise("redrive", move || {
        let (pool, outbox, stop) = (pool.clone(), outbox.clone(), stop.clone());
        let (status, redriven) = (status.clone(), Arc::clone(&redriven));
        async move {
            redrive_orders::run(&pool, &outbox, bounds, &status, &redriven, &stop).await;
        }
    });
}

fn start_closing(tasks: &Tasks, pool: &PgPool, metrics: &Metrics) {
    let (pool, stop) = (pool.clone(), tasks.shutdown().clone());
    let shown = Parked::new(metrics, &QUEUES);
    tasks.supervise("parked", move || {
        let (pool, shown, stop) = (pool.clone(), shown.clone(), stop.clone());
        async move { close_parked::run(&pool, &shown, &stop).await }
    });
}

fn start_partitions(config: &OrdersConfig, tasks: &Tasks, pool: &PgPool) {
    let (pool, stop) = (pool.clone(), tasks.shutdown().clone());
    let retention = config.retention;
    tasks.supervise("partitions", move || {
        let (pool, stop) = (pool.clone(), stop.clone());
        async move {
            // At once too: a service that was down for long has none for today.
            postbox::keep_partitions(&pool, retention).await;
            every(HOURLY, stop, || postbox::keep_partitions(&pool, retention)).await;
        }
    });
}

fn count_relay(metrics: &Metrics, status: &TaskStatus) {
    let (sent, blocked) = (status.clone(), status.clone());
    metrics.counter(
        "outbox_published",
        "Messages that the broker confirmed and that are marked as sent",
        move || sent.published(),
    );
    metrics.gauge(
        "broker_blocked",
        "Whether the broker blocks publishers by an alarm",
        move || i64::from(blocked.is_blocked()),
    );
}

fn count_consumer(metrics: &Metrics, status: &TaskStatus) {
    let (handled, known) = (status.clone(), status.clone());
    metrics.counter(
        "inbox_handled",
        "Messages taken in, duplicates among them",
        move || handled.handled(),
    );
    metrics.counter(
        "inbox_duplicates",
        "Messages about what was taken in before",
        move || known.duplicates(),
    );
}

//! The service put together: listeners, pools, the relay, the consumer, and the
//! order in which they stop.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::charge_orders::ChargeOrders;
use crate::close_parked;
use crate::config::PaymentsConfig;
use crate::http::{self, Api};
use crate::reconcile::{self, Findings, Rule};
use crate::work_off_waiting;

const SERVICE: &str = "payments";
/// How often partitions ahead are looked after.
const HOURLY: Duration = Duration::from_secs(3600);

/// What is parked came from one of these, or could not be sent to it.
const QUEUES: [&str; 2] = [PAYMENT_REQUESTS.queue, ORDER_RESULTS.queue];
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
    ports: Ports,
}

impl Payments {
    /// Takes the ports. Neither the database nor the broker need be there.
    ///
    /// # Errors
    /// A port cannot be had.
    pub async fn bind(config: PaymentsConfig) -> anyhow::Result<Self> {
        let ports = Ports::bind("PAYMENTS", &config.payments).await?;
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
    config: PaymentsConfig,
    listener: TcpListener,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let limit = config.shutdown_timeout;
    let pool = |role, size| database::pool(&config.db_payments, SERVICE, role, size);
    let api_pool = pool(Role::Api, config.db_payments.pool);
    database::check(health, api_pool.clone());
    let door = Door::default();
    door.check(health);
    // Half of the time is for requests under way, a quarter each for what is behind them.
    let mut serving = pin!(serve(listener, door.router(), stop.clone(), limit / 2));
    let migrated = tokio::select! {
        migrated = database::migrate(&config.db_payments, SERVICE, &crate::MIGRATOR, stop) => migrated?,
        () = &mut serving => false,
    };
    if !migrated {
        return Ok(());
    }
    let (relay_pool, consumer_pool) = (pool(Role::Relay, 3), pool(Role::Consumer, 3));
    let (upkeep_pool, reconcile_pool) = (pool(Role::Upkeep, 1), pool(Role::Reconciliation, 1));
    let pools = [
        &api_pool,
        &relay_pool,
        &consumer_pool,
        &upkeep_pool,
        &reconcile_pool,
    ];
    database::check_room(&pools, "DB_PAYMENTS__POOL").await?;

    let office = Office {
        app_id: SERVICE,
        topology: TOPOLOGY,
        broker: config.rabbitmq.clone(),
        outbox: Outbox::new(),
    };
    let intake = Tasks::new(stop.clone());
    // The relay stops last: it still has to send what the others hand over while they stop.
    let relay_stop = CancellationToken::new();
    let relaying = Tasks::new(relay_stop.clone());
    let relay = start_relay(&config, &relaying, relay_pool, &office, health);
    count_relay(metrics, &relay);
    let consumer = start_consumer(&config, &intake, consumer_pool, &office, health);
    count_consumer(metrics, &consumer);
    start_partitions(&config, &intake, &upkeep_pool);
    start_closing(&intake, &upkeep_pool, metrics);
    start_reconciliation(&intake, reconcile_pool, health, metrics);
    metrics.tasks(&[&intake, &relaying]);
    health.check_tasks("intake tasks", &intake);
    health.check_tasks("relay task", &relaying);

    let router = http::router(Api {
        pool: api_pool,
        tasks: intake.clone(),
    })
    .merge(health.public_router());
    door.open(shell(router));
    let failed = tokio::select! {
        () = &mut serving => None,
        name = intake.failed() => Some(name),
        name = relaying.failed() => Some(name),
    };
    stop.cancel();
    if failed.is_some() {
        serving.await;
    }
    intake.wind_up(limit / 4).await;
    relay_stop.cancel();
    relaying.wind_up(limit / 4).await;
    match failed {
        Some(name) => anyhow::bail!("the task {name} failed three times within a minute"),
        None => Ok(()),
    }
}

fn start_relay(
    config: &PaymentsConfig,
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
    config: &PaymentsConfig,
    tasks: &Tasks,
    pool: PgPool,
    office: &Office,
    health: &Health,
) -> TaskStatus {
    let handler = ChargeOrders::default();
    start_waiting(
        config,
        tasks,
        &pool,
        &office.outbox,
        &handler.set_aside,
        health,
    );
    let consumer = Arc::new(office.consumer(pool, config.consumer.clone(), handler));
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

fn start_waiting(
    config: &PaymentsConfig,
    tasks: &Tasks,
    pool: &PgPool,
    outbox: &Outbox,
    set_aside: &Arc<Notify>,
    health: &Health,
) {
    let max_attempts = config.consumer.max_attempts.get();
    let status = TaskStatus::default();
    let shown = status.clone();
    health.check(Scope::Ready, "waiting", move || ready(shown.check()));
    let (pool, outbox, set_aside) = (pool.clone(), outbox.clone(), Arc::clone(set_aside));
    let stop = tasks.shutdown().clone();
    tasks.supervise("waiting", move || {
        let (pool, outbox, set_aside) = (pool.clone(), outbox.clone(), Arc::clone(&set_aside));
        let (status, stop) = (status.clone(), stop.clone());
        async move {
            work_off_waiting::run(&pool, &outbox, &set_aside, max_attempts, &status, &stop).await;
        }
    });
}

fn start_partitions(config: &PaymentsConfig, tasks: &Tasks, pool: &PgPool) {
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

fn start_closing(tasks: &Tasks, pool: &PgPool, metrics: &Metrics) {
    let (pool, stop) = (pool.clone(), tasks.shutdown().clone());
    let shown = Parked::new(metrics, &QUEUES);
    tasks.supervise("parked", move || {
        let (pool, shown, stop) = (pool.clone(), shown.clone(), stop.clone());
        async move { close_parked::run(&pool, &shown, &stop).await }
    });
}

fn start_reconciliation(tasks: &Tasks, pool: PgPool, health: &Health, metrics: &Metrics) {
    let findings = Arc::new(Findings::default());
    let breaches = metrics.gauges(
        "reconciliation_breaches",
        "Breaches of a rule of the guarantee that are there now",
        "rule",
        &Rule::ALL.map(Rule::as_str),
    );
    let (shown, stop) = (Arc::clone(&findings), tasks.shutdown().clone());
    health.check(Scope::Ready, "reconciliation", move || ready(shown.check()));
    tasks.supervise("reconciliation", move || {
        let (pool, findings) = (pool.clone(), Arc::clone(&findings));
        let (breaches, stop) = (breaches.clone(), stop.clone());
        async move { reconcile::run(&pool, &findings, &breaches, &stop).await }
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

//! The whole system in one process, on private or given servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use gateway::Gateway;
use gateway::config::GatewayConfig;
use orders::Orders;
use orders::config::OrdersConfig;
use payments::Payments;
use payments::config::PaymentsConfig;
use prover::Databases;
use sandbox::{Backend, Data, Options, Sandbox, Unreachable};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where root keeps the data of servers that run as an ordinary user and cannot reach the
/// folder that was asked for.
const ROOT_S_FOLDER: &str = "/var/lib/paidonce";
const ORDERS_DB: &str = "orders_db";
const PAYMENTS_DB: &str = "payments_db";

/// Variables as an environment would hold them.
pub(crate) type Vars = BTreeMap<String, String>;

/// A private PostgreSQL and RabbitMQ, with both databases made.
pub(crate) async fn private_servers(data: Data) -> anyhow::Result<(Sandbox, Option<PathBuf>)> {
    let start = |data| {
        Sandbox::start(Options {
            backend: Backend::Local,
            data,
        })
    };
    let (sandbox, moved_to) = match start(data).await {
        Err(error) if error.downcast_ref::<Unreachable>().is_some() => {
            let folder = PathBuf::from(ROOT_S_FOLDER);
            (start(Data::Kept(folder.clone())).await?, Some(folder))
        }
        other => (other?, None),
    };
    for name in [ORDERS_DB, PAYMENTS_DB] {
        create_database(&sandbox, name).await?;
    }
    Ok((sandbox, moved_to))
}

/// Makes a database unless kept data has it already.
async fn create_database(sandbox: &Sandbox, name: &str) -> anyhow::Result<()> {
    use sqlx::Connection;
    let url = sandbox.postgres.url("postgres");
    let mut connection = sqlx::PgConnection::connect(&url)
        .await
        .context("cannot reach PostgreSQL")?;
    let there = sqlx::query("select from pg_database where datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if there.is_none() {
        sandbox.postgres.create_database(name).await?;
    }
    Ok(())
}

/// This process's environment with the private servers' addresses in it.
pub(crate) fn vars_of(sandbox: &Sandbox) -> Vars {
    let mut vars = environment();
    // Direct ports: a proxy in between would only cost.
    let (postgres, rabbitmq) = (&sandbox.postgres, &sandbox.rabbitmq);
    for (group, name) in [("DB_ORDERS", ORDERS_DB), ("DB_PAYMENTS", PAYMENTS_DB)] {
        vars.remove(&format!("{group}__PASSWORD_FILE"));
        vars.remove(&format!("{group}__SSLMODE"));
        vars.insert(format!("{group}__HOST"), "127.0.0.1".into());
        vars.insert(format!("{group}__PORT"), postgres.direct_port().to_string());
        vars.insert(format!("{group}__USER"), postgres.user().into());
        vars.insert(format!("{group}__PASSWORD"), postgres.password().into());
        vars.insert(format!("{group}__NAME"), name.into());
    }
    vars.remove("RABBITMQ__PASSWORD_FILE");
    vars.remove("RABBITMQ__TLS");
    vars.insert("RABBITMQ__HOST".into(), "127.0.0.1".into());
    vars.insert("RABBITMQ__PORT".into(), rabbitmq.direct_port().to_string());
    vars.insert("RABBITMQ__USER".into(), rabbitmq.user().into());
    vars.insert("RABBITMQ__PASSWORD".into(), rabbitmq.password().into());
    vars.insert("RABBITMQ__VHOST".into(), "/".into());
    vars.insert("RABBITMQ__MANAGEMENT_URL".into(), rabbitmq.management_url());
    // One node, killed at any moment: a queue that an early kill leaves dead is not worth a person.
    vars.insert("RABBITMQ__HEAL_WEDGED".into(), "on".into());
    vars
}

/// This process's environment.
#[expect(
    clippy::disallowed_methods,
    reason = "handed on to chassis::env with addresses replaced"
)]
pub(crate) fn environment() -> Vars {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Puts every listener on a free port of the loopback interface.
pub(crate) fn take_free_ports(vars: &mut Vars) {
    for service in ["GATEWAY", "ORDERS", "PAYMENTS"] {
        vars.insert(format!("{service}__LISTEN"), "127.0.0.1:0".into());
        vars.insert(format!("{service}__OPS_LISTEN"), "127.0.0.1:0".into());
    }
}

/// Logins to both databases, for whoever checks the invariants.
pub(crate) fn databases(sandbox: &Sandbox) -> anyhow::Result<Databases> {
    let (orders, payments) = audit_urls(sandbox);
    Ok(Databases::parse(&orders, &payments)?)
}

/// The same as URLs.
pub(crate) fn audit_urls(sandbox: &Sandbox) -> (String, String) {
    let url = |name: &str| {
        let postgres = &sandbox.postgres;
        let (user, password) = (postgres.user(), postgres.password());
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{name}",
            postgres.direct_port()
        )
    };
    (url(ORDERS_DB), url(PAYMENTS_DB))
}

/// The three services, running in this process.
#[derive(Debug)]
pub(crate) struct System {
    /// Where each listens: name, API, ops port.
    pub(crate) addresses: Vec<(&'static str, SocketAddr, SocketAddr)>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl System {
    /// Binds all ports and starts the services.
    pub(crate) async fn start(vars: Vars) -> anyhow::Result<Self> {
        let orders = Orders::bind(OrdersConfig::from_vars(vars.clone())?).await?;
        let payments = Payments::bind(PaymentsConfig::from_vars(vars.clone())?).await?;
        let mut config = GatewayConfig::from_vars(vars)?;
        config.orders_service_url = url(orders.api_addr());
        config.payments_service_url = url(payments.api_addr());
        let gateway = Gateway::bind(config, crate::document()).await?;
        let addresses = vec![
            ("gateway", gateway.api_addr(), gateway.ops_addr()),
            ("orders", orders.api_addr(), orders.ops_addr()),
            ("payments", payments.api_addr(), payments.ops_addr()),
        ];
        let stop = CancellationToken::new();
        let services = {
            let stop = stop.clone();
            async move {
                // The first that fails stops the others.
                let watched = |outcome: anyhow::Result<()>, stop: &CancellationToken| {
                    stop.cancel();
                    outcome
                };
                let (gateway, orders, payments) = tokio::join!(
                    async { watched(gateway.run(stop.clone()).await.context("gateway"), &stop) },
                    async { watched(orders.run(stop.clone()).await.context("orders"), &stop) },
                    async { watched(payments.run(stop.clone()).await.context("payments"), &stop) },
                );
                gateway.and(orders).and(payments)
            }
        };
        Ok(Self {
            addresses,
            stop,
            running: tokio::spawn(services),
        })
    }

    /// Base URL of the gateway.
    pub(crate) fn url(&self) -> String {
        url(self.addresses[0].1)
    }

    /// Ops address of a service.
    pub(crate) fn ops(&self, service: &str) -> Option<SocketAddr> {
        self.addresses
            .iter()
            .find(|(name, ..)| *name == service)
            .map(|(_, _, ops)| *ops)
    }

    /// Resolves when a service has ended by itself, with its reason.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.running).await.context("a service broke")?
    }

    /// Stops the services in an orderly way.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await.context("a service broke")?
    }
}

/// An address as people and browsers write it.
pub(crate) fn url(addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() || addr.ip().is_loopback() {
        format!("http://localhost:{}", addr.port())
    } else {
        format!("http://{addr}")
    }
}

/// A folder as an absolute path, so that it means the same to the servers.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no folder", path.display()))
}

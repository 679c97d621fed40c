//! The system under test of one scenario: two fresh databases and a fresh virtual host on the shared servers, and the
//! three services as processes.
//!
//! Not here: what a scenario does to it, and what must hold after.

mod broker;
mod environment;
mod logs;
mod processes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use prover::Databases;
use prover::client::{Answer, Client};
use sandbox::{Cluster, Sandbox};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::eventually::{eventually, within};
use crate::ports::free_port;
use crate::process::{Instance, Process, Service};
use crate::ways::Ways;

pub(crate) use environment::{OWN_PASSWORD, Settings};

/// A quorum queue that was declared less than about a second before the broker is killed comes back unusable: a fault
/// of the broker that no scenario is about.
const TOPOLOGY_AGE: Duration = Duration::from_secs(2);

/// The ports of one service.
#[derive(Clone, Copy, Debug)]
struct Ports {
    api: u16,
    ops: u16,
}

impl Ports {
    fn choose() -> anyhow::Result<Self> {
        Ok(Self {
            api: free_port()?,
            ops: free_port()?,
        })
    }
}

/// The system of one scenario. Dropping it kills its processes; [`remove`](Self::remove) also frees what it used.
#[derive(Debug)]
pub(crate) struct Stack {
    sandbox: Arc<Sandbox>,
    /// The scenario's own broker, where one node is not enough for it.
    cluster: Option<Cluster>,
    settings: Settings,
    orders_database: String,
    payments_database: String,
    vhost: String,
    logs: TempDir,
    ports: BTreeMap<Instance, Ports>,
    ways: Ways,
    running: BTreeMap<Instance, Process>,
    topology_since: Option<Instant>,
    /// Databases that are on a small disk, in a tablespace of the same name.
    small_disks: Vec<String>,
    /// What a process is told when it starts next, and then no more.
    told_once: BTreeMap<Instance, Vec<(String, String)>>,
    client: Client,
    databases: Databases,
}

impl Stack {
    /// Makes databases and virtual host, and starts no service.
    ///
    /// # Errors
    /// If a server does not answer.
    pub(crate) async fn prepare(sandbox: Arc<Sandbox>, settings: Settings) -> anyhow::Result<Self> {
        let mark = Uuid::now_v7().simple();
        let (orders_database, payments_database) =
            (format!("orders_{mark}"), format!("payments_{mark}"));
        let vhost = format!("acceptance_{mark}");
        sandbox.postgres.create_database(&orders_database).await?;
        sandbox.postgres.create_database(&payments_database).await?;
        let cluster = match settings.cluster {
            true => Some(broker::start_cluster(&sandbox, &vhost).await?),
            false => None,
        };
        sandbox.rabbitmq.create_vhost(&vhost).await?;
        if settings.own_login {
            let rabbitmq = &sandbox.rabbitmq;
            rabbitmq.set_login(&vhost, &vhost, OWN_PASSWORD).await?;
        }
        let gateway = Ports::choose()?;
        let client = Client::new(&format!("http://127.0.0.1:{}", gateway.api))?;
        let databases = Databases::parse(
            &sandbox.postgres.url(&orders_database),
            &sandbox.postgres.url(&payments_database),
        )?;
        let mut stack = Self {
            cluster,
            settings,
            orders_database,
            payments_database,
            vhost,
            logs: tempfile::tempdir().context("cannot make a folder for logs")?,
            ports: BTreeMap::from([(Service::Gateway.first(), gateway)]),
            ways: Ways::default(),
            running: BTreeMap::new(),
            topology_since: None,
            small_disks: Vec::new(),
            told_once: BTreeMap::new(),
            client,
            databases,
            sandbox,
        };
        for service in Service::ALL {
            stack.admit(service.first()).await?;
        }
        if stack.settings.ordinary_login {
            stack.make_logins().await?;
        }
        Ok(stack)
    }

    /// Gives a process its ports and ways, which stay its own while it is down.
    async fn admit(&mut self, instance: Instance) -> anyhow::Result<()> {
        let ports = match self.ports.get(&instance) {
            Some(ports) => *ports,
            None => *self.ports.entry(instance).or_insert(Ports::choose()?),
        };
        self.ways.admit(instance, &self.sandbox).await?;
        if self.settings.balanced && instance.service != Service::Gateway {
            self.ways.balance(instance.service, ports.api).await?;
        }
        Ok(())
    }

    /// The network of this scenario.
    pub(crate) fn ways(&self) -> &Ways {
        &self.ways
    }

    /// The database of a service.
    ///
    /// # Errors
    /// The gateway has none.
    pub(crate) fn database_name(&self, service: Service) -> anyhow::Result<&str> {
        self.database(service)
            .context("the gateway has no database")
    }

    /// Where a process serves its own API, past gateway and balancer.
    ///
    /// # Errors
    /// If it was never started.
    pub(crate) fn api_port(&self, instance: Instance) -> anyhow::Result<u16> {
        let ports = self.ports.get(&instance).context("never started")?;
        Ok(ports.api)
    }

    /// The servers that all scenarios share.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Moves the database of a service, to which nobody is connected, to a small disk.
    ///
    /// # Errors
    /// If the servers are not in containers, or do not answer.
    pub(crate) async fn put_on_small_disk(&mut self, service: Service) -> anyhow::Result<()> {
        let database = self.database_name(service)?.to_owned();
        let postgres = &self.sandbox.postgres;
        postgres.create_small_tablespace(&database).await?;
        self.small_disks.push(database.clone());
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await?;
        let moved = format!("alter database \"{database}\" set tablespace \"{database}\"");
        sqlx::raw_sql(AssertSqlSafe(moved))
            .execute(&mut connection)
            .await
            .context("cannot move the database")?;
        connection.close().await.context("cannot move the database")
    }

    /// `http://...` of the gateway.
    pub(crate) fn url(&self) -> String {
        format!(
            "http://127.0.0.1:{}",
            self.ports[&Service::Gateway.first()].api
        )
    }

    /// A client of the gateway.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// For the rules that read audit views.
    pub(crate) fn databases(&self) -> &Databases {
        &self.databases
    }

    /// The virtual host of this scenario.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// `postgres://...` of a service's own database.
    ///
    /// # Errors
    /// The gateway has none.
    pub(crate) fn database_url(&self, service: Service) -> anyhow::Result<String> {
        Ok(self.sandbox.postgres.url(
            self.database(service)
                .context("the gateway has no database")?,
        ))
    }

    fn database(&self, service: Service) -> Option<&str> {
        match service {
            Service::Orders => Some(&self.orders_database),
            Service::Payments => Some(&self.payments_database),
            Service::Gateway => None,
        }
    }

    /// Starts a process that does not run, and does not wait for anything.
    ///
    /// # Errors
    /// If it runs, or cannot be started.
    pub(crate) async fn start(&mut self, instance: Instance) -> anyhow::Result<()> {
        ensure!(
            !self.running.contains_key(&instance),
            "{instance} runs already"
        );
        self.admit(instance).await?;
        let mut environment = self.environment(instance)?;
        environment.extend(self.told_once.remove(&instance).unwrap_or_default());
        let process = Process::start(instance, &environment, &self.log(instance))?;
        self.running.insert(instance, process);
        Ok(())
    }

    /// Tells a process something when it starts next, as to die at a moment of its work.
    pub(crate) fn tell_once(&mut self, instance: Instance, name: &str, value: String) {
        let told = self.told_once.entry(instance).or_default();
        told.push((name.to_owned(), value));
    }

    /// Starts the first process of every service, unless it runs, and waits until all that run are ready.
    ///
    /// # Errors
    /// If one ends, or is not ready in time.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        for service in Service::ALL {
            if !self.running.contains_key(&service.first()) {
                self.start(service.first()).await?;
            }
        }
        let running: Vec<Instance> = self.running.keys().copied().collect();
        for instance in running {
            self.until_ready(instance).await?;
        }
        self.bare().await
    }

    /// Waits until a running process says that it is ready in every part.
    ///
    /// # Errors
    /// If it ends instead, or is not ready in time, with what it said last.
    pub(crate) async fn until_ready(&mut self, instance: Instance) -> anyhow::Result<()> {
        let stack = &*self;
        let outcome = eventually(&format!("{instance} is ready"), || async move {
            let answer = stack.health(instance, "ready").await?;
            ensure!(answer.status == 200, "it says {}", answer.body);
            Ok(())
        })
        .await;
        self.running
            .get_mut(&instance)
            .with_context(|| format!("{instance} was not started"))?
            .ensure_alive()?;
        outcome?;
        if instance.service != Service::Gateway && self.topology_since.is_none() {
            self.topology_since = Some(Instant::now());
        }
        Ok(())
    }

    /// What a process's ops port answers to `GET /health/WORD`.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn health(&self, instance: Instance, word: &str) -> anyhow::Result<Answer> {
        let ops = self.ops_port(instance)?;
        let client = Client::with_timeout(&format!("http://127.0.0.1:{ops}"), ASK_LIMIT)?;
        Ok(client
            .send("GET", &format!("/health/{word}"), None)
            .await
            .ok()?)
    }

    /// Waits until the queues are old enough to survive a kill of the broker.
    ///
    /// # Errors
    /// If no service has been ready yet.
    pub(crate) async fn until_topology_is_old(&self) -> anyhow::Result<()> {
        let since = self
            .topology_since
            .context("no service has declared the queues yet")?;
        within(
            TOPOLOGY_AGE * 2,
            "the queues are two seconds old",
            || async move {
                let age = since.elapsed();
                ensure!(age >= TOPOLOGY_AGE, "they are {age:?} old");
                Ok(())
            },
        )
        .await
    }

    /// Undoes what was done to the network and to processes that still run.
    pub(crate) fn heal(&self) {
        self.ways.heal();
        for process in self.running.values() {
            // One that has ended by itself is reported by whoever waits for it.
            process.thaw().ok();
        }
    }

    /// Kills the services, and drops databases and virtual host: the servers are shared by many scenarios.
    ///
    /// # Errors
    /// If a server does not answer.
    pub(crate) async fn remove(mut self) -> anyhow::Result<()> {
        self.end_all().await;
        if let Some(cluster) = self.cluster.take() {
            cluster.remove().await?;
        }
        self.sandbox.rabbitmq.delete_vhost(&self.vhost).await?;
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
        for database in [&self.orders_database, &self.payments_database] {
            let drop = AssertSqlSafe(format!("drop database \"{database}\" with (force)"));
            sqlx::raw_sql(drop)
                .execute(&mut connection)
                .await
                .context("cannot drop a database")?;
            let drop = AssertSqlSafe(format!("drop role if exists \"{database}\""));
            sqlx::raw_sql(drop)
                .execute(&mut connection)
                .await
                .context("cannot drop a login")?;
        }
        connection.close().await.context("cannot drop a database")?;
        for tablespace in &self.small_disks {
            self.sandbox
                .postgres
                .drop_small_tablespace(tablespace)
                .await?;
        }
        Ok(())
    }
}

/// A service that does not answer on its ops port within this time does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

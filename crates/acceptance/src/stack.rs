//! The system under test of one scenario: two fresh databases and a fresh virtual host on the shared servers, and the
//! three services as processes.
//!
//! Not here: what a scenario does to it, and what must hold after.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use prover::Databases;
use prover::client::{Answer, Client};
use sandbox::Sandbox;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::eventually::{eventually, within};
use crate::ports::free_port;
use crate::process::{Process, Service};

/// A quorum queue that was declared less than about a second before the broker is killed comes back unusable: a fault
/// of the broker that no scenario is about.
const TOPOLOGY_AGE: Duration = Duration::from_secs(2);
/// Lines of each log that are printed for a scenario that failed.
const LOG_LINES: usize = 60;

/// Of the services' own login at the broker, which is named as the virtual host.
pub(crate) const OWN_PASSWORD: &str = "as at first";

/// What a scenario may want other than usual.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `REDRIVE_AFTER`. Out of reach of a scenario as a rule: else asking again would mend what the scenario is about
    /// before it is seen.
    pub(crate) redrive_after: &'static str,
    /// `CONFIRM_TIMEOUT`.
    pub(crate) confirm_timeout: &'static str,
    /// Whether the services have a login of their own at the broker, which can be changed.
    pub(crate) own_login: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redrive_after: "1h",
            confirm_timeout: "10s",
            own_login: false,
        }
    }
}

/// The ports of one service.
#[derive(Clone, Copy, Debug)]
struct Ports {
    api: u16,
    ops: u16,
}

/// The system of one scenario. Dropping it kills its processes; [`remove`](Self::remove) also frees what it used.
#[derive(Debug)]
pub(crate) struct Stack {
    sandbox: Arc<Sandbox>,
    settings: Settings,
    orders_database: String,
    payments_database: String,
    vhost: String,
    logs: TempDir,
    ports: BTreeMap<Service, Ports>,
    running: BTreeMap<Service, Process>,
    topology_since: Option<Instant>,
    /// Where the next process of a service is to die.
    deaths: BTreeMap<Service, String>,
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
        sandbox.rabbitmq.create_vhost(&vhost).await?;
        if settings.own_login {
            let rabbitmq = &sandbox.rabbitmq;
            rabbitmq.set_login(&vhost, &vhost, OWN_PASSWORD).await?;
        }
        let mut ports = BTreeMap::new();
        for service in Service::ALL {
            let (api, ops) = (free_port()?, free_port()?);
            ports.insert(service, Ports { api, ops });
        }
        let client = Client::new(&format!(
            "http://127.0.0.1:{}",
            ports[&Service::Gateway].api
        ))?;
        let databases = Databases::parse(
            &sandbox.postgres.url(&orders_database),
            &sandbox.postgres.url(&payments_database),
        )?;
        Ok(Self {
            settings,
            orders_database,
            payments_database,
            vhost,
            logs: tempfile::tempdir().context("cannot make a folder for logs")?,
            ports,
            running: BTreeMap::new(),
            topology_since: None,
            deaths: BTreeMap::new(),
            client,
            databases,
            sandbox,
        })
    }

    /// The servers that all scenarios share.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// `http://...` of the gateway.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[&Service::Gateway].api)
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

    /// `amqp://...` of the virtual host.
    pub(crate) fn amqp_url(&self) -> String {
        self.sandbox.rabbitmq.url(&self.vhost)
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

    /// Starts a service that does not run, and does not wait for anything.
    ///
    /// # Errors
    /// If it runs, or cannot be started.
    pub(crate) fn start(&mut self, service: Service) -> anyhow::Result<()> {
        ensure!(
            !self.running.contains_key(&service),
            "{service} runs already"
        );
        let mut environment = self.environment(service);
        if let Some(moment) = self.deaths.remove(&service) {
            environment.push(("PAIDONCE_DIES_AT".to_owned(), moment));
        }
        let process = Process::start(service, &environment, &self.log(service))?;
        self.running.insert(service, process);
        Ok(())
    }

    /// Lets the next process of a service die at a moment of its work, `NAME` or `NAME:COUNT`.
    pub(crate) fn dies_at(&mut self, service: Service, moment: String) {
        self.deaths.insert(service, moment);
    }

    /// Starts every service that does not run, and waits until all are ready.
    ///
    /// # Errors
    /// If one ends, or is not ready in time.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        for service in Service::ALL {
            if !self.running.contains_key(&service) {
                self.start(service)?;
            }
        }
        for service in Service::ALL {
            self.until_ready(service).await?;
        }
        Ok(())
    }

    /// Waits until a running service says that it is ready in every part.
    ///
    /// # Errors
    /// If it ends instead, or is not ready in time, with what it said last.
    pub(crate) async fn until_ready(&mut self, service: Service) -> anyhow::Result<()> {
        let stack = &*self;
        let outcome = eventually(&format!("{service} is ready"), || async move {
            let answer = stack.health(service, "ready").await?;
            ensure!(answer.status == 200, "it says {}", answer.body);
            Ok(())
        })
        .await;
        self.running
            .get_mut(&service)
            .with_context(|| format!("{service} was not started"))?
            .ensure_alive()?;
        outcome?;
        if service != Service::Gateway && self.topology_since.is_none() {
            self.topology_since = Some(Instant::now());
        }
        Ok(())
    }

    /// What a service's ops port answers to `GET /health/WORD`.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn health(&self, service: Service, word: &str) -> anyhow::Result<Answer> {
        let client = Client::with_timeout(
            &format!("http://127.0.0.1:{}", self.ports[&service].ops),
            ASK_LIMIT,
        )?;
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

    /// Whether a service has been started and neither killed nor stopped since.
    pub(crate) fn runs(&self, service: Service) -> bool {
        self.running.contains_key(&service)
    }

    /// Takes a running service out of the stack, to be killed or stopped.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn take(&mut self, service: Service) -> anyhow::Result<Process> {
        self.running
            .remove(&service)
            .with_context(|| format!("{service} does not run"))
    }

    /// The end of every service's log.
    pub(crate) fn last_logs(&self) -> String {
        let mut text = String::new();
        for service in Service::ALL {
            let Ok(log) = std::fs::read_to_string(self.log(service)) else {
                continue;
            };
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
            text.push_str(&format!(
                "--- {service}: last {} of {} lines\n",
                shown.len(),
                lines.len()
            ));
            for line in shown {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// Kills the services, and drops databases and virtual host: the servers are shared by many scenarios.
    ///
    /// # Errors
    /// If a server does not answer.
    pub(crate) async fn remove(mut self) -> anyhow::Result<()> {
        for (_, process) in std::mem::take(&mut self.running) {
            // One that has ended by itself was reported by whoever waited for it.
            process.kill().await.ok();
        }
        self.sandbox.rabbitmq.delete_vhost(&self.vhost).await?;
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
        for database in [&self.orders_database, &self.payments_database] {
            let drop = AssertSqlSafe(format!("drop database \"{database}\" with (force)"));
            sqlx::raw_sql(drop)
                .execute(&mut connection)
                .await
                .context("cannot drop a database")?;
        }
        connection.close().await.context("cannot drop a database")
    }

    fn log(&self, service: Service) -> PathBuf {
        self.logs.path().join(format!("{service}.log"))
    }

    /// All that a service is told. What is not said here has the default that the contract gives it.
    fn environment(&self, service: Service) -> Vec<(String, String)> {
        let mut told = passed_through();
        let mut tell = |name: &str, value: &str| told.push((name.to_owned(), value.to_owned()));
        let address = |port: u16| format!("127.0.0.1:{port}");
        let prefix = service.command().to_uppercase();
        let Ports { api, ops } = self.ports[&service];
        tell(&format!("{prefix}__LISTEN"), &address(api));
        tell(&format!("{prefix}__OPS_LISTEN"), &address(ops));
        let Some(database) = self.database(service) else {
            tell(
                "ORDERS_SERVICE_URL",
                &format!("http://{}", address(self.ports[&Service::Orders].api)),
            );
            tell(
                "PAYMENTS_SERVICE_URL",
                &format!("http://{}", address(self.ports[&Service::Payments].api)),
            );
            return told;
        };
        let (postgres, rabbitmq) = (&self.sandbox.postgres, &self.sandbox.rabbitmq);
        let (user, password) = if self.settings.own_login {
            (self.vhost.as_str(), OWN_PASSWORD)
        } else {
            (rabbitmq.user(), rabbitmq.password())
        };
        for (name, value) in [
            ("HOST", postgres.host()),
            ("PORT", &postgres.port().to_string()),
            ("USER", postgres.user()),
            ("PASSWORD", postgres.password()),
            ("NAME", database),
        ] {
            tell(&format!("DB_{prefix}__{name}"), value);
        }
        for (name, value) in [
            ("HOST", rabbitmq.host()),
            ("PORT", &rabbitmq.port().to_string()),
            ("USER", user),
            ("PASSWORD", password),
            ("VHOST", &self.vhost),
            ("HEAL_WEDGED", "on"),
        ] {
            tell(&format!("RABBITMQ__{name}"), value);
        }
        tell("CONFIRM_TIMEOUT", self.settings.confirm_timeout);
        if service == Service::Orders {
            tell("REDRIVE_AFTER", self.settings.redrive_after);
        }
        told
    }
}

/// A service that does not answer on its ops port within this time does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How much is logged, and where a coverage run writes to; nothing that changes what a service does.
#[expect(
    clippy::disallowed_methods,
    reason = "the services' environment is made here, out of nothing but these names"
)]
fn passed_through() -> Vec<(String, String)> {
    ["RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

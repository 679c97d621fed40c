//! What the processes of a scenario are told.
//!
//! Not here: where their servers are, and when they start.

use std::process::Output;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Ports, Stack};
use crate::plants::Soil;
use crate::process::{self, Instance, Service};
use crate::ways::Far;

/// Of the services' own login at the broker, which is named as the virtual host.
pub(crate) const OWN_PASSWORD: &str = "as at first";

/// As the migrations make it where they may. So no scenario shows what they do where there is no such role.
const AUDITORS: &str = "do $$ begin create role audit_ro nologin; \
     exception when duplicate_object or unique_violation then null; end $$";

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
    /// Whether the services are told where the broker's management API is.
    pub(crate) management: bool,
    /// Whether the broker is three nodes of the scenario's own.
    pub(crate) cluster: bool,
    /// Whether Orders and Payments are reached through a balancer, behind which there may be several processes of
    /// each, and which can be harmed.
    pub(crate) balanced: bool,
    /// Whether the services log in to the databases as a user that owns its database and nothing else.
    pub(crate) ordinary_login: bool,
    /// The fault that is planted in the services, in a run that is about one.
    pub(crate) soil: Option<Soil>,
    /// What one service is told besides.
    pub(crate) told: Vec<(Service, &'static str, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redrive_after: "1h",
            confirm_timeout: "10s",
            own_login: false,
            management: false,
            cluster: false,
            balanced: false,
            ordinary_login: false,
            soil: None,
            told: Vec::new(),
        }
    }
}

impl Stack {
    /// Makes a user for each database, who owns it and may do no more.
    pub(super) async fn make_logins(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
        // Who owns a database only may make no role, so an administrator makes the auditors' one before.
        sqlx::raw_sql(AUDITORS)
            .execute(&mut connection)
            .await
            .context("cannot make the role of auditors")?;
        for database in [&self.orders_database, &self.payments_database] {
            let password = self.sandbox.postgres.password().replace('\'', "''");
            let make = AssertSqlSafe(format!(
                "create role \"{database}\" login password '{password}'; \
                 alter database \"{database}\" owner to \"{database}\""
            ));
            sqlx::raw_sql(make)
                .execute(&mut connection)
                .await
                .context("cannot make a login")?;
        }
        connection.close().await.context("cannot make a login")
    }

    /// Takes away what in a database would hide the planted fault, if this run is about one.
    pub(super) async fn bare(&self) -> anyhow::Result<()> {
        let Some(soil) = self.settings.soil else {
            return Ok(());
        };
        for (service, statement) in soil.plant().hidden_by {
            let mut connection = PgConnection::connect(&self.database_url(*service)?).await?;
            let done = sqlx::raw_sql(*statement).execute(&mut connection).await;
            done.with_context(|| format!("cannot {statement}"))?;
            connection.close().await?;
        }
        Ok(())
    }

    /// Tells a service something no more when its processes start next.
    pub(crate) fn tell_no_more(&mut self, service: Service, name: &str) {
        let told = &mut self.settings.told;
        told.retain(|(to, told, _)| *to != service || *told != name);
    }

    /// Whether a service has said this.
    pub(crate) fn logs_contain(&self, text: &str) -> bool {
        self.ports.keys().any(|instance| {
            std::fs::read_to_string(self.log(*instance)).is_ok_and(|log| log.contains(text))
        })
    }

    /// Runs an operator's command, told what both services are.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        process::command(arguments, &self.operator_s_environment()?).await
    }

    /// What both services are told, for an operator's command.
    ///
    /// # Errors
    /// If there is no way to a server.
    pub(crate) fn operator_s_environment(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut environment = self.environment(Service::Orders.first())?;
        environment.extend(self.environment(Service::Payments.first())?);
        Ok(environment)
    }

    /// Where a process tells operators how it is.
    ///
    /// # Errors
    /// If it was never started.
    pub(crate) fn ops_port(&self, instance: Instance) -> anyhow::Result<u16> {
        let ports = self.ports.get(&instance);
        let ports = ports.with_context(|| format!("{instance} was never started"))?;
        Ok(ports.ops)
    }

    /// `http://...` at which the gateway finds a service.
    fn upstream(&self, service: Service) -> String {
        let direct = self.ports[&service.first()].api;
        let balancer = self.ways.balancer(service);
        let port = balancer.map_or(direct, |proxy| proxy.address().port());
        format!("http://127.0.0.1:{port}")
    }

    /// All that a process is told. What is not said here has the default that the contract gives it.
    pub(super) fn environment(&self, instance: Instance) -> anyhow::Result<Vec<(String, String)>> {
        let service = instance.service;
        let mut told = passed_through();
        if let Some(Soil::Planted(plant)) = self.settings.soil {
            told.push(("PAIDONCE_PLANTED".to_owned(), plant.name.to_owned()));
        }
        let mut tell = |name: &str, value: &str| told.push((name.to_owned(), value.to_owned()));
        let address = |port: u16| format!("127.0.0.1:{port}");
        let prefix = service.command().to_uppercase();
        let Ports { api, ops } = self.ports[&instance];
        tell(&format!("{prefix}__LISTEN"), &address(api));
        tell(&format!("{prefix}__OPS_LISTEN"), &address(ops));
        let Some(database) = self.database(service) else {
            tell("ORDERS_SERVICE_URL", &self.upstream(Service::Orders));
            tell("PAYMENTS_SERVICE_URL", &self.upstream(Service::Payments));
            return Ok(told);
        };
        let postgres = &self.sandbox.postgres;
        let port = self.ways.to(instance, Far::Database)?.address().port();
        let user = match self.settings.ordinary_login {
            true => database,
            false => postgres.user(),
        };
        for (name, value) in [
            ("HOST", postgres.host()),
            ("PORT", &port.to_string()),
            ("USER", user),
            ("PASSWORD", postgres.password()),
            ("NAME", database),
        ] {
            tell(&format!("DB_{prefix}__{name}"), value);
        }
        for (name, value) in self.broker_settings(instance)? {
            tell(&format!("RABBITMQ__{name}"), &value);
        }
        tell("CONFIRM_TIMEOUT", self.settings.confirm_timeout);
        if service == Service::Orders {
            tell("REDRIVE_AFTER", self.settings.redrive_after);
        }
        for (_, name, value) in self.settings.told.iter().filter(|(to, ..)| *to == service) {
            tell(name, value);
        }
        Ok(told)
    }
}

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

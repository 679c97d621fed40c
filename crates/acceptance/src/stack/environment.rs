//! What the processes of a scenario are told.
//!
//! Not here: where their servers are, and when they start.

use std::process::Output;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Ports, Stack};
use crate::process::{self, Instance, Service};
use crate::ways::Far;

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
    /// Whether Orders and Payments are reached through a balancer, behind which there may be several processes of
    /// each, and which can be harmed.
    pub(crate) balanced: bool,
    /// Whether the services log in to the databases as a user that owns its database and nothing else.
    pub(crate) ordinary_login: bool,
    /// What one service is told besides.
    pub(crate) told: Vec<(Service, &'static str, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redrive_after: "1h",
            confirm_timeout: "10s",
            own_login: false,
            balanced: false,
            ordinary_login: false,
            told: Vec::new(),
        }
    }
}

impl Stack {
    /// Makes a user for each database, who owns it and may do no more.
    pub(super) async fn make_logins(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
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

    /// Runs an operator's command, told what both services are.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut environment = self.environment(Service::Orders.first())?;
        environment.extend(self.environment(Service::Payments.first())?);
        process::command(arguments, &environment).await
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
        let (postgres, rabbitmq) = (&self.sandbox.postgres, &self.sandbox.rabbitmq);
        let port = |far| anyhow::Ok(self.ways.to(instance, far)?.address().port().to_string());
        let (broker_user, broker_password) = match self.settings.own_login {
            true => (self.vhost.as_str(), OWN_PASSWORD),
            false => (rabbitmq.user(), rabbitmq.password()),
        };
        let user = match self.settings.ordinary_login {
            true => database,
            false => postgres.user(),
        };
        for (name, value) in [
            ("HOST", postgres.host()),
            ("PORT", &port(Far::Database)?),
            ("USER", user),
            ("PASSWORD", postgres.password()),
            ("NAME", database),
        ] {
            tell(&format!("DB_{prefix}__{name}"), value);
        }
        for (name, value) in [
            ("HOST", rabbitmq.host()),
            ("PORT", &port(Far::Broker)?),
            ("USER", broker_user),
            ("PASSWORD", broker_password),
            ("VHOST", &self.vhost),
            ("HEAL_WEDGED", "on"),
        ] {
            tell(&format!("RABBITMQ__{name}"), value);
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

//! PostgreSQL as a caller sees it: addresses, databases, and what can be done to the server.
//!
//! Not here: how a backend runs it; any table.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::Proxy;
use crate::given::{Endpoint, encode};
use crate::sandbox::Login;
use crate::server::{Lifecycle, Ports, Server, State};

/// Where a server in a container has a disk of 64 MiB beside its own, empty at each start. The folder is one in which
/// everybody may write: after a restart the mode asked for is gone, and that of the folder holds.
pub(crate) const SMALL_DISK: &str = "/var/tmp";

/// A PostgreSQL server. Clients reach it through [`port`](Self::port), which stays the same over restarts.
#[derive(Debug)]
pub struct Postgres {
    lifecycle: Lifecycle,
    proxy: Proxy,
    endpoint: Endpoint,
    version: String,
}

impl Postgres {
    pub(crate) async fn start_new(server: Box<dyn Server>, login: &Login) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::start_new(server).await?;
        let target = lifecycle.ports().main;
        let proxy = Proxy::start(target).await.context("no port for a proxy")?;
        let endpoint = Endpoint {
            host: proxy.address().ip().to_string(),
            port: proxy.address().port(),
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let version = lifecycle
            .first_answer(|| ask_version(&endpoint, target))
            .await?;
        Ok(Self {
            lifecycle,
            proxy,
            endpoint,
            version,
        })
    }

    /// The proxy's host, always `127.0.0.1`.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// The server's own port on loopback (for a given server: on its host), without a proxy; may be another after a
    /// restart.
    pub fn direct_port(&self) -> u16 {
        self.lifecycle.ports().main.port()
    }

    /// A superuser (for a given server: its login).
    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    /// The password of [`user`](Self::user), made for this sandbox.
    pub fn password(&self) -> &str {
        &self.endpoint.password
    }

    /// `postgres://...` for a database, through the proxy.
    pub fn url(&self, database: &str) -> String {
        self.endpoint.postgres_url(database)
    }

    /// The network between the clients and this server.
    pub fn link(&self) -> &Proxy {
        &self.proxy
    }

    /// As in `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes an empty database, without using the proxy.
    ///
    /// # Errors
    /// If the name is not of lower-case letters, digits and `_`, or is taken, or the server does not answer.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.direct().create_database(name).await
    }

    /// Makes a tablespace on a disk of 64 MiB, which can be filled without harm to the rest of the server: its log of
    /// changes is elsewhere. All such tablespaces share the one disk, and a restart empties it.
    ///
    /// # Errors
    /// If the server is not in a container of this sandbox, the name is taken, or the server does not answer.
    pub async fn create_small_tablespace(&self, name: &str) -> anyhow::Result<()> {
        self.direct().create_small_tablespace(name).await
    }

    /// Drops such a tablespace. What the server would do again after a crash begins after this: its folder is gone with
    /// a restart, and making it again would fail.
    ///
    /// # Errors
    /// If there is no such tablespace, a database is in it, or the server does not answer.
    pub async fn drop_small_tablespace(&self, name: &str) -> anyhow::Result<()> {
        ensure_plain(name)?;
        let mut connection = self.direct().connect().await?;
        for statement in [
            format!("drop tablespace \"{name}\""),
            "checkpoint".to_owned(),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .context("cannot drop a tablespace")?;
        }
        connection.close().await.ok();
        Ok(())
    }

    /// SIGKILL, as at a loss of power; returns when all its processes are gone and the port refuses.
    ///
    /// # Errors
    /// If it was down already, or did not go.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.lifecycle
            .kill()
            .await
            .context("cannot kill PostgreSQL")
    }

    /// A fast shutdown; returns when it is complete.
    ///
    /// # Errors
    /// If it does not run, or did not stop within 60 s.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.lifecycle
            .stop()
            .await
            .context("cannot stop PostgreSQL")
    }

    /// Starts it again on its data; returns when a query is answered.
    ///
    /// # Errors
    /// If it is not down, or does not answer within 120 s.
    pub async fn start(&self) -> anyhow::Result<()> {
        let ports = self.lifecycle.start().await?;
        self.lead_to(ports).await
    }

    async fn lead_to(&self, ports: Ports) -> anyhow::Result<()> {
        self.proxy.set_target(ports.main);
        self.lifecycle
            .first_answer(|| ask_version(&self.endpoint, ports.main))
            .await
            .context("PostgreSQL does not come back")?;
        Ok(())
    }

    /// Holds all its processes: connections stay open and nothing answers.
    ///
    /// # Errors
    /// If it does not run, or a process goes on.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.lifecycle
            .freeze()
            .await
            .context("cannot freeze PostgreSQL")
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// If it is not frozen, or does not go on.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        self.lifecycle
            .thaw()
            .await
            .context("cannot thaw PostgreSQL")
    }

    /// Leads new connections to the server's own address in its container, past the engine, which would close them in
    /// its name.
    ///
    /// # Errors
    /// If it does not run in a container, or that cannot be reached from here, as one on another machine.
    pub async fn lead_past_the_engine(&self) -> anyhow::Result<()> {
        let address = self.lifecycle.own_address().await?;
        ask_version(&self.endpoint, address)
            .await
            .with_context(|| {
                format!("nothing answers at {address}: the Docker engine must run on this machine")
            })?;
        self.proxy.set_target(address);
        Ok(())
    }

    /// Takes a server in a container off its network: its clients are gone, and nobody has said good-bye to it if they
    /// were led past the engine.
    ///
    /// # Errors
    /// If it does not run, or not in a container.
    pub async fn cut_off(&self) -> anyhow::Result<()> {
        self.lifecycle
            .cut_off()
            .await
            .context("cannot cut PostgreSQL off")
    }

    /// Puts it back if it was cut off, and leads connections the usual way; returns when a query is answered.
    ///
    /// # Errors
    /// If it does not answer within 120 s.
    pub async fn rejoin(&self) -> anyhow::Result<()> {
        if self.lifecycle.state().await == State::CutOff {
            self.lifecycle.rejoin().await?;
        }
        self.lead_to(self.lifecycle.ports()).await
    }

    /// Whether a condition holds, asked from within the server's container: also of one that is cut off.
    ///
    /// # Errors
    /// If it does not, or the server does not run in a container.
    pub async fn ensure_within(&self, database: &str, condition: &str) -> anyhow::Result<()> {
        let statement = format!(
            "do $$ begin if not ({condition}) then raise exception 'it does not hold'; end if; end $$"
        );
        let user = &self.endpoint.user;
        let arguments = [
            "-X",
            "-U",
            user,
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            &statement,
        ];
        self.lifecycle
            .control(&arguments)
            .await
            .with_context(|| format!("not so: {condition}"))
    }

    /// Whether the server's log holds this text.
    pub fn log_contains(&self, text: &str) -> bool {
        self.lifecycle.log().is_ok_and(|log| log.contains(text))
    }

    pub(crate) async fn wind_up(&self) -> anyhow::Result<()> {
        self.lifecycle.wind_up().await
    }

    /// The server without the proxy.
    pub(crate) fn direct(&self) -> Endpoint {
        self.endpoint.at(self.lifecycle.ports().main)
    }
}

impl Endpoint {
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
            ..self.clone()
        }
    }

    pub(crate) fn postgres_url(&self, database: &str) -> String {
        let (user, password) = (encode(&self.user), encode(&self.password));
        let (host, port) = (&self.host, self.port);
        format!("postgres://{user}:{password}@{host}:{port}/{database}")
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::Prefer);
        tokio::time::timeout(Duration::from_secs(30), options.connect())
            .await
            .context("PostgreSQL does not answer within 30 s")?
            .context("cannot connect to PostgreSQL")
    }

    pub(crate) async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        ensure_plain(name)?;
        let mut connection = self.connect().await?;
        let statement = AssertSqlSafe(format!("create database \"{name}\""));
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .with_context(|| format!("cannot create the database {name}"))?;
        connection.close().await.ok();
        Ok(())
    }

    /// The server itself makes the folder, because it must be its own.
    async fn create_small_tablespace(&self, name: &str) -> anyhow::Result<()> {
        ensure_plain(name)?;
        let folder = format!("{SMALL_DISK}/{name}");
        let mut connection = self.connect().await?;
        for statement in [
            format!("copy (select) to program 'mkdir {folder}'"),
            format!("create tablespace \"{name}\" location '{folder}'"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await
                .context(
                    "cannot create a tablespace; only servers in containers have a small disk",
                )?;
        }
        connection.close().await.ok();
        Ok(())
    }
}

/// Names stand in statements as they are.
fn ensure_plain(name: &str) -> anyhow::Result<()> {
    let plain = |sign: char| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '_';
    ensure!(
        !name.is_empty() && name.chars().all(plain),
        "a name is of lower-case letters, digits and _, not {name:?}"
    );
    Ok(())
}

async fn ask_version(endpoint: &Endpoint, address: SocketAddr) -> anyhow::Result<String> {
    let mut connection = endpoint.at(address).connect().await?;
    let version: String = sqlx::query_scalar("show server_version")
        .fetch_one(&mut connection)
        .await
        .context("PostgreSQL does not answer a query")?;
    connection.close().await.ok();
    // Debian adds its own version in brackets.
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}

//! RabbitMQ as a caller sees it: addresses, virtual hosts, queues, and what can be done to the server.
//!
//! Not here: how a backend runs it; what only the server's own tool can do (`by_tool`); the names of the system's
//! exchanges and queues.

mod by_tool;
mod node;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Proxy;
use crate::given::{Endpoint, encode};
use crate::management::{Management, QueueDepth};
use crate::sandbox::Login;
use crate::server::{Lifecycle, Ports, Server};

pub use by_tool::Alarm;

/// What every backend's `rabbitmq.conf` begins with.
pub(crate) const COMMON_CONFIG: &str = "\
# A larger message is refused by the broker, so that no consumer has to hold it.
max_message_size = 131072
# A small disk on a test machine must not block the publishers.
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = info
# Counts that are five seconds old would make every wait five seconds long.
collect_statistics_interval = 1000
";

/// What `rabbitmq.conf` has no name for.
///
/// A dead letter that found no place is tried again after three minutes by default.
pub(crate) const ADVANCED_CONFIG: &str = "[{rabbit, [\
    {quorum_tick_interval, 1000}, \
    {dead_letter_worker_publisher_confirm_timeout, 5000}\
]}].\n";

/// A RabbitMQ server of one node. Clients reach it through [`port`](Self::port), which stays the same over restarts.
///
/// Whoever kills it must know that a quorum queue declared less than about a second before may come back unusable:
/// its log then holds `name_not_registered`. Wait 2 s after declaring.
#[derive(Debug)]
pub struct Rabbitmq {
    lifecycle: Lifecycle,
    proxy: Proxy,
    /// Only so that the address is the same after a restart.
    management_proxy: Proxy,
    endpoint: Endpoint,
    management: Management,
    version: String,
}

impl Rabbitmq {
    pub(crate) async fn start_new(server: Box<dyn Server>, login: &Login) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::start_new(server).await?;
        let ports = lifecycle.ports();
        let management_target = ports.management.context("no port for management")?;
        let proxy = Proxy::start(ports.main)
            .await
            .context("no port for a proxy")?;
        let management_proxy = Proxy::start(management_target)
            .await
            .context("no port for a proxy")?;
        let endpoint = Endpoint {
            host: proxy.address().ip().to_string(),
            port: proxy.address().port(),
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let management = Management {
            url: format!("http://{}", management_proxy.address()),
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let version = lifecycle
            .first_answer(|| ask(ports.main, &management))
            .await?;
        Ok(Self {
            lifecycle,
            proxy,
            management_proxy,
            endpoint,
            management,
            version,
        })
    }

    /// The proxy's host, always `127.0.0.1`.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The proxy's port, for AMQP.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// The server's own AMQP port on loopback (for a given server: on its host), without a proxy; may be another after
    /// a restart.
    pub fn direct_port(&self) -> u16 {
        self.lifecycle.ports().main.port()
    }

    /// An administrator (for a given server: its login).
    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    /// The password of [`user`](Self::user), made for this sandbox.
    pub fn password(&self) -> &str {
        &self.endpoint.password
    }

    /// `http://127.0.0.1:PORT`, the same over restarts; with the login of [`user`](Self::user).
    pub fn management_url(&self) -> String {
        self.management.url.clone()
    }

    /// `amqp://...` for a virtual host, through the proxy.
    pub fn url(&self, vhost: &str) -> String {
        self.endpoint.amqp_url(vhost)
    }

    /// The network between the AMQP clients and this server; the management API is not behind it.
    pub fn link(&self) -> &Proxy {
        &self.proxy
    }

    /// As in `3.10.8`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes a virtual host in which [`user`](Self::user) may do everything.
    ///
    /// # Errors
    /// If the management API does not answer or refuses.
    pub async fn create_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.management.create_vhost(name).await
    }

    /// Removes a virtual host with all that is in it.
    ///
    /// # Errors
    /// If there is none of this name, or the management API does not answer.
    pub async fn delete_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.management.delete_vhost(name).await
    }

    /// A call of the management API; `path` begins with `/api/`, an empty answer is `null`.
    ///
    /// # Errors
    /// If it does not answer within 20 s, or with another status than 2xx.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        self.management.call(method, path, body.as_ref()).await
    }

    /// Drops the ready messages of a queue.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn purge_queue(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        self.management.purge_queue(vhost, queue).await
    }

    /// Removes a queue with its messages.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn delete_queue(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        self.management.delete_queue(vhost, queue).await
    }

    /// How many messages a queue holds, as of about a second ago.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn queue_depth(&self, vhost: &str, queue: &str) -> anyhow::Result<QueueDepth> {
        self.management.queue_depth(vhost, queue).await
    }

    /// Closes the clients' connections from the broker's side; returns how many there were.
    ///
    /// # Errors
    /// If there is no such virtual host, or the management API does not answer.
    pub async fn close_all_connections(&self, vhost: &str) -> anyhow::Result<usize> {
        self.management.close_all_connections(vhost).await
    }

    /// SIGKILL, as at a loss of power; returns when all its processes are gone and the port refuses.
    ///
    /// # Errors
    /// If it was down already, or did not go.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.lifecycle.kill().await.context("cannot kill RabbitMQ")
    }

    /// An orderly stop; returns when it is complete.
    ///
    /// # Errors
    /// If it does not run, or did not stop within 60 s.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.lifecycle.stop().await.context("cannot stop RabbitMQ")
    }

    /// Starts it again on its data; returns when it answers AMQP and the management API does too.
    ///
    /// # Errors
    /// If it is not down, or does not answer within 120 s.
    pub async fn start(&self) -> anyhow::Result<()> {
        let ports = self.lifecycle.start().await?;
        self.lead_to(ports)?;
        self.lifecycle
            .first_answer(|| ask(ports.main, &self.management))
            .await
            .context("RabbitMQ does not come back")?;
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
            .context("cannot freeze RabbitMQ")
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// If it is not frozen, or does not go on.
    pub async fn thaw(&self) -> anyhow::Result<()> {
        self.lifecycle.thaw().await.context("cannot thaw RabbitMQ")
    }

    fn lead_to(&self, ports: Ports) -> anyhow::Result<()> {
        self.proxy.set_target(ports.main);
        let management = ports.management.context("no port for management")?;
        self.management_proxy.set_target(management);
        Ok(())
    }

    /// Gives [`user`](Self::user) these permissions in a virtual host, as regular expressions.
    ///
    /// # Errors
    /// If the management API does not answer or refuses.
    pub async fn permit(&self, vhost: &str, expression: &str) -> anyhow::Result<()> {
        let path = format!("/api/permissions/{}/{}", encode(vhost), encode(self.user()));
        let body = serde_json::json!({
            "configure": expression, "write": expression, "read": expression,
        });
        self.management("PUT", &path, Some(body)).await.map(drop)
    }

    /// Makes a login that may do everything in a virtual host, or gives it another password.
    ///
    /// # Errors
    /// If the management API does not answer or refuses.
    pub async fn set_login(&self, vhost: &str, user: &str, password: &str) -> anyhow::Result<()> {
        let name = encode(user);
        let login = serde_json::json!({ "password": password, "tags": "" });
        let path = format!("/api/users/{name}");
        self.management("PUT", &path, Some(login)).await?;
        let all = serde_json::json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("/api/permissions/{}/{name}", encode(vhost));
        self.management("PUT", &path, Some(all)).await.map(drop)
    }

    /// Whether the server's log holds this text, as `name_not_registered` after a kill that came too early.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log_count(text) > 0
    }

    /// How often it does.
    pub fn log_count(&self, text: &str) -> usize {
        let log = self.lifecycle.log();
        log.map_or(0, |log| log.matches(text).count())
    }

    pub(crate) async fn wind_up(&self) -> anyhow::Result<()> {
        self.lifecycle.wind_up().await
    }

    /// The server without the proxy.
    pub(crate) fn direct(&self) -> Endpoint {
        self.endpoint.at(self.lifecycle.ports().main)
    }

    pub(crate) fn direct_management_url(&self) -> String {
        self.lifecycle.ports().management.map_or_else(
            || self.management_url(),
            |address| format!("http://{address}"),
        )
    }
}

impl Endpoint {
    pub(crate) fn amqp_url(&self, vhost: &str) -> String {
        let (user, password) = (encode(&self.user), encode(&self.password));
        let (host, port, vhost) = (&self.host, self.port, encode(vhost));
        format!("amqp://{user}:{password}@{host}:{port}/{vhost}")
    }
}

/// Both doors: they open one after the other.
async fn ask(amqp: SocketAddr, management: &Management) -> anyhow::Result<String> {
    tokio::time::timeout(Duration::from_secs(5), greet(amqp))
        .await
        .context("no AMQP greeting within 5 s")??;
    management.version().await
}

/// The first step of AMQP 0-9-1: a header, answered by the method frame `connection.start`.
async fn greet(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)
        .await
        .context("the AMQP port refuses")?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut frame = [0; 11];
    stream
        .read_exact(&mut frame)
        .await
        .context("no AMQP greeting")?;
    // Frame type 1 on channel 0; four bytes of length; class 10, method 10.
    let greets = frame[..3] == [1, 0, 0] && frame[7..] == [0, 10, 0, 10];
    ensure!(greets, "the port does not speak AMQP 0-9-1");
    Ok(())
}

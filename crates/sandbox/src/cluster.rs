//! Three RabbitMQ nodes that are one broker, and what they say of themselves.
//!
//! Not here: how they are run (`containers`), and what can be done to one of them ([`Rabbitmq`]).

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use serde_json::Value;

use crate::Rabbitmq;
use crate::given::encode;
use crate::sandbox::Login;
use crate::server::{START_PATIENCE, Server};

/// The fewest of which one can be missed.
pub(crate) const NODES: usize = 3;

/// Time in which a node finds its way back by itself, if it does at all.
const FINDS_BACK: Duration = Duration::from_secs(30);

/// A node as the broker names it, `rabbit@HOST`, and not yet started.
pub(crate) type Node = (String, Box<dyn Server>);

/// Where a quorum queue is. The numbers are those of [`Cluster::nodes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Who leads it; `None` if none of the nodes that are asked knows.
    pub leader: Option<usize>,
    /// Nodes that have it.
    pub all: Vec<usize>,
    /// Those of them that can be reached.
    pub online: Vec<usize>,
}

/// A broker of three nodes, in containers. Dropping it removes them and their network; so does the end of this
/// process, however it comes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Rabbitmq>,
    names: Vec<String>,
}

impl Cluster {
    /// Starts the nodes side by side and waits until each sees all others. Must run on a tokio runtime that lives as
    /// long as the cluster.
    ///
    /// # Errors
    /// If there is no Docker engine or no image, or the nodes do not find each other within 120 s.
    pub async fn start() -> anyhow::Result<Self> {
        let (prepared, login) = prepare().await?;
        let (names, servers): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
        let starting = servers
            .into_iter()
            .map(|server| Rabbitmq::start_new(server, &login));
        let nodes = try_join_all(starting)
            .await
            .context("a node does not start")?;
        let cluster = Self { nodes, names };
        cluster.until_whole(START_PATIENCE).await?;
        Ok(cluster)
    }

    /// The nodes, in the order of their names.
    pub fn nodes(&self) -> &[Rabbitmq] {
        &self.nodes
    }

    /// The names by which the broker knows them, as `rabbit@HOST`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `host:port` of each node, through its proxy, with commas between.
    pub fn addresses(&self) -> String {
        let addresses = self.nodes.iter().map(|node| node.link().address());
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        addresses.join(",")
    }

    /// A call of the management API of a node that nothing was done to.
    ///
    /// # Errors
    /// As [`Rabbitmq::management`], or if there is no such node.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        for node in &self.nodes {
            if node.is_well().await {
                return node.management(method, path, body).await;
            }
        }
        bail!("no node is well")
    }

    /// Where a queue is now, as a node says that nothing was done to.
    ///
    /// # Errors
    /// If it is no quorum queue, or the management API does not answer.
    pub async fn members(&self, vhost: &str, queue: &str) -> anyhow::Result<Members> {
        let path = format!("/api/queues/{}/{}", encode(vhost), encode(queue));
        let queue = self.management("GET", &path, None).await?;
        let number = |name: &Value| self.names.iter().position(|known| name == known.as_str());
        let numbers = |key: &str| -> anyhow::Result<Vec<usize>> {
            let names = queue[key].as_array();
            let names = names.with_context(|| format!("the queue has no {key}: {queue}"))?;
            let mut numbers: Vec<usize> = names.iter().filter_map(number).collect();
            numbers.sort_unstable();
            Ok(numbers)
        };
        Ok(Members {
            leader: number(&queue["leader"]),
            all: numbers("members")?,
            online: numbers("online")?,
        })
    }

    /// Takes a queue off a node, or puts it on one.
    ///
    /// # Errors
    /// If the management API refuses or does not answer.
    pub async fn set_member(
        &self,
        vhost: &str,
        queue: &str,
        node: usize,
        is_member: bool,
    ) -> anyhow::Result<()> {
        let name = self.names.get(node).context("no such node")?;
        let (method, verb) = match is_member {
            true => ("POST", "add"),
            false => ("DELETE", "delete"),
        };
        let path = format!(
            "/api/queues/quorum/{}/{}/replicas/{verb}",
            encode(vhost),
            encode(queue)
        );
        let body = serde_json::json!({ "node": name });
        self.management(method, &path, Some(body)).await.map(drop)
    }

    async fn until_whole(&self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let Err(why) = self.is_whole().await else {
                return Ok(());
            };
            if begin.elapsed() > patience {
                return Err(why).context("the nodes are no cluster");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn is_whole(&self) -> anyhow::Result<()> {
        for (node, name) in self.nodes.iter().zip(&self.names) {
            let seen = node.management("GET", "/api/nodes", None).await?;
            let seen = seen.as_array().context("no list of nodes")?;
            let running = seen.iter().filter(|node| node["running"] == true).count();
            ensure!(
                running == NODES,
                "{name} sees {running} of {NODES} nodes running"
            );
        }
        Ok(())
    }

    /// Undoes whatever was done to the nodes, and waits until each sees all others. A node that was held or cut off
    /// may go on as a cluster of its own: if it does not find its way back, it is restarted, as an operator has to, and
    /// returned.
    ///
    /// # Errors
    /// If one does not come back.
    pub async fn restore(&self) -> anyhow::Result<Vec<usize>> {
        let mut apart = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.restore().await? {
                apart.push(number);
            }
        }
        if self.until_whole(FINDS_BACK).await.is_ok() {
            return Ok(Vec::new());
        }
        for number in &apart {
            self.nodes[*number].stop().await?;
            self.nodes[*number].start().await?;
        }
        self.until_whole(START_PATIENCE).await?;
        Ok(apart)
    }

    /// As in `three nodes of RabbitMQ 4.0.5`.
    pub fn describe(&self) -> String {
        let version = self.nodes.first().map_or("", Rabbitmq::version);
        format!("three nodes of RabbitMQ {version}")
    }

    /// Removes the nodes and their network. Nothing of them is kept, so they are not asked to stop first.
    ///
    /// # Errors
    /// Never in practice: only if the runtime is shutting down.
    pub async fn remove(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || drop(self))
            .await
            .context("cannot clean up")
    }
}

#[cfg(feature = "containers")]
async fn prepare() -> anyhow::Result<(Vec<Node>, Login)> {
    crate::containers::prepare_cluster().await
}

#[cfg(not(feature = "containers"))]
#[expect(
    clippy::unused_async,
    reason = "the same shape as with the feature, which awaits the engine"
)]
async fn prepare() -> anyhow::Result<(Vec<Node>, Login)> {
    bail!("containers are not built in: build with the feature `containers`")
}

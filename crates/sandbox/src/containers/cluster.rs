//! Nodes of one broker in containers, on a network of their own.
//!
//! Not here: what can be done to one of them.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use testcontainers::bollard::models::{
    EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::{GenericImage, ImageExt};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::images::RABBITMQ;
use super::requests::rabbitmq_request;
use super::{AMQP_PORT, Container, MANAGEMENT_PORT, USER, apart, connect};
use crate::cluster::{NODES, Node};
use crate::reaper::Reaper;
use crate::sandbox::Login;

/// As `REAP`, and then the network named by the first argument, which can go when nothing is in it any more.
const REAP: &str = r#"
trap '' INT TERM HUP QUIT
while read -r line; do :; done
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
ask() { curl --silent --unix-socket "${socket#unix://}" -X DELETE "http://localhost/$1"; }
network=$1
shift
for try in 1 2 3; do
    docker rm --force --volumes "$@" || for name in "$@"; do ask "containers/$name?force=1&v=1"; done
    docker network rm "$network" || ask "networks/$network"
    sleep 1
done
"#;

/// A network, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    is_ours: bool,
}

impl Network {
    async fn make(name: String) -> anyhow::Result<Self> {
        let request = NetworkCreateRequest {
            name: name.clone(),
            ..NetworkCreateRequest::default()
        };
        docker_client_instance()
            .await?
            .create_network(request)
            .await
            .context("cannot make a network")?;
        Ok(Self {
            name,
            is_ours: true,
        })
    }

    /// The one that a container is on that was told of no other.
    pub(super) fn of_the_engine() -> Self {
        Self {
            name: "bridge".to_owned(),
            is_ours: false,
        }
    }

    /// Takes a container off, which then has no network at all.
    pub(super) async fn leave(&self, container: &str) -> anyhow::Result<()> {
        let request = NetworkDisconnectRequest {
            container: container.to_owned(),
            force: None,
        };
        docker_client_instance()
            .await?
            .disconnect_network(&self.name, request)
            .await
            .context("cannot take a container off its network")?;
        ensure!(!self.has(container).await?, "the container is still on it");
        Ok(())
    }

    /// Puts a container back, unless it is there.
    pub(super) async fn join(&self, container: &str) -> anyhow::Result<()> {
        if self.has(container).await? {
            return Ok(());
        }
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: None,
        };
        docker_client_instance()
            .await?
            .connect_network(&self.name, request)
            .await
            .context("cannot put a container on its network")?;
        ensure!(self.has(container).await?, "the container is not on it");
        Ok(())
    }

    async fn has(&self, container: &str) -> anyhow::Result<bool> {
        Ok(self.end_at(container).await?.is_some())
    }

    /// The address of a container on it.
    pub(super) async fn address_of(&self, container: &str) -> anyhow::Result<IpAddr> {
        let end = self.end_at(container).await?;
        let address = end.and_then(|end| end.ip_address);
        let address = address
            .with_context(|| format!("the container is not on the network {}", self.name))?;
        address
            .parse()
            .with_context(|| format!("{address:?} is no address"))
    }

    async fn end_at(&self, container: &str) -> anyhow::Result<Option<EndpointSettings>> {
        let inspected = docker_client_instance()
            .await?
            .inspect_container(container, None)
            .await
            .context("cannot ask for a container's networks")?;
        let networks = inspected
            .network_settings
            .and_then(|settings| settings.networks);
        Ok(networks.and_then(|mut networks| networks.remove(&self.name)))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        let name = std::mem::take(&mut self.name);
        apart(async move {
            let engine = docker_client_instance().await?;
            engine
                .remove_network(&name)
                .await
                .context("a network is left")
        })
        // The reaper tries again.
        .ok();
    }
}

/// The nodes of one broker, prepared and not yet started. On their network a container's name leads to it, so that it
/// is the host's name as well, and with it the node's.
pub(crate) async fn prepare_cluster() -> anyhow::Result<(Vec<Node>, Login)> {
    let engine = connect().await?;
    let login = Login {
        user: USER.to_owned(),
        password: Uuid::now_v7().simple().to_string(),
    };
    let mark = Uuid::now_v7().simple().to_string();
    let network = format!("paidonce-cluster-{mark}");
    let hosts: Vec<String> = (1..=NODES).map(|n| format!("broker{n}-{mark}")).collect();
    let arguments: Vec<&OsStr> = std::iter::once(&network)
        .chain(&hosts)
        .map(OsStr::new)
        .collect();
    let reaper = Arc::new(Reaper::start(REAP, &arguments, None)?);
    let network = Arc::new(Network::make(network).await?);
    let image = RABBITMQ.choose(&engine).await?;
    let nodes = hosts
        .iter()
        .map(|host| -> Node {
            let node = node(&image, host, &hosts, &login, &network, &reaper);
            (format!("rabbit@{host}"), Box::new(node))
        })
        .collect();
    Ok((nodes, login))
}

fn node(
    image: &GenericImage,
    host: &str,
    hosts: &[String],
    login: &Login,
    network: &Arc<Network>,
    reaper: &Arc<Reaper>,
) -> Container {
    let request = rabbitmq_request(image.clone(), login)
        .with_container_name(host)
        .with_hostname(host)
        .with_network(&network.name)
        // The nodes let each other in by it; as secret as the password.
        .with_env_var("RABBITMQ_ERLANG_COOKIE", &login.password)
        .with_copy_to(
            "/etc/rabbitmq/conf.d/91-cluster.conf",
            formation(hosts).into_bytes(),
        );
    Container {
        request: Mutex::new(Some(request)),
        ports: &[AMQP_PORT, MANAGEMENT_PORT],
        tool: "rabbitmqctl",
        container: OnceCell::new(),
        network: Arc::clone(network),
        _reaper: Arc::clone(reaper),
    }
}

/// What makes one broker of the nodes. All else that a cluster can be told is as it comes.
fn formation(hosts: &[String]) -> String {
    let mut text = String::from(
        "cluster_formation.peer_discovery_backend = classic_config\n\
         # A node that sees no majority stops serving until it does.\n\
         cluster_partition_handling = pause_minority\n",
    );
    for (number, host) in (1..).zip(hosts) {
        text.push_str(&format!(
            "cluster_formation.classic_config.nodes.{number} = rabbit@{host}\n"
        ));
    }
    text
}

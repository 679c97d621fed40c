//! The broker of a scenario: the one that all share, or three nodes of its own.
//!
//! Not here: what is done to it.

use anyhow::{Context as _, ensure};
use sandbox::{Backend, Cluster, Sandbox};

use super::Stack;
use crate::process::Instance;
use crate::stack::OWN_PASSWORD;
use crate::ways::Far;

/// Starts three nodes with the virtual host of a scenario.
pub(super) async fn start_cluster(sandbox: &Sandbox, vhost: &str) -> anyhow::Result<Cluster> {
    ensure!(
        sandbox.backend() == Backend::Docker,
        "three nodes of the broker run in containers only: --backend docker"
    );
    let cluster = Cluster::start().await?;
    cluster.nodes()[0].create_vhost(vhost).await?;
    Ok(cluster)
}

impl Stack {
    /// The three nodes.
    ///
    /// # Errors
    /// If the scenario has asked for no such broker.
    pub(crate) fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("the broker is one node")
    }

    /// Brings back the nodes that are gone, where there are several.
    ///
    /// # Errors
    /// If one does not come back.
    pub(crate) async fn restore_cluster(&self) -> anyhow::Result<()> {
        match &self.cluster {
            Some(cluster) => {
                for node in cluster.restore().await? {
                    println!("node {} had to be restarted", node + 1);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `amqp://...` of the virtual host.
    pub(crate) fn amqp_url(&self) -> String {
        match &self.cluster {
            Some(cluster) => cluster.nodes()[0].url(&self.vhost),
            None => self.sandbox.rabbitmq.url(&self.vhost),
        }
    }

    /// What a process is told of the broker, `NAME` of each `RABBITMQ__NAME`.
    pub(super) fn broker_settings(
        &self,
        instance: Instance,
    ) -> anyhow::Result<Vec<(&'static str, String)>> {
        let mut told = match &self.cluster {
            // The broker may be without its majority: nothing may be deleted because it is silent.
            Some(cluster) => {
                let [first, .., last] = cluster.nodes() else {
                    anyhow::bail!("the cluster is one node");
                };
                vec![
                    ("HOST", cluster.addresses()),
                    ("USER", first.user().to_owned()),
                    ("PASSWORD", first.password().to_owned()),
                    ("MANAGEMENT_URL", last.management_url()),
                ]
            }
            None => {
                let rabbitmq = &self.sandbox.rabbitmq;
                let (user, password) = match self.settings.own_login {
                    true => (self.vhost.as_str(), OWN_PASSWORD),
                    false => (rabbitmq.user(), rabbitmq.password()),
                };
                let port = self.ways.to(instance, Far::Broker)?.address().port();
                let mut told = vec![
                    ("HOST", rabbitmq.host().to_owned()),
                    ("PORT", port.to_string()),
                    ("USER", user.to_owned()),
                    ("PASSWORD", password.to_owned()),
                    ("HEAL_WEDGED", "on".to_owned()),
                ];
                if self.settings.management {
                    told.push(("MANAGEMENT_URL", rabbitmq.management_url()));
                }
                told
            }
        };
        told.push(("VHOST", self.vhost.clone()));
        Ok(told)
    }
}

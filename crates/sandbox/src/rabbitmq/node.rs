//! What can be done to a RabbitMQ that is one node among others.
//!
//! Not here: which nodes there are (`cluster`).

use anyhow::Context;

use super::Rabbitmq;
use crate::Link;
use crate::server::State;

impl Rabbitmq {
    /// Takes a node of a [`Cluster`](crate::Cluster) off the network that the nodes share, and its clients' way with
    /// it: connections stay open and nothing arrives.
    ///
    /// # Errors
    /// If it does not run, or is no node of a cluster.
    pub async fn cut_off(&self) -> anyhow::Result<()> {
        // First: when the network goes, the engine closes the published ports, which a cut line never does.
        self.set_links(Link::Stalled);
        let cut = self.lifecycle.cut_off().await;
        if cut.is_err() {
            self.set_links(Link::Up);
        }
        cut.context("cannot cut RabbitMQ off")
    }

    /// Puts it back, and opens its clients' way. What was under way is lost.
    ///
    /// # Errors
    /// If it is not cut off, or is not put back.
    pub async fn rejoin(&self) -> anyhow::Result<()> {
        let ports = self.lifecycle.rejoin().await?;
        self.lead_to(ports)?;
        self.set_links(Link::Up);
        Ok(())
    }

    /// Undoes what was last done to it, and returns whether it ran meanwhile without the others.
    pub(crate) async fn restore(&self) -> anyhow::Result<bool> {
        let state = self.lifecycle.state().await;
        match state {
            State::Running => {}
            State::Down => self.start().await?,
            State::Frozen => self.thaw().await?,
            State::CutOff => self.rejoin().await?,
        }
        Ok(matches!(state, State::Frozen | State::CutOff))
    }

    /// Whether it has been started and nothing was done to it since.
    pub async fn is_well(&self) -> bool {
        self.lifecycle.state().await == State::Running
    }

    fn set_links(&self, link: Link) {
        self.proxy.set_link(link);
        self.management_proxy.set_link(link);
    }
}

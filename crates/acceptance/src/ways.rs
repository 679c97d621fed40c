//! The network of one scenario: each service reaches its database and the broker on a way of its own, and where a
//! balancer is asked for, the gateway reaches the services through it. A way can be harmed for this scenario alone.
//!
//! Not here: what is expected meanwhile.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use sandbox::{Proxy, Sandbox};

use crate::process::{Instance, Service};

/// Where a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Far {
    Database,
    Broker,
}

/// All ways of one scenario. They lead to the sandbox's own proxies, whose addresses stay the same over restarts.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    out: BTreeMap<(Instance, Far), Proxy>,
    balancers: BTreeMap<Service, (Proxy, Vec<SocketAddr>)>,
}

impl Ways {
    /// Makes the ways of one process, unless they are there.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) async fn admit(
        &mut self,
        instance: Instance,
        sandbox: &Sandbox,
    ) -> anyhow::Result<()> {
        if instance.service == Service::Gateway {
            return Ok(());
        }
        for (far, port) in [
            (Far::Database, sandbox.postgres.port()),
            (Far::Broker, sandbox.rabbitmq.port()),
        ] {
            if let Entry::Vacant(none) = self.out.entry((instance, far)) {
                let way = Proxy::start(local(port)).await;
                none.insert(way.context("no port for a way")?);
            }
        }
        Ok(())
    }

    /// Puts a process behind its service's balancer, which is made for the first one.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) async fn balance(&mut self, service: Service, port: u16) -> anyhow::Result<()> {
        let address = local(port);
        let Some((proxy, behind)) = self.balancers.get_mut(&service) else {
            let proxy = Proxy::start(address).await.context("no port for a way")?;
            self.balancers.insert(service, (proxy, vec![address]));
            return Ok(());
        };
        if !behind.contains(&address) {
            behind.push(address);
            proxy.set_targets(behind.clone());
        }
        Ok(())
    }

    /// The way from a process to its database or to the broker.
    ///
    /// # Errors
    /// If the process was never started; the gateway has none.
    pub(crate) fn to(&self, instance: Instance, far: Far) -> anyhow::Result<&Proxy> {
        self.out
            .get(&(instance, far))
            .with_context(|| format!("{instance} has no such way"))
    }

    /// The balancer in front of a service, if there is one.
    pub(crate) fn balancer(&self, service: Service) -> Option<&Proxy> {
        self.balancers.get(&service).map(|(proxy, _)| proxy)
    }

    /// As if nothing had been done to any way.
    pub(crate) fn heal(&self) {
        for way in self.all() {
            way.heal();
        }
    }

    /// Every way.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Proxy> {
        let balancers = self.balancers.values().map(|(proxy, _)| proxy);
        self.out.values().chain(balancers)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

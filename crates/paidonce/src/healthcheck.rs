//! `paidonce healthcheck`: for containers that have no shell.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::config::GatewayConfig;
use orders::config::OrdersConfig;
use payments::config::PaymentsConfig;

use crate::cli::Service;

/// An answer later than this is no answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks the service's own ops port, as its environment says, whether requests are accepted.
pub(crate) async fn healthcheck(service: Service) -> anyhow::Result<bool> {
    let ops = match service {
        Service::Gateway => GatewayConfig::read()?.gateway.ops_listen,
        Service::Orders => OrdersConfig::read()?.orders.ops_listen,
        Service::Payments => PaymentsConfig::read()?.payments.ops_listen,
    };
    let url = format!("http://{}/health/accepting", reachable(ops));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .build()?;
    let response = client.get(url).send().await?;
    let healthy = response.status().is_success();
    println!("{}", response.text().await?);
    Ok(healthy)
}

/// Nothing can be asked at 0.0.0.0.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    addr
}

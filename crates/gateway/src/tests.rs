//! Promises of the whole gateway, over real sockets, with services that only pretend.

mod docs;
mod faults;
mod routes;

use std::time::Duration;

use chassis::env::{Listen, Stage};
use reqwest::{Client, Method, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use utoipa::OpenApi;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::Gateway;
use crate::config::GatewayConfig;
use crate::proxy::Limits;

/// A document as the composition root would hand one over.
#[derive(OpenApi)]
#[openapi(
    info(title = "paidonce", description = "Orders, paid exactly once."),
    paths(example),
    components(schemas(chassis::error::HTTPValidationError, chassis::error::ErrorBody))
)]
struct Document;

#[utoipa::path(
    get,
    path = "/v1/orders/{order_id}",
    tag = "orders",
    params(("order_id" = i64, Path), ("user_id" = i64, Query)),
    responses(
        (status = 200, description = "The order"),
        (status = 404, description = "No such order", body = chassis::error::ErrorBody),
        (status = 422, description = "Bad input", body = chassis::error::HTTPValidationError),
    )
)]
#[expect(dead_code, reason = "only its description is used")]
fn example() {}

struct Bench {
    address: std::net::SocketAddr,
    ops: std::net::SocketAddr,
    orders: MockServer,
    payments: MockServer,
    _running: DropGuard,
}

impl Bench {
    /// A gateway in front of two services that answer 200 to everything, with their name.
    async fn new() -> anyhow::Result<Self> {
        let bench = Self::with(Limits::default()).await?;
        for (service, name) in [(&bench.orders, "orders"), (&bench.payments, "payments")] {
            answer(service, ResponseTemplate::new(200).set_body_string(name)).await;
        }
        Ok(bench)
    }

    async fn with(limits: Limits) -> anyhow::Result<Self> {
        let orders = MockServer::start().await;
        let payments = MockServer::start().await;
        let (address, ops, running) = start(&orders.uri(), &payments.uri(), limits).await?;
        Ok(Self {
            address,
            ops,
            orders,
            payments,
            _running: running,
        })
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Response> {
        ask(self.address, method, path).await
    }

    /// Sends bytes as they are, and reads until the gateway closes.
    async fn say(&self, text: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8(answer)?)
    }

    /// What the services were asked, both together.
    async fn received(&self) -> Vec<Request> {
        let mut all = Vec::new();
        for service in [&self.orders, &self.payments] {
            all.extend(service.received_requests().await.unwrap_or_default());
        }
        all
    }
}

async fn start(
    orders: &str,
    payments: &str,
    limits: Limits,
) -> anyhow::Result<(std::net::SocketAddr, std::net::SocketAddr, DropGuard)> {
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = GatewayConfig {
        gateway: Listen {
            listen: local,
            ops_listen: local,
        },
        orders_service_url: orders.to_owned(),
        payments_service_url: payments.to_owned(),
        shutdown_timeout: Duration::from_secs(1),
        env: Stage::Dev,
    };
    let gateway = Gateway::bind_within(config, &Document::openapi(), limits).await?;
    let (address, ops) = (gateway.api_addr(), gateway.ops_addr());
    let shutdown = CancellationToken::new();
    let running = shutdown.clone().drop_guard();
    tokio::spawn(gateway.run(shutdown));
    Ok((address, ops, running))
}

async fn ask(
    address: std::net::SocketAddr,
    method: Method,
    path: &str,
) -> anyhow::Result<Response> {
    let client = Client::builder().no_proxy().build()?;
    let url = format!("http://{address}{path}");
    Ok(client.request(method, url).send().await?)
}

async fn answer(service: &MockServer, response: ResponseTemplate) {
    Mock::given(any())
        .respond_with(response)
        .mount(service)
        .await;
}

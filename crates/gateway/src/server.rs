//! The gateway as a whole: two listeners, one table of routes, one way out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{MethodFilter, MethodRouter};
use chassis::http::{both, shell};
use chassis::ports::Ports;
use chassis::serve::serve;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::config::GatewayConfig;
use crate::proxy::{Limits, Proxy};
use crate::routes::{ROUTES, Route};
use crate::{docs, health};

/// A gateway that listens but does not answer yet.
#[derive(Debug)]
pub struct Gateway {
    ports: Ports,
    api_router: Router,
    ops_router: Router,
    shutdown_timeout: Duration,
}

impl Gateway {
    /// Takes both ports. `openapi` is the document of the whole system, shown at `/docs`.
    ///
    /// # Errors
    /// When a port is taken, or an upstream's URL is not one.
    pub async fn bind(config: GatewayConfig, openapi: OpenApi) -> anyhow::Result<Self> {
        Self::bind_within(config, &openapi, Limits::default()).await
    }

    pub(crate) async fn bind_within(
        config: GatewayConfig,
        openapi: &OpenApi,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let proxy = Arc::new(Proxy::new(&config, limits)?);
        let ports = Ports::bind("GATEWAY", &config.gateway).await?;
        let api_router = api_routes(&proxy)
            .merge(docs::router(openapi)?)
            .merge(health::public_router(Arc::clone(&proxy)));
        Ok(Self {
            ports,
            api_router: shell(api_router),
            ops_router: shell(health::checks(&proxy).router()),
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    /// Where clients are served.
    pub fn api_addr(&self) -> SocketAddr {
        self.ports.api_addr()
    }

    /// Where operators are served.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ports.ops_addr()
    }

    /// Serves until `shutdown`, then finishes the requests under way. The ops port stays open
    /// while they are, so that the end can be watched.
    ///
    /// # Errors
    /// None so far; the type leaves room for faults that end a gateway.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (api, ops) = (self.ports.api_addr(), self.ports.ops_addr());
        tracing::info!(%api, %ops, "gateway serves {api} (ops {ops})");
        let limit = self.shutdown_timeout;
        self.ports
            .serve_ops_beside(self.ops_router, |listener| {
                serve(listener, self.api_router, shutdown, limit)
            })
            .await;
        Ok(())
    }
}

/// Every route of the table, with and without its trailing slash.
fn api_routes(proxy: &Arc<Proxy>) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| {
            both(router, route.path, methods(route))
        })
        .with_state(Arc::clone(proxy))
}

fn methods(route: &'static Route) -> MethodRouter<Arc<Proxy>> {
    route
        .methods
        .iter()
        // Only methods that axum has a filter for are in the table; a test asks each of them.
        .filter_map(|method| MethodFilter::try_from(method.clone()).ok())
        .fold(MethodRouter::new(), |methods, filter| {
            methods.on(
                filter,
                move |State(proxy): State<Arc<Proxy>>, request: Request| async move {
                    proxy.forward(route, request).await
                },
            )
        })
}

//! Handing a request to a service and its answer back. Nothing of the answer is changed but its
//! headers, and a write is never sent twice.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use chassis::error::{ApiError, chain};
use chassis::extract::read_body;
use chassis::serve::PATIENCE;
use http::Method;
use http::header::CONTENT_LENGTH;
use reqwest::{Client, Url, redirect};

use crate::config::{GatewayConfig, base_url};
use crate::forwarding;
use crate::routes::{Route, Upstream};

/// Idle connections are closed before the services do it (after 75 s), so that a request seldom
/// meets a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// How long the services may be silent within an answer. Above the pings of an event stream.
const READ_SILENCE: Duration = Duration::from_secs(30);

/// How long a service may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the connection.
    pub(crate) connect: Duration,
    /// For the head of the answer, connection included: more than the service's own patience, and less
    /// than the ten seconds that a client is promised.
    pub(crate) answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            answer: PATIENCE + Duration::from_secs(1),
        }
    }
}

/// The way to the services.
#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    limits: Limits,
    orders: Target,
    payments: Target,
}

#[derive(Debug)]
struct Target {
    base: Url,
    /// So that an outage is told once when it begins and once when it ends.
    is_down: AtomicBool,
}

impl Proxy {
    pub(crate) fn new(config: &GatewayConfig, limits: Limits) -> anyhow::Result<Self> {
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .connect_timeout(limits.connect)
            .read_timeout(READ_SILENCE)
            .build()
            .context("cannot make the HTTP client")?;
        let target = |variable, text: &str| -> anyhow::Result<Target> {
            Ok(Target {
                base: base_url(variable, text)?,
                is_down: AtomicBool::new(false),
            })
        };
        Ok(Self {
            client,
            limits,
            orders: target("ORDERS_SERVICE_URL", &config.orders_service_url)?,
            payments: target("PAYMENTS_SERVICE_URL", &config.payments_service_url)?,
        })
    }

    /// Answers a request that matched `route` with what the service says.
    pub(crate) async fn forward(
        &self,
        route: &Route,
        request: Request,
    ) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let path = route
            .upstream_path(parts.uri.path())
            .ok_or_else(ApiError::no_such_path)?;
        let peer = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(peer)| *peer);
        let mut url = self.target(route.upstream).base.clone();
        url.set_path(&path);
        url.set_query(parts.uri.query());
        let mut sent = reqwest::Request::new(parts.method.clone(), url);
        *sent.headers_mut() = forwarding::of_request(&parts.headers, peer);
        if parts.method == Method::POST {
            // Whole in memory first: a slow sender must not hold a connection to a service.
            let bytes = read_body(&parts.headers, body).await?;
            *sent.body_mut() = Some(bytes.into());
        }
        let answer = tokio::time::timeout(self.limits.answer, self.send(sent)).await;
        let answered = match answer {
            Ok(answered) => answered,
            Err(_) => {
                self.note(route.upstream, Some("no answer in time"));
                return Err(ApiError::upstream_timeout());
            }
        };
        match answered {
            Ok(answer) => {
                self.note(route.upstream, None);
                Ok(passed_on(&parts.method, answer))
            }
            Err(error) => {
                self.note(route.upstream, Some(&chain(&error.without_url())));
                Err(ApiError::upstream_unreachable())
            }
        }
    }

    /// Sends once; a read that found no connection, or one that was just being closed, once more.
    /// A write is never repeated: it may have arrived.
    async fn send(&self, request: reqwest::Request) -> reqwest::Result<reqwest::Response> {
        let may_repeat = matches!(*request.method(), Method::GET | Method::HEAD);
        let again = request.try_clone().filter(|_| may_repeat);
        match (self.client.execute(request).await, again) {
            (Err(error), Some(again)) if !error.is_timeout() => self.client.execute(again).await,
            (answer, _) => answer,
        }
    }

    /// Whether a service takes requests, by its own word.
    pub(crate) async fn is_accepting(&self, upstream: Upstream) -> Result<(), String> {
        let mut url = self.target(upstream).base.clone();
        url.set_path("/health/accepting");
        let asked = self.client.get(url).timeout(Duration::from_millis(1_500));
        match asked.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("answers {}", answer.status().as_u16())),
            Err(error) => Err(chain(&error.without_url())),
        }
    }

    fn target(&self, upstream: Upstream) -> &Target {
        match upstream {
            Upstream::Orders => &self.orders,
            Upstream::Payments => &self.payments,
        }
    }

    /// Logs when a service stops answering and when it answers again, not each request between.
    fn note(&self, upstream: Upstream, fault: Option<&str>) {
        let name = upstream.name();
        let was_down = self
            .target(upstream)
            .is_down
            .swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(fault) if !was_down => {
                tracing::warn!(upstream = name, "{name} does not answer: {fault}");
            }
            None if was_down => tracing::info!(upstream = name, "{name} answers again"),
            _ => {}
        }
    }
}

/// The answer as the client gets it: status and body as they are, the body while it comes in. One
/// that breaks off breaks the client's connection, so it is never taken for whole.
fn passed_on(method: &Method, answer: reqwest::Response) -> Response {
    let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
    let mut headers = forwarding::of_response(&parts.headers);
    let body = if *method == Method::HEAD {
        // The length is that of the GET; the body that is not there must not be taken for one of
        // no bytes.
        if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, length.clone());
        }
        Body::from_stream(futures::stream::empty::<Result<Bytes, Infallible>>())
    } else {
        Body::new(body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

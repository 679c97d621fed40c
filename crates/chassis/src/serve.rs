//! Serving HTTP/1.1 with every wait bounded: for a request's head, between requests, and for a
//! client that does not read its answer. axum's own `serve` bounds none of them.
//!
//! Time limits for bodies are the extractors' business, those for answers the handlers'.

mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::error::ApiError;
use crate::http::refuse;
use stream::{BoundedStream, Phase};

/// How long a service may wait for what it needs until it tells its client that it cannot. Whoever asks on behalf of
/// another waits for longer, and so hears why.
pub const PATIENCE: Duration = Duration::from_secs(7);

/// Pause after an accept that failed for want of resources, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may keep us waiting.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For the head of a request, from its first byte (or from the connect).
    head: Duration,
    /// Between two requests. Longer than any client of ours keeps an idle connection.
    idle: Duration,
    /// For a client to take more of its answer.
    write: Duration,
}

const LIMITS: Limits = Limits {
    head: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(30),
};

/// Serves `router` on `listener` until `shutdown`, then finishes what is under way. Resolves when
/// all connections have ended, or cuts the rest when `limit` has passed after shutdown.
///
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limit: Duration,
) {
    serve_within(listener, router, shutdown, limit, LIMITS).await;
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limit: Duration,
    limits: Limits,
) {
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), limits);
                let connection = graceful.watch(connection);
                let cut = cut.clone();
                connections.spawn(async move {
                    // How a connection ended is the client's business; answers are told by shell.
                    cut.run_until_cancelled(connection).await;
                });
            }
            Err(error) => survive(&error, &shutdown).await,
        }
    }
    // New clients are refused from here on, so that a load balancer goes elsewhere.
    drop(listener);
    if tokio::time::timeout(limit, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("cutting {} connections that did not end", connections.len());
        cut.cancel();
    }
    connections.close();
    connections.wait().await;
}

/// A client that left before it was accepted is no reason to wait; a lack of descriptors is.
async fn survive(error: &io::Error, shutdown: &CancellationToken) {
    let is_about_the_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !is_about_the_client {
        tracing::warn!("cannot accept connections: {error}");
        shutdown
            .run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE))
            .await;
    }
}

/// One connection, ready to be driven.
fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    // Without it a small answer may wait 40 ms for an acknowledgement. A socket that refuses the
    // option is broken and ends by itself.
    drop(stream.set_nodelay(true));
    let phase = Arc::new(Phase::default());
    let stream = BoundedStream::new(stream, limits, Arc::clone(&phase));
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let phase = Arc::clone(&phase);
        async move {
            let head = phase.begin_request();
            let response = answer(request, &head, peer, router).await;
            Ok::<_, Infallible>(response.map(|body| Watched { body, phase }))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        // Hyper's own limit also counts the idle time between requests; ours does not.
        .header_read_timeout(None)
        .max_buf_size(stream::HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
}

async fn answer(
    request: Request<Incoming>,
    head: &[u8],
    peer: SocketAddr,
    router: Router,
) -> Response {
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return refuse(ApiError::bad_request("Invalid host header").closing()).await;
    }
    if is_length_ambiguous(request.headers(), head) {
        return refuse(ApiError::bad_request("Ambiguous body length").closing()).await;
    }
    let mut request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Two lengths for one body are the root of request smuggling: whoever stands in front may have
/// believed the other one. Hyper drops a `Content-Length` beside a `Transfer-Encoding` silently, so
/// the bytes as they came are looked at; where they came along with the request before and were
/// not kept, a `Transfer-Encoding` is refused.
fn is_length_ambiguous(headers: &HeaderMap, head: &[u8]) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    match (encodings.next(), encodings.next()) {
        (None, _) => lengths.max(stream::content_lengths(head)) > 1,
        (Some(only), None) => {
            !only.as_bytes().eq_ignore_ascii_case(b"chunked")
                || head.is_empty()
                || stream::content_lengths(head) > 0
        }
        (Some(_), Some(_)) => true,
    }
}

/// A response body that tells the connection when the response is over.
struct Watched {
    body: axum::body::Body,
    phase: Arc<Phase>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.phase.end_request();
    }
}

#[cfg(test)]
mod tests;

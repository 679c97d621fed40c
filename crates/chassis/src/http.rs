//! What every API port has around its routes: the request's identity, JSON answers for unknown
//! paths, wrong methods and panics, and security headers. Routes themselves live in the services.

mod context;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use futures::FutureExt as _;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue};
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::tasks::panic_text;
use context::Context;

pub(crate) use context::{current, within};
pub use context::{request_id, traceparent};

/// The header that carries a request's id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The W3C trace context header, both ways.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Wraps a router with what every API port has: the request's id and trace (accepted where well
/// formed, else made anew; answered, logged, in reach of [`request_id`]), a panic as 500, an
/// unknown path as 404, a wrong method as 405 with `Allow`, `nosniff` and `no-store`.
///
/// There is no time limit here: a write under way must be told the truth, not a guess.
pub fn shell(router: Router) -> Router {
    router
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .fallback(|| async { ApiError::no_such_path() })
        .layer(middleware::from_fn(around))
}

/// Registers a path with and without its trailing slash.
pub fn both<S>(router: Router<S>, path: &str, methods: MethodRouter<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let bare = path.trim_end_matches('/');
    router
        .route(bare, methods.clone())
        .route(&format!("{bare}/"), methods)
}

async fn around(request: Request, next: Next) -> Response {
    let context = Arc::new(Context::of(request.headers()));
    let span = tracing::info_span!(
        "request",
        request_id = context.request_id(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let answer = async {
        let response = match answer.await {
            Ok(response) => response,
            Err(panic) => {
                tracing::error!("request panicked: {}", panic_text(&*panic));
                ApiError::internal_silent().into_response()
            }
        };
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    };
    let response = within(Some(Arc::clone(&context)), answer.instrument(span)).await;
    finish(response, &context)
}

/// Answers an error that is found before any route is asked.
pub(crate) async fn refuse(error: ApiError) -> Response {
    let context = Arc::new(Context::new());
    let response = within(Some(Arc::clone(&context)), async { error.into_response() }).await;
    finish(response, &context)
}

fn finish(mut response: Response, context: &Context) -> Response {
    let headers = response.headers_mut();
    // Both were checked to be visible ASCII, or made here.
    if let Ok(value) = HeaderValue::from_str(context.request_id()) {
        headers.insert(X_REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(context.traceparent()) {
        headers.insert(TRACEPARENT, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use http::{Method, StatusCode};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    fn router() -> Router {
        let things = get(|| async { request_id() }).post(|| async { "made" });
        let router = both(Router::new(), "/v1/things/", things);
        shell(router.route("/panic", get(|| async { panic!("in a handler") as &str })))
    }

    struct Answer {
        status: StatusCode,
        headers: http::HeaderMap,
        body: String,
    }

    async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = router().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body).expect("text"),
        }
    }

    #[tokio::test]
    async fn both_spellings_are_served_for_every_method() {
        for path in ["/v1/things", "/v1/things/"] {
            assert_eq!(ask(Method::GET, path, &[]).await.status, 200);
            assert_eq!(ask(Method::POST, path, &[]).await.body, "made");
            let head = ask(Method::HEAD, path, &[]).await;
            assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
        }
    }

    #[tokio::test]
    async fn an_unknown_path_is_a_404_in_json() {
        let answer = ask(Method::GET, "/nowhere", &[("x-request-id", "abc")]).await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.body,
            r#"{"detail":"Not Found","code":"not_found","request_id":"abc"}"#
        );
    }

    #[tokio::test]
    async fn a_wrong_method_is_a_405_in_json_with_allow() {
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let answer = ask(method, "/v1/things", &[("x-request-id", "abc")]).await;
            assert_eq!(answer.status, 405);
            assert_eq!(answer.headers["allow"], "GET,HEAD,POST");
            assert_eq!(
                answer.body,
                r#"{"detail":"Method Not Allowed","code":"method_not_allowed","request_id":"abc"}"#
            );
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_500_in_json() {
        let answer = ask(Method::GET, "/panic", &[("x-request-id", "abc")]).await;
        assert_eq!(answer.status, 500);
        assert_eq!(
            answer.body,
            r#"{"detail":"Internal Server Error","code":"internal_error","request_id":"abc"}"#
        );
    }

    #[tokio::test]
    async fn the_request_id_is_kept_when_well_formed_and_made_anew_when_not() {
        let kept = ask(Method::GET, "/v1/things", &[("x-request-id", "abc-1")]).await;
        assert_eq!(kept.body, "abc-1");
        assert_eq!(kept.headers["x-request-id"], "abc-1");
        for bad in ["", "two words", "caf\u{e9}", &"x".repeat(129)] {
            let answer = ask(Method::GET, "/v1/things", &[("x-request-id", bad)]).await;
            assert_ne!(answer.body, bad);
            uuid::Uuid::parse_str(&answer.body).expect("a new id");
            assert_eq!(answer.headers["x-request-id"], answer.body.as_str());
        }
    }

    #[tokio::test]
    async fn every_answer_forbids_sniffing_and_storing() {
        for path in ["/v1/things", "/nowhere", "/panic"] {
            let answer = ask(Method::GET, path, &[]).await;
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert!(answer.headers.contains_key("traceparent"));
        }
    }
}

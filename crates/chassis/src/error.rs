//! The one error body of the API: `{"detail","code","request_id"}`, FastAPI's `detail` first.
//!
//! Which error a situation is, the services decide; how it looks on the wire is decided here. A
//! cause is logged, never answered.

mod code;
mod schema;

use std::borrow::Cow;
use std::error::Error;

use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::extract::Fault;
use crate::http::request_id;

pub use code::Code;
pub use schema::{ErrorBody, HTTPValidationError, ValidationError};

/// An error as a client sees it. Turn it into a response inside the request it belongs to: the
/// body carries that request's id.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    detail: Detail,
    retry_after_seconds: Option<u32>,
    closes_connection: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Detail {
    Text(Cow<'static, str>),
    Faults(Vec<Fault>),
}

#[derive(Serialize)]
struct Rendered<'a> {
    detail: &'a Detail,
    code: Code,
    request_id: String,
}

impl ApiError {
    fn new(status: StatusCode, code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            detail: Detail::Text(detail.into()),
            retry_after_seconds: None,
            closes_connection: false,
        }
    }

    /// 404.
    pub fn not_found(code: Code, detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 404 for a path that leads nowhere.
    pub fn no_such_path() -> Self {
        Self::not_found(Code::NotFound, "Not Found")
    }

    /// 405. Whoever knows the path's methods adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::MethodNotAllowed,
            "Method Not Allowed",
        )
    }

    /// 409.
    pub fn conflict(code: Code, detail: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 with FastAPI's list of faults.
    pub fn validation(faults: Vec<Fault>) -> Self {
        Self {
            detail: Detail::Faults(faults),
            ..Self::unprocessable(Code::ValidationError, "")
        }
    }

    /// 422 for a request that reads well but cannot be served, such as a reused key.
    pub fn unprocessable(code: Code, detail: &'static str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 400.
    pub fn bad_request(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, detail)
    }

    /// 400 with a code of its own, such as for a malformed `Idempotency-Key`.
    pub fn bad_request_with(code: Code, detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 413. Closes the connection, because the rest of the body is not read.
    pub fn payload_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::PayloadTooLarge,
            "Request Entity Too Large",
        )
        .closing()
    }

    /// 415.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UnsupportedMediaType,
            "Unsupported Media Type",
        )
    }

    /// 408. Closes the connection, because the rest of the request may still come.
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::RequestTimeout,
            "Request Timeout",
        )
        .closing()
    }

    /// 502: the service behind could not be reached, or broke off before it answered.
    pub fn upstream_unreachable() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            Code::UpstreamUnreachable,
            "Bad Gateway",
        )
    }

    /// 504: the service behind did not answer in time. Whether it acted is unknown.
    pub fn upstream_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            Code::UpstreamTimeout,
            "Gateway Timeout",
        )
    }

    /// 503 with `Retry-After: 1`.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            "Service Unavailable",
        )
        .retry_after(1)
    }

    /// 500 with a constant body; the cause is logged here, once, with all it stems from.
    pub fn internal(source: impl Error) -> Self {
        tracing::error!("request failed: {}", chain(&source));
        Self::internal_silent()
    }

    /// 500 for a cause that is already logged.
    pub(crate) fn internal_silent() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::InternalError,
            "Internal Server Error",
        )
    }

    /// Adds `Retry-After`, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds `Connection: close`.
    pub(crate) fn closing(mut self) -> Self {
        self.closes_connection = true;
        self
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code it is answered with.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The faults of a 422; empty for every other error.
    pub fn faults(&self) -> &[Fault] {
        match &self.detail {
            Detail::Faults(faults) => faults,
            Detail::Text(_) => &[],
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let rendered = Rendered {
            detail: &self.detail,
            code: self.code,
            request_id: request_id(),
        };
        // Texts and literals that were JSON before always render; an empty body is still an error.
        let body = serde_json::to_vec(&rendered).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes_connection {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An error and everything it stems from, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries print the cause in their own text already.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn body(error: ApiError) -> String {
        let body = error
            .into_response()
            .into_body()
            .collect()
            .await
            .expect("a body");
        String::from_utf8(body.to_bytes().to_vec()).expect("text")
    }

    #[tokio::test]
    async fn detail_comes_first_then_code_then_request_id() {
        assert_eq!(
            body(ApiError::not_found(Code::OrderNotFound, "Order not found")).await,
            r#"{"detail":"Order not found","code":"order_not_found","request_id":""}"#
        );
    }

    #[tokio::test]
    async fn the_cause_of_a_500_is_not_answered() {
        let cause = std::io::Error::other("select balance from accounts");
        assert_eq!(
            body(ApiError::internal(cause)).await,
            r#"{"detail":"Internal Server Error","code":"internal_error","request_id":""}"#
        );
    }

    #[test]
    fn unavailable_says_when_to_come_back() {
        let response = ApiError::unavailable().into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot record payment")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(chain(&error), "cannot record payment: disk full");
    }
}

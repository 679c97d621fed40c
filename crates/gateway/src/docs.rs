//! The documentation for clients: one page, the OpenAPI document, and the files of Swagger UI out
//! of the binary. The page loads nothing from elsewhere and says so to the browser.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::error::ApiError;
use chassis::http::both;
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa::openapi::OpenApi;

const PAGE: &str = include_str!("docs/page.html");
const START: &str = include_str!("docs/start.js");

/// Swagger UI sets styles on its elements; scripts and data come from here alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The files of Swagger UI that the page asks for.
const FILES: &[&str] = &[
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
];

/// `/docs`, the files under `/docs/assets`, and `/openapi.json`.
pub(crate) fn router(document: &OpenApi) -> anyhow::Result<Router> {
    let document: Arc<str> = document
        .to_json()
        .context("cannot render the OpenAPI document")?
        .into();
    let router = both(Router::new(), "/docs", get(page));
    let router = both(
        router,
        "/openapi.json",
        get(move || async move { openapi(&document) }),
    );
    Ok(router.route("/docs/assets/{file}", get(asset)))
}

async fn page() -> impl IntoResponse {
    (
        [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY),
        ],
        PAGE,
    )
}

fn openapi(document: &str) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}

async fn asset(Path(file): Path<String>) -> Result<Response, ApiError> {
    if file == "start.js" {
        return Ok(cached("text/javascript; charset=utf-8", START).into_response());
    }
    if !FILES.contains(&file.as_str()) {
        return Err(ApiError::no_such_path());
    }
    let found = utoipa_swagger_ui::serve(&file, Arc::default())
        .ok()
        .flatten()
        .ok_or_else(ApiError::no_such_path)?;
    let encoding = found.gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    let body = cached(&found.content_type, found.bytes.into_owned()).into_response();
    Ok(match encoding {
        Some(encoding) => (encoding, body).into_response(),
        None => body,
    })
}

/// Files change only with the binary; an hour spares them a reload on every look.
fn cached(content_type: &str, body: impl IntoResponse) -> impl IntoResponse {
    let headers: [(HeaderName, String); 2] = [
        (CONTENT_TYPE, content_type.to_owned()),
        (CACHE_CONTROL, "max-age=3600".to_owned()),
    ];
    (headers, body)
}

//! Health of the gateway: one word for the public, details for the ops port.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chassis::health::{Health, Scope};
use chassis::http::both;
use http::StatusCode;
use serde::Serialize;

use crate::proxy::Proxy;
use crate::routes::Upstream;

const OK: &str = "ok";
const UNAVAILABLE: &str = "unavailable";

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    orders: &'static str,
    payments: &'static str,
}

/// `/health/live` and `/health/ready` for the public port. Ready as long as one service takes
/// requests: half of the system is better than none.
pub(crate) fn public_router(proxy: Arc<Proxy>) -> Router {
    let live = get(|| async { Json(Live { status: OK }) });
    let router = both(Router::new(), "/health/live", live);
    both(router, "/health/ready", get(ready)).with_state(proxy)
}

/// The checks of the ops port, where every service counts.
pub(crate) fn checks(proxy: &Arc<Proxy>) -> Health {
    let health = Health::new("gateway");
    for upstream in Upstream::ALL {
        let proxy = Arc::clone(proxy);
        health.check(Scope::Ready, upstream.name(), move || {
            let proxy = Arc::clone(&proxy);
            async move {
                proxy
                    .is_accepting(upstream)
                    .await
                    .map(|()| "takes requests".to_owned())
            }
        });
    }
    health
}

async fn ready(State(proxy): State<Arc<Proxy>>) -> Response {
    let (orders, payments) = tokio::join!(
        proxy.is_accepting(Upstream::Orders),
        proxy.is_accepting(Upstream::Payments),
    );
    let (code, status) = if orders.is_ok() || payments.is_ok() {
        (StatusCode::OK, OK)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
    };
    let word = |asked: Result<(), String>| if asked.is_ok() { OK } else { UNAVAILABLE };
    let body = Ready {
        status,
        orders: word(orders),
        payments: word(payments),
    };
    (code, Json(body)).into_response()
}

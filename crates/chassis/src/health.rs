//! Health as answers over HTTP: alive, accepting requests, ready in every part.
//!
//! Whether a dependency is well is asked of closures that the service registers; nothing here
//! knows a database or a broker.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use http::StatusCode;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::http::both;
use crate::tasks::{TaskState, Tasks};

/// A dependency that has not answered within this time is red.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What a check counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Without it no request can be served, such as the own database. Part of ready too.
    Accepting,
    /// Without it requests are taken, but the work behind them waits.
    Ready,
}

/// The health of one service. Clones share the checks.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    service: &'static str,
    checks: RwLock<Vec<Check>>,
}

#[derive(Clone)]
struct Check {
    scope: Scope,
    name: &'static str,
    ask: Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Health")
            .field("service", &self.shared.service)
            .finish_non_exhaustive()
    }
}

impl Health {
    /// The health of `service`, which is well until a check says otherwise.
    pub fn new(service: &'static str) -> Self {
        Self {
            shared: Arc::new(Shared {
                service,
                checks: RwLock::default(),
            }),
        }
    }

    /// Adds a check. `ask` is called for each question and has two seconds: `Ok` is green with a
    /// detail, `Err` is red with the text as detail.
    pub fn check<F, Fut>(&self, scope: Scope, name: &'static str, ask: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        let ask = Arc::new(move || ask().boxed());
        self.shared
            .checks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Check { scope, name, ask });
    }

    /// Adds one check for all supervised tasks of a group, under the group's name: red while one
    /// has failed or was just restarted.
    pub fn check_tasks(&self, name: &'static str, tasks: &Tasks) {
        let tasks = tasks.clone();
        self.check(Scope::Ready, name, move || {
            let health = tasks.health();
            async move {
                let unwell: Vec<String> = health
                    .iter()
                    .filter(|(_, task)| task.state != TaskState::Up)
                    .map(|(name, task)| format!("{name} was restarted {} times", task.restarts))
                    .collect();
                if unwell.is_empty() {
                    Ok(format!("{} running", health.len()))
                } else {
                    Err(unwell.join(", "))
                }
            }
        });
    }

    /// Routes for the ops port, with details: `GET /health/live`, `/health/accepting` and
    /// `/health/ready` answer 200 or 503 with `{"status","checks":{name:{"ok","detail"}}}`.
    pub fn router(&self) -> Router {
        let router = both(Router::new(), "/health/live", get(live));
        let router = both(router, "/health/accepting", get(accepting));
        both(router, "/health/ready", get(ready)).with_state(self.clone())
    }

    /// Route for the public port: `GET /health/accepting` with the status alone.
    pub fn public_router(&self) -> Router {
        both(
            Router::new(),
            "/health/accepting",
            get(accepting_without_details),
        )
        .with_state(self.clone())
    }

    /// Asks the checks of a scope, all at once.
    pub async fn ask(&self, scope: Scope) -> Report {
        let checks: Vec<Check> = self
            .shared
            .checks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|check| scope == Scope::Ready || check.scope == Scope::Accepting)
            .cloned()
            .collect();
        Report {
            checks: join_all(checks.iter().map(Check::outcome)).await,
        }
    }
}

impl Check {
    async fn outcome(&self) -> (&'static str, Outcome) {
        let asked = AssertUnwindSafe(async { (self.ask)().await }).catch_unwind();
        let (ok, detail) = match tokio::time::timeout(ASK_LIMIT, asked).await {
            Ok(Ok(Ok(detail))) => (true, detail),
            Ok(Ok(Err(detail))) => (false, detail),
            Ok(Err(_)) => (false, "the check panicked".to_owned()),
            Err(_) => (false, format!("no answer within {ASK_LIMIT:?}")),
        };
        (self.name, Outcome { ok, detail })
    }
}

/// What the checks of a scope said, in the order they were added.
#[derive(Debug)]
pub struct Report {
    /// Name and outcome of each check.
    pub checks: Vec<(&'static str, Outcome)>,
}

/// What one check said.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Green.
    pub ok: bool,
    /// For people; never a secret.
    pub detail: String,
}

impl Report {
    /// Whether every check is green.
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|(_, outcome)| outcome.ok)
    }

    fn status(&self) -> (StatusCode, &'static str) {
        if self.is_ok() {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
    }
}

#[derive(Serialize)]
struct Detailed<'a> {
    status: &'static str,
    #[serde(serialize_with = "as_map")]
    checks: &'a [(&'static str, Outcome)],
}

/// The public form: one word.
#[derive(Serialize)]
struct Brief {
    status: &'static str,
}

fn as_map<S: Serializer>(
    checks: &[(&'static str, Outcome)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(checks.len()))?;
    for (name, outcome) in checks {
        map.serialize_entry(name, outcome)?;
    }
    map.end()
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let (code, status) = self.status();
        let body = Detailed {
            status,
            checks: &self.checks,
        };
        (code, Json(body)).into_response()
    }
}

/// The process answers, so it lives; nothing else is asked.
async fn live() -> Report {
    Report { checks: Vec::new() }
}

async fn accepting(State(health): State<Health>) -> Report {
    health.ask(Scope::Accepting).await
}

async fn ready(State(health): State<Health>) -> Report {
    health.ask(Scope::Ready).await
}

async fn accepting_without_details(State(health): State<Health>) -> Response {
    let (code, status) = health.ask(Scope::Accepting).await.status();
    (code, Json(Brief { status })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn answer(router: Router, path: &str) -> (u16, String) {
        let request = http::Request::get(path)
            .body(Body::empty())
            .expect("a request");
        let response = router.oneshot(request).await.expect("infallible");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body");
        (
            status,
            String::from_utf8(body.to_bytes().to_vec()).expect("text"),
        )
    }

    fn with_broker_down() -> Health {
        let health = Health::new("orders");
        health.check(Scope::Accepting, "database", || async {
            Ok("answers".to_owned())
        });
        health.check(Scope::Ready, "broker", || async {
            Err("connection refused".to_owned())
        });
        health
    }

    #[tokio::test]
    async fn a_broker_outage_leaves_the_service_accepting_but_not_ready() {
        let router = with_broker_down().router();
        let green = r#"{"status":"ok","checks":{"database":{"ok":true,"detail":"answers"}}}"#;
        assert_eq!(
            answer(router.clone(), "/health/accepting").await,
            (200, green.to_owned())
        );
        let red = r#"{"status":"unavailable","checks":{"database":{"ok":true,"detail":"answers"},"broker":{"ok":false,"detail":"connection refused"}}}"#;
        assert_eq!(
            answer(router.clone(), "/health/ready").await,
            (503, red.to_owned())
        );
        assert_eq!(answer(router, "/health/live/").await.0, 200);
    }

    #[tokio::test]
    async fn the_public_port_tells_no_details() {
        let health = with_broker_down();
        health.check(Scope::Accepting, "disk", || async {
            Err("secret path".to_owned())
        });
        let answered = answer(health.public_router(), "/health/accepting").await;
        assert_eq!(answered, (503, r#"{"status":"unavailable"}"#.to_owned()));
        assert_eq!(answer(health.public_router(), "/health/ready").await.0, 404);
    }

    #[tokio::test]
    async fn a_check_that_panics_or_hangs_is_red() {
        let health = Health::new("orders");
        health.check(Scope::Ready, "panics", || async { panic!("broken check") });
        health.check(Scope::Ready, "hangs", std::future::pending);
        let report = health.ask(Scope::Ready).await;
        assert!(!report.is_ok());
        assert!(report.checks.iter().all(|(_, outcome)| !outcome.ok));
    }
}

//! A router that is closed until the service behind it is ready to open it.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use tower::ServiceExt as _;

use crate::error::ApiError;
use crate::health::{Health, Scope};
use crate::http::refuse;

/// Answers 503 until it is opened, so that clients of a service that still waits for its database
/// hear so at once, and know that nothing has happened.
#[derive(Clone, Debug, Default)]
pub struct Door {
    behind: Arc<OnceLock<Router>>,
}

impl Door {
    /// What is served: 503 to everything, and what is behind the door once it is open.
    pub fn router(&self) -> Router {
        let door = self.clone();
        Router::new().fallback(move |request: Request| {
            let behind = door.behind.get().cloned();
            async move {
                match behind {
                    Some(router) => match router.oneshot(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    },
                    None => refuse(ApiError::unavailable()).await,
                }
            }
        })
    }

    /// Adds the check that the door is open: until then no request is served, however well the
    /// database answers while it is still being migrated.
    pub fn check(&self, health: &Health) {
        let door = self.clone();
        health.check(Scope::Accepting, "migrations", move || {
            let open = door.behind.get().is_some();
            async move {
                if open {
                    Ok("done".to_owned())
                } else {
                    Err("waiting for the database to be migrated".to_owned())
                }
            }
        });
    }

    /// Opens it for good. A second call changes nothing.
    pub fn open(&self, behind: Router) {
        // The first router stays: a door is opened once.
        let _ = self.behind.set(behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use http::StatusCode;

    #[tokio::test]
    async fn everything_is_503_until_the_door_is_open() -> anyhow::Result<()> {
        let door = Door::default();
        let ask = async || {
            let request = Request::get("/v1/orders").body(Body::empty())?;
            let Ok(response) = door.router().oneshot(request).await;
            anyhow::Ok(response)
        };
        let closed = ask().await?;
        assert_eq!(closed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(closed.headers().contains_key("retry-after"));
        door.open(Router::new().route("/v1/orders", get(|| async { "open" })));
        assert_eq!(ask().await?.status(), StatusCode::OK);
        Ok(())
    }

    #[tokio::test]
    async fn no_health_is_green_while_requests_are_turned_away() {
        let (door, health) = (Door::default(), Health::new("orders"));
        door.check(&health);
        for scope in [Scope::Accepting, Scope::Ready] {
            assert!(!health.ask(scope).await.is_ok(), "{scope:?} while closed");
        }
        door.open(Router::new());
        assert!(health.ask(Scope::Accepting).await.is_ok());
    }
}

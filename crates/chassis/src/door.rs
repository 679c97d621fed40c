//! A router that is closed until the service behind it is ready to open it.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use tower::ServiceExt as _;

use crate::error::ApiError;
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
}

//! The broker's management API: virtual hosts, queues, connections.
//!
//! Not here: AMQP; what the queues of the system are called.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::given::encode;

/// How many messages a queue holds, as of a second ago at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Waiting for a consumer.
    pub ready: u64,
    /// Delivered and not yet acknowledged.
    pub unacked: u64,
}

/// The API's address and an administrator's login.
#[derive(Clone)]
pub(crate) struct Management {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        write!(f, "{} at {}", self.user, self.url)
    }
}

impl Management {
    /// One call; `path` begins with `/api/`. An empty answer is `null`.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, text) = self.send(method, path, body).await?;
        if !status.is_success() {
            bail!("{method} {path} was answered with {status}: {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} has no JSON answer"))
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, String)> {
        // A connection belongs to the runtime that opened it, and callers have several: none is kept.
        let client = Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .context("cannot make an HTTP client")?;
        let name = Method::from_bytes(method.as_bytes()).context("no such method")?;
        let mut request = client
            .request(name, format!("{}{path}", self.url))
            .basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("the management API does not answer {method} {path}"))?;
        let status = answer.status();
        let text = answer.text().await.context("half an answer")?;
        Ok((status, text))
    }

    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        let overview = self.call("GET", "/api/overview", None).await?;
        let version = overview["rabbitmq_version"].as_str();
        Ok(version.context("no rabbitmq_version")?.to_owned())
    }

    pub(crate) async fn create_vhost(&self, name: &str) -> anyhow::Result<()> {
        let vhost = encode(name);
        self.call("PUT", &format!("/api/vhosts/{vhost}"), None)
            .await?;
        let everything = serde_json::json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("/api/permissions/{vhost}/{}", encode(&self.user));
        self.call("PUT", &path, Some(&everything)).await?;
        Ok(())
    }

    pub(crate) async fn delete_vhost(&self, name: &str) -> anyhow::Result<()> {
        let path = format!("/api/vhosts/{}", encode(name));
        self.call("DELETE", &path, None).await?;
        Ok(())
    }

    pub(crate) async fn purge_queue(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        let path = format!("{}/contents", queue_path(vhost, queue));
        self.call("DELETE", &path, None).await?;
        Ok(())
    }

    pub(crate) async fn delete_queue(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        self.call("DELETE", &queue_path(vhost, queue), None).await?;
        Ok(())
    }

    pub(crate) async fn queue_depth(&self, vhost: &str, queue: &str) -> anyhow::Result<QueueDepth> {
        let queue = self.call("GET", &queue_path(vhost, queue), None).await?;
        // A queue that was just declared has no counts yet.
        let count = |name: &str| queue[name].as_u64().unwrap_or(0);
        Ok(QueueDepth {
            ready: count("messages_ready"),
            unacked: count("messages_unacknowledged"),
        })
    }

    pub(crate) async fn close_all_connections(&self, vhost: &str) -> anyhow::Result<usize> {
        let path = format!("/api/vhosts/{}/connections", encode(vhost));
        let connections = self.call("GET", &path, None).await?;
        let names = connections
            .as_array()
            .context("no list of connections")?
            .iter()
            .filter_map(|connection| connection["name"].as_str());
        let mut closed = 0;
        for name in names {
            let path = format!("/api/connections/{}", encode(name));
            let (status, text) = self.send("DELETE", &path, None).await?;
            match status {
                // It has gone by itself since.
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => closed += 1,
                status => bail!("cannot close a connection: {status}: {text}"),
            }
        }
        Ok(closed)
    }
}

fn queue_path(vhost: &str, queue: &str) -> String {
    format!("/api/queues/{}/{}", encode(vhost), encode(queue))
}

//! The two ports of a service: its API, and what operators ask.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::env::Listen;
use crate::serve::serve;

/// The ops port has no work to finish, only answers to send.
const OPS_SHUTDOWN: Duration = Duration::from_secs(1);

/// Both ports, taken and not served yet.
#[derive(Debug)]
pub struct Ports {
    /// For clients.
    pub api: TcpListener,
    api_addr: SocketAddr,
    ops: TcpListener,
    ops_addr: SocketAddr,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({variable})")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// The variable that says so.
    pub variable: String,
    /// Why not.
    pub source: io::Error,
}

impl Ports {
    /// Takes both. `group` is the group of the variables, such as `ORDERS`.
    ///
    /// # Errors
    /// A port is taken, or the address is not this machine's.
    pub async fn bind(group: &str, listen: &Listen) -> Result<Self, BindError> {
        let (api, api_addr) = take(group, "LISTEN", listen.listen).await?;
        let (ops, ops_addr) = take(group, "OPS_LISTEN", listen.ops_listen).await?;
        Ok(Self {
            api,
            api_addr,
            ops,
            ops_addr,
        })
    }

    /// Where clients are served.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api_addr
    }

    /// Where operators are served.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Serves the ops port while `work`, which gets the API's listener, goes on: also while it
    /// waits for a database before, and while it finishes what is under way after.
    pub async fn serve_ops_beside<T, Fut>(
        self,
        router: Router,
        work: impl FnOnce(TcpListener) -> Fut,
    ) -> T
    where
        Fut: Future<Output = T>,
    {
        let ended = CancellationToken::new();
        let work = async {
            let outcome = work(self.api).await;
            ended.cancel();
            outcome
        };
        let ops = serve(self.ops, router, ended.clone(), OPS_SHUTDOWN);
        tokio::join!(work, ops).0
    }
}

async fn take(
    group: &str,
    name: &str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let refused = |source| BindError {
        address,
        variable: format!("{group}__{name}"),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_variable() -> anyhow::Result<()> {
        let taken = TcpListener::bind("127.0.0.1:0").await?;
        let listen = Listen {
            listen: "127.0.0.1:0".parse()?,
            ops_listen: taken.local_addr()?,
        };
        let error = Ports::bind("ORDERS", &listen)
            .await
            .expect_err("it is taken");
        assert!(
            error.to_string().contains("(ORDERS__OPS_LISTEN)"),
            "{error}"
        );
        Ok(())
    }
}

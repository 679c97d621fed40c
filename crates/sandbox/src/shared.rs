//! One sandbox for all the tests of a process, or of a whole run of many processes.
//!
//! Not here: harm. What one test does to a shared server, all others would feel; start a [`Sandbox`] for that.

use anyhow::Context;
use serde_json::Value;
use tokio::sync::{OnceCell, oneshot};
use uuid::Uuid;

use crate::given::{Addresses, Endpoint};
use crate::management::{Management, QueueDepth};
use crate::{Backend, Data, Options, Sandbox};

/// Servers that are up, for tests that keep to a database and a virtual host of their own.
#[derive(Debug)]
pub struct Shared {
    addresses: Addresses,
}

/// The servers of this process, started on first use; or those of the sandbox around it, when `PAIDONCE_SANDBOX` holds
/// their addresses. They end with this process, however it ends.
///
/// # Panics
/// If no backend can be chosen or the servers do not come up: a test without servers has failed.
pub async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_try_init(Shared::find_or_start)
        .await
        .unwrap_or_else(|error| panic!("no servers to test with: {error:#}"))
}

impl Shared {
    async fn find_or_start() -> anyhow::Result<Self> {
        if let Some(addresses) = Addresses::around()? {
            return Ok(Self { addresses });
        }
        let backend = Backend::choose()?;
        let (started, addresses) = oneshot::channel();
        std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || run(backend, started))
            .context("cannot start a thread")?;
        let addresses = addresses
            .await
            .context("the sandbox's thread has ended")??;
        Ok(Self { addresses })
    }

    /// A fresh, empty database with a name that no other test has.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn database(&self) -> anyhow::Result<Database> {
        let name = unique_name();
        self.addresses.postgres.create_database(&name).await?;
        Ok(Database {
            name,
            endpoint: self.addresses.postgres.clone(),
        })
    }

    /// A fresh virtual host with a name that no other test has.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub async fn vhost(&self) -> anyhow::Result<Vhost> {
        let name = unique_name();
        let endpoint = self.addresses.rabbitmq.clone();
        let management = Management {
            url: self.addresses.management_url.clone(),
            user: endpoint.user.clone(),
            password: endpoint.password.clone(),
        };
        management.create_vhost(&name).await?;
        Ok(Vhost {
            name,
            endpoint,
            management,
        })
    }
}

/// The body of a thread that never ends by itself: each `#[tokio::test]` has a runtime of its own, and none of them
/// lives long enough.
fn run(backend: Backend, started: oneshot::Sender<anyhow::Result<Addresses>>) {
    // Whoever asked may have gone; there is nobody else to tell.
    let tell = |answer| drop(started.send(answer));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tell(Err(error).context("cannot make a runtime")),
    };
    let options = Options {
        backend,
        data: Data::Temporary,
    };
    match runtime.block_on(Sandbox::start(options)) {
        Ok(sandbox) => {
            tell(Ok(sandbox.addresses()));
            runtime.block_on(std::future::pending::<()>());
            drop(sandbox);
        }
        Err(error) => tell(Err(error)),
    }
}

/// Names sort by time, which helps whoever looks at a server that was kept.
fn unique_name() -> String {
    format!("test_{}", Uuid::now_v7().simple())
}

/// A database of one test. It stays until its server goes.
#[derive(Clone, Debug)]
pub struct Database {
    /// The database's name.
    pub name: String,
    endpoint: Endpoint,
}

impl Database {
    /// `postgres://...` for this database.
    pub fn url(&self) -> String {
        self.endpoint.postgres_url(&self.name)
    }

    /// The server's host.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// A superuser, or the login of a given server.
    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    /// The password of [`user`](Self::user).
    pub fn password(&self) -> &str {
        &self.endpoint.password
    }
}

/// A virtual host of one test. It stays until its broker goes.
#[derive(Clone, Debug)]
pub struct Vhost {
    /// The virtual host's name.
    pub name: String,
    endpoint: Endpoint,
    management: Management,
}

impl Vhost {
    /// `amqp://...` for this virtual host.
    pub fn url(&self) -> String {
        self.endpoint.amqp_url(&self.name)
    }

    /// The broker's host.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The broker's AMQP port.
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// An administrator.
    pub fn user(&self) -> &str {
        &self.endpoint.user
    }

    /// The password of [`user`](Self::user).
    pub fn password(&self) -> &str {
        &self.endpoint.password
    }

    /// `http://HOST:PORT` of the management API.
    pub fn management_url(&self) -> &str {
        &self.management.url
    }

    /// A call of the management API; `path` begins with `/api/`, an empty answer is `null`.
    ///
    /// # Errors
    /// If it does not answer within 20 s, or with another status than 2xx.
    pub async fn management(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        self.management.call(method, path, body.as_ref()).await
    }

    /// How many messages a queue of this virtual host holds, as of about a second ago.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn queue_depth(&self, queue: &str) -> anyhow::Result<QueueDepth> {
        self.management.queue_depth(&self.name, queue).await
    }

    /// Drops the ready messages of a queue.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn purge_queue(&self, queue: &str) -> anyhow::Result<()> {
        self.management.purge_queue(&self.name, queue).await
    }

    /// Removes a queue with its messages.
    ///
    /// # Errors
    /// If there is no such queue, or the management API does not answer.
    pub async fn delete_queue(&self, queue: &str) -> anyhow::Result<()> {
        self.management.delete_queue(&self.name, queue).await
    }

    /// Closes the clients' connections from the broker's side; returns how many there were.
    ///
    /// # Errors
    /// If the management API does not answer.
    pub async fn close_all_connections(&self) -> anyhow::Result<usize> {
        self.management.close_all_connections(&self.name).await
    }
}

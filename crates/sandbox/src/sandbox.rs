//! Both servers together: how they are started, described and stopped.
//!
//! Not here: what one of them is or can do.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;

use crate::given::Addresses;
use crate::server::Server;
use crate::{Backend, Postgres, Rabbitmq, given, local, variables};

/// Where the servers' data is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// In a folder that is removed at the end.
    #[default]
    Temporary,
    /// In this folder, made if it is absent and taken up again by the next sandbox. Only for [`Backend::Local`].
    Kept(PathBuf),
}

/// What to start. The default is local processes on temporary data. Ports are always chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who runs the servers.
    pub backend: Backend,
    /// Where their data is.
    pub data: Data,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: Backend::Local,
            data: Data::Temporary,
        }
    }
}

/// The servers' own user cannot enter the folder of [`Data::Kept`]; only possible when this process is root's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user {user}, as which the servers run, cannot enter {}", path.display())]
pub struct Unreachable {
    /// The folder that was asked for.
    pub path: PathBuf,
    /// The user's name.
    pub user: String,
}

/// A PostgreSQL and a RabbitMQ that belong to this process. Dropping it ends both and removes temporary data; so does
/// the end of this process, however it comes.
#[derive(Debug)]
pub struct Sandbox {
    /// The database server.
    pub postgres: Postgres,
    /// The broker.
    pub rabbitmq: Rabbitmq,
    backend: Backend,
    is_kept: bool,
}

impl Sandbox {
    /// Starts both servers side by side and waits until each answers. Must run on a tokio runtime that lives as long
    /// as the sandbox: the proxies run there. Prints nothing.
    ///
    /// # Errors
    /// [`Unreachable`] (by `downcast_ref`) if the servers cannot enter a kept folder; others if a program or image is
    /// missing, or if a server does not come up within 120 s, with the end of its log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let servers = match options.backend {
            Backend::Local => local::prepare(&options.data).await?,
            Backend::External => given::prepare().await?,
            Backend::Docker => containers(&options.data).await?,
        };
        let (postgres, rabbitmq) = tokio::try_join!(
            async {
                Postgres::start_new(servers.postgres, &servers.postgres_login)
                    .await
                    .context("PostgreSQL does not start")
            },
            async {
                Rabbitmq::start_new(servers.rabbitmq, &servers.rabbitmq_login)
                    .await
                    .context("RabbitMQ does not start")
            },
        )?;
        Ok(Self {
            postgres,
            rabbitmq,
            backend: options.backend,
            is_kept: options.data != Data::Temporary,
        })
    }

    /// Who runs the servers.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The backend and the versions, as in `local (PostgreSQL 15.18, RabbitMQ 3.10.8)`.
    pub fn describe(&self) -> String {
        format!(
            "{} (PostgreSQL {}, RabbitMQ {})",
            self.backend,
            self.postgres.version(),
            self.rabbitmq.version()
        )
    }

    /// The name and value of the variable by which [`shared`](crate::shared) in another process finds these servers.
    ///
    /// # Errors
    /// Never in practice: only if the addresses cannot be written as JSON.
    pub fn environment(&self) -> anyhow::Result<(&'static str, String)> {
        let value = serde_json::to_string(&self.addresses()).context("cannot write addresses")?;
        Ok((variables::SANDBOX, value))
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            postgres: self.postgres.direct(),
            rabbitmq: self.rabbitmq.direct(),
            management_url: self.rabbitmq.direct_management_url(),
        }
    }

    /// Stops both servers in an orderly way, whatever was done to them; those whose data is temporary are ended at
    /// once, and it is removed. An orderly end would write down first what is thrown away then, which takes a minute
    /// where many tests have left their databases.
    ///
    /// # Errors
    /// If a server whose data is kept does not stop within 60 s; it is then killed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let (postgres, rabbitmq) = match self.is_kept {
            true => tokio::join!(self.postgres.wind_up(), self.rabbitmq.wind_up()),
            false => (Ok(()), Ok(())),
        };
        tokio::task::spawn_blocking(move || drop(self))
            .await
            .context("cannot clean up")?;
        postgres.context("PostgreSQL does not stop")?;
        rabbitmq.context("RabbitMQ does not stop")
    }
}

#[cfg(feature = "containers")]
async fn containers(data: &Data) -> anyhow::Result<Servers> {
    crate::containers::prepare(data).await
}

#[cfg(not(feature = "containers"))]
#[expect(
    clippy::unused_async,
    reason = "the same shape as with the feature, which awaits the engine"
)]
async fn containers(_: &Data) -> anyhow::Result<Servers> {
    anyhow::bail!("containers are not built in: build with the feature `containers`")
}

/// What a backend hands over: two servers, not yet started, and how to log in.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) postgres: Box<dyn Server>,
    pub(crate) postgres_login: Login,
    pub(crate) rabbitmq: Box<dyn Server>,
    pub(crate) rabbitmq_login: Login,
}

/// An administrator of a server.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.write_str(&self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_can_be_spawned() {
        fn is_send(_: impl Send) {}
        is_send(Sandbox::start(Options::default()));
    }
}

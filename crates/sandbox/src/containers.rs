//! Backend `docker`: both servers in containers.
//!
//! Not here: child processes, proxies, and what the servers are asked once they run.

mod cluster;
mod images;
mod requests;

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{ContainerState, ContainerStateStatusEnum};
use testcontainers::bollard::query_parameters::LogsOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{CmdWaitFor, ExecCommand, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::cluster::Network;
use self::images::{POSTGRES, RABBITMQ};
use self::requests::{postgres_request, rabbitmq_request};
use crate::Data;
use crate::reaper::Reaper;
use crate::sandbox::{Login, Servers};
use crate::server::{Ports, Server, lock};

pub(crate) use self::cluster::prepare_cluster;

const USER: &str = "paidonce";
const POSTGRES_PORT: u16 = 5432;
const AMQP_PORT: u16 = 5672;
const MANAGEMENT_PORT: u16 = 15672;

/// Removes the containers named by the arguments when this process is gone. The engine may still be making one.
const REAP: &str = r#"
trap '' INT TERM HUP QUIT
while read -r line; do :; done
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
for try in 1 2 3; do
    docker rm --force --volumes "$@" || for name in "$@"; do
        curl --silent --unix-socket "${socket#unix://}" -X DELETE "http://localhost/containers/$name?force=1&v=1"
    done
    sleep 1
done
"#;

/// # Errors
/// If there is no engine to talk to.
pub(crate) fn engine_answers() -> anyhow::Result<()> {
    apart(async { connect().await.map(drop) })
}

/// Whether an engine answers and needs no registry.
pub(crate) fn images_are_present() -> bool {
    apart(async {
        let engine = connect().await?;
        let both =
            POSTGRES.present(&engine).await.is_some() && RABBITMQ.present(&engine).await.is_some();
        Ok(both)
    })
    .unwrap_or(false)
}

async fn connect() -> anyhow::Result<Docker> {
    let engine = docker_client_instance()
        .await
        .context("no Docker engine is found")?;
    tokio::time::timeout(Duration::from_secs(5), engine.ping())
        .await
        .context("the Docker engine does not answer within 5 s")?
        .context("the Docker engine does not answer")?;
    Ok(engine)
}

/// Waits for a future on a thread and a runtime of its own, for callers that have none or must not block theirs.
fn apart<T: Send>(future: impl Future<Output = anyhow::Result<T>> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot make a runtime")?
                .block_on(future)
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Both servers, prepared and not yet started.
pub(crate) async fn prepare(data: &Data) -> anyhow::Result<Servers> {
    ensure!(
        *data == Data::Temporary,
        "containers keep no data: only the backend `local` does"
    );
    let engine = connect().await?;
    let login = Login {
        user: USER.to_owned(),
        password: Uuid::now_v7().simple().to_string(),
    };
    let mark = Uuid::now_v7().simple();
    let names = [
        format!("paidonce-postgres-{mark}"),
        format!("paidonce-rabbitmq-{mark}"),
    ];
    let arguments: Vec<&OsStr> = names.iter().map(OsStr::new).collect();
    let reaper = Arc::new(Reaper::start(REAP, &arguments, None)?);
    let [postgres_name, rabbitmq_name] = names;
    let postgres = postgres_request(POSTGRES.choose(&engine).await?, &login);
    let rabbitmq = rabbitmq_request(RABBITMQ.choose(&engine).await?, &login);
    let network = Arc::new(Network::of_the_engine());
    let container =
        |request: ContainerRequest<GenericImage>, name, tool, ports| -> Box<dyn Server> {
            Box::new(Container {
                request: Mutex::new(Some(request.with_container_name(name))),
                ports,
                tool,
                container: OnceCell::new(),
                network: Arc::clone(&network),
                _reaper: Arc::clone(&reaper),
            })
        };
    Ok(Servers {
        postgres: container(postgres, postgres_name, "psql", &[POSTGRES_PORT]),
        rabbitmq: container(
            rabbitmq,
            rabbitmq_name,
            "rabbitmqctl",
            &[AMQP_PORT, MANAGEMENT_PORT],
        ),
        postgres_login: login.clone(),
        rabbitmq_login: login,
    })
}

/// A server in a container, which is made at the first start.
struct Container {
    request: Mutex<Option<ContainerRequest<GenericImage>>>,
    ports: &'static [u16],
    /// What controls the server from within its container.
    tool: &'static str,
    container: OnceCell<ContainerAsync<GenericImage>>,
    /// That of a cluster is gone with the last container in it.
    network: Arc<Network>,
    _reaper: Arc<Reaper>,
}

impl Container {
    fn made(&self) -> anyhow::Result<&ContainerAsync<GenericImage>> {
        self.container.get().context("the container is not made")
    }

    async fn make(&self) -> anyhow::Result<ContainerAsync<GenericImage>> {
        let request = lock(&self.request)
            .take()
            .context("the container could not be made before")?;
        let image = request.descriptor();
        request.start().await.with_context(|| {
            format!(
                "cannot run the image {image}; where no registry can be reached, \
                 deploy/images/build.sh builds stand-ins from Debian packages"
            )
        })
    }

    async fn state(&self) -> anyhow::Result<ContainerState> {
        docker_client_instance()
            .await?
            .inspect_container(self.made()?.id(), None)
            .await
            .context("cannot ask for a container's state")?
            .state
            .context("the container has no state")
    }

    /// The engine maps other ports after each start.
    async fn find_ports(&self) -> anyhow::Result<Ports> {
        let container = self.made()?;
        let host = container.get_host().await?.to_string();
        let mut found = Vec::new();
        for port in self.ports {
            let mapped = container.get_host_port_ipv4(port.tcp()).await?;
            let address: SocketAddr = tokio::net::lookup_host((host.as_str(), mapped))
                .await?
                .find(SocketAddr::is_ipv4)
                .context("the engine's host has no address")?;
            found.push(address);
        }
        Ok(Ports {
            main: *found.first().context("the container has no port")?,
            management: found.get(1).copied(),
        })
    }

    async fn has_ended(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            if self.state().await?.running != Some(true) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the container still runs")
    }

    async fn is(&self, status: ContainerStateStatusEnum) -> anyhow::Result<()> {
        let now = self.state().await?.status;
        ensure!(
            now == Some(status),
            "the container is {now:?} and not {status}"
        );
        Ok(())
    }
}

impl Server for Container {
    fn start(&self) -> BoxFuture<'_, anyhow::Result<Ports>> {
        async {
            if let Some(made) = self.container.get() {
                made.start().await.context("cannot start a container")?;
            } else {
                self.container.get_or_try_init(|| self.make()).await?;
            }
            self.find_ports().await
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            self.made()?.stop_with_timeout(Some(60)).await?;
            self.has_ended().await
        }
        .boxed()
    }

    fn kill(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            docker_client_instance()
                .await?
                .kill_container(self.made()?.id(), None)
                .await
                .context("cannot kill a container")?;
            self.has_ended().await
        }
        .boxed()
    }

    fn freeze(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            self.made()?.pause().await?;
            self.is(ContainerStateStatusEnum::PAUSED).await
        }
        .boxed()
    }

    fn thaw(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            self.made()?.unpause().await?;
            self.is(ContainerStateStatusEnum::RUNNING).await
        }
        .boxed()
    }

    fn own_address(&self) -> BoxFuture<'_, anyhow::Result<SocketAddr>> {
        async {
            let port = self.ports.first().context("the container has no port")?;
            let address = self.network.address_of(self.made()?.id()).await?;
            Ok(SocketAddr::new(address, *port))
        }
        .boxed()
    }

    fn cut_off(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.network.leave(self.made()?.id()).await }.boxed()
    }

    fn rejoin(&self) -> BoxFuture<'_, anyhow::Result<Ports>> {
        async {
            self.network.join(self.made()?.id()).await?;
            self.find_ports().await
        }
        .boxed()
    }

    fn control<'a>(&'a self, arguments: &'a [&'a str]) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let command = [&[self.tool], arguments].concat();
            let done = ExecCommand::new(command).with_cmd_ready_condition(CmdWaitFor::exit_code(0));
            self.made()?
                .exec(done)
                .await
                .map(drop)
                .with_context(|| format!("{} fails", self.tool))
        }
        .boxed()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        async {
            self.state()
                .await
                .is_ok_and(|state| state.running == Some(true))
        }
        .boxed()
    }

    fn log(&self) -> anyhow::Result<String> {
        let id = self.made()?.id().to_owned();
        apart(async move {
            let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
            let engine = docker_client_instance().await?;
            let lines: Vec<_> = engine
                .logs(&id, Some(options))
                .try_collect()
                .await
                .context("cannot read a container's log")?;
            Ok(lines.iter().map(ToString::to_string).collect())
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // testcontainers removes it, but only inside a runtime.
        if let Some(container) = self.container.take() {
            apart(async move {
                drop(container);
                Ok(())
            })
            .ok();
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the request: it holds the password.
        f.debug_struct("Container")
            .field("id", &self.container.get().map(|container| container.id()))
            .finish_non_exhaustive()
    }
}

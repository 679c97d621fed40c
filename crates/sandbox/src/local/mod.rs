//! Backend `local`: both servers as child processes of this one, from the machine's own packages.
//!
//! Not here: containers, proxies, and what the servers are asked once they run.

mod place;
mod ports;
mod postgres;
mod process;
mod programs;
mod rabbitmq;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::Signal;

use crate::Data;
use crate::sandbox::{Login, Servers};
use crate::server::{Ports, Server, lock};
use place::{Launch, Place};
use process::Process;
pub(crate) use programs::Programs;

const USER: &str = "paidonce";
/// A tool that starts a virtual machine of its own takes seconds on a busy machine.
const CONTROL_PATIENCE: Duration = Duration::from_secs(60);

/// Both servers, prepared and not yet started.
pub(crate) async fn prepare(data: &Data) -> anyhow::Result<Servers> {
    let programs = Programs::find()?;
    let place = Place::open(data).await?;
    let server = |recipe: Box<dyn Recipe>| -> Box<dyn Server> {
        Box::new(LocalServer {
            place: Arc::clone(&place),
            recipe,
            ports: Mutex::new(None),
            process: Mutex::new(None),
        })
    };
    let login = Login {
        user: USER.to_owned(),
        password: place.password().to_owned(),
    };
    Ok(Servers {
        postgres: server(Box::new(postgres::Recipe::new(&place, &programs)?)),
        rabbitmq: server(Box::new(rabbitmq::Recipe::new(&place, &programs)?)),
        postgres_login: login.clone(),
        rabbitmq_login: login,
    })
}

/// How one kind of server is called.
trait Recipe: Debug + Send + Sync {
    /// Makes what the first start needs.
    fn prepare<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, anyhow::Result<()>>;
    fn choose_ports(&self) -> anyhow::Result<Ports>;
    fn launch(&self, place: &Place, ports: Ports) -> anyhow::Result<Launch>;
    /// The server's own tool of control, if there is one here.
    fn control(&self, _arguments: &[&str]) -> Option<Launch> {
        None
    }
    /// The signal for an orderly end.
    fn stop_signal(&self) -> Signal;
    fn log(&self) -> &'static str;
}

#[derive(Debug)]
struct LocalServer {
    place: Arc<Place>,
    recipe: Box<dyn Recipe>,
    ports: Mutex<Option<Ports>>,
    process: Mutex<Option<Process>>,
}

impl LocalServer {
    /// The former ports, unless another program took one of them while the server was down.
    fn ports(&self) -> anyhow::Result<Ports> {
        let mut known = lock(&self.ports);
        let free = |ports: &Ports| {
            ports::is_free(ports.main.port())
                && ports
                    .management
                    .is_none_or(|address| ports::is_free(address.port()))
        };
        match known.filter(free) {
            Some(ports) => Ok(ports),
            None => Ok(*known.insert(self.recipe.choose_ports()?)),
        }
    }

    fn process(&self) -> anyhow::Result<Process> {
        lock(&self.process).clone().context("the server is down")
    }

    fn forget(&self) -> anyhow::Result<()> {
        *lock(&self.process) = None;
        self.place.settle()
    }
}

impl Server for LocalServer {
    fn start(&self) -> BoxFuture<'_, anyhow::Result<Ports>> {
        async {
            self.recipe.prepare(&self.place).await?;
            let ports = self.ports()?;
            let launch = self.recipe.launch(&self.place, ports)?;
            *lock(&self.process) = Some(self.place.spawn(&launch)?);
            Ok(ports)
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            let process = self.process()?;
            process.signal(self.recipe.stop_signal())?;
            process.wait(Duration::from_secs(60)).await?;
            self.forget()
        }
        .boxed()
    }

    fn kill(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async {
            self.process()?.kill().await?;
            self.forget()
        }
        .boxed()
    }

    fn freeze(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.process()?.freeze().await }.boxed()
    }

    fn thaw(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.process()?.thaw().await }.boxed()
    }

    fn control<'a>(&'a self, arguments: &'a [&'a str]) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let launch = self
                .recipe
                .control(arguments)
                .context("no such tool here")?;
            let status = self.place.spawn(&launch)?.wait(CONTROL_PATIENCE).await?;
            self.place.settle()?;
            let told = || self.place.read(launch.log).unwrap_or_default();
            anyhow::ensure!(
                status.success(),
                "{arguments:?} ended with {status}: {}",
                told()
            );
            Ok(())
        }
        .boxed()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        async { matches!(self.process().and_then(|process| process.ended()), Ok(None)) }.boxed()
    }

    fn log(&self) -> anyhow::Result<String> {
        self.place.read(self.recipe.log())
    }
}

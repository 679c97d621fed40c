//! How a private PostgreSQL is made and called: loopback only, no Unix socket, default durability.
//!
//! Not here: processes in general.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::Signal;

use super::place::{Launch, Place};
use super::programs::Programs;
use super::{USER, ports};
use crate::server::{Ports, last_lines};

const LOG: &str = "postgres.log";

#[derive(Debug)]
pub(super) struct Recipe {
    programs: PathBuf,
    data: PathBuf,
}

impl Recipe {
    pub(super) fn new(place: &Place, programs: &Programs) -> anyhow::Result<Self> {
        place.begin_log(LOG);
        Ok(Self {
            programs: programs.postgres.clone(),
            data: place.make_folder("postgres")?.join("data"),
        })
    }

    /// Beside its final place, so that a half-made folder is never taken for a whole one.
    async fn initialise(&self, place: &Place) -> anyhow::Result<()> {
        let unfinished = self.data.with_extension("new");
        std::fs::remove_dir_all(&unfinished).ok();
        let password = place.write("postgres/password", place.password())?;
        let mut arguments: Vec<OsString> = vec!["-D".into(), unfinished.clone().into()];
        arguments.push("--pwfile".into());
        arguments.push(password.into());
        arguments.extend(["--username", USER, "--auth", "scram-sha-256"].map(OsString::from));
        // C exists everywhere, C.UTF-8 does not; nothing here sorts or folds case by language.
        arguments.extend(["--encoding=UTF8", "--locale=C"].map(OsString::from));
        let launch = Launch {
            program: self.programs.join("initdb"),
            arguments,
            environment: environment(),
            log: LOG,
            end: "KILL",
        };
        let process = place.spawn(&launch)?;
        let status = process.wait(Duration::from_secs(120)).await?;
        place.settle()?;
        if !status.success() {
            bail!("initdb failed\n{}", last_lines(&place.read(LOG)?));
        }
        std::fs::rename(&unfinished, &self.data).context("cannot move the new cluster")
    }
}

impl super::Recipe for Recipe {
    fn prepare<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            if self.data.exists() {
                return Ok(());
            }
            self.initialise(place).await
        }
        .boxed()
    }

    fn choose_ports(&self) -> anyhow::Result<Ports> {
        Ok(Ports::local(ports::free_port()?, None))
    }

    fn launch(&self, _: &Place, ports: Ports) -> anyhow::Result<Launch> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), self.data.clone().into()];
        arguments.push("-p".into());
        arguments.push(ports.main.port().to_string().into());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // Tests run side by side, each with pools of its own.
            "max_connections=300",
        ] {
            arguments.extend(["-c", setting].map(OsString::from));
        }
        Ok(Launch {
            program: self.programs.join("postgres"),
            arguments,
            environment: environment(),
            log: LOG,
            // An immediate shutdown also gives back shared memory, which SIGKILL would leave.
            end: "QUIT",
        })
    }

    fn stop_signal(&self) -> Signal {
        // A fast shutdown: connections are closed, a checkpoint is written.
        Signal::INT
    }

    fn log(&self) -> &'static str {
        LOG
    }
}

fn environment() -> Vec<(&'static str, OsString)> {
    vec![("LANG", "C".into()), ("TZ", "UTC".into())]
}

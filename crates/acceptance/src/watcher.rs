//! `paidonce verify --watch` as a child process: what it says, what its metrics are, how it ends.
//!
//! Not here: what is expected of it.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use prover::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::ports::free_port;
use crate::process::this_program;

/// It has nothing to finish.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Its metrics are in memory.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A running watch. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Watcher {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Watcher {
    /// Starts one with these options.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(environment: &[(String, String)], how: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for its output")?;
        let output = File::create(folder.path().join(OUTPUT)).context("cannot keep its output")?;
        let port = free_port()?;
        let child = Command::new(this_program()?)
            .args(["verify", "--watch", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .args(how)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot keep its output")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a watch")?;
        Ok(Self {
            child,
            port,
            folder,
        })
    }

    /// All that it has said so far.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(OUTPUT)).unwrap_or_default()
    }

    /// What is read at its `/metrics`.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        metrics(self.port).await
    }

    /// SIGTERM; returns its exit code and all that it has said.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<(i32, String)> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid
            .and_then(Pid::from_raw)
            .with_context(|| format!("it has ended by itself: {}", self.told()))?;
        kill_process(pid, Signal::TERM).context("cannot signal it")?;
        let status = tokio::time::timeout(ENDS_WITHIN, self.child.wait())
            .await
            .context("the watch does not end")??;
        Ok((status.code().unwrap_or(-1), self.told()))
    }
}

const OUTPUT: &str = "output";

/// What is read at `/metrics` of a port, if it is in Prometheus' own format.
///
/// # Errors
/// If nobody answers there, or in another format.
pub(crate) async fn metrics(port: u16) -> anyhow::Result<String> {
    let client = Client::with_timeout(&format!("http://127.0.0.1:{port}"), ASK_LIMIT)?;
    let answer = client.send("GET", "/metrics", None).await.ok()?;
    let kind = answer.headers.get("content-type");
    let is_text = kind.is_some_and(|kind| kind == "text/plain; version=0.0.4; charset=utf-8");
    ensure!(
        answer.status == 200 && is_text,
        "it answers {} {kind:?} {}",
        answer.status,
        answer.body
    );
    Ok(answer.body)
}

//! One service as a child process: started, killed, stopped in an orderly way.
//!
//! Not here: its settings, and whether it is ready.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A killed process that has not gone after this time will not go.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// One that is told to die at a moment of its work has come to it by then: a lease may have to run out before.
const DIES_WITHIN: Duration = Duration::from_secs(60);

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Gateway,
    Orders,
    Payments,
}

impl Service {
    /// In an order in which nothing waits for anything.
    pub(crate) const ALL: [Self; 3] = [Self::Orders, Self::Payments, Self::Gateway];

    /// The command that starts it.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Orders => "orders",
            Self::Payments => "payments",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

/// Makes this process end when the one that started it does, however that ends: a killed test run must not leave
/// services behind. Elsewhere than on Linux only an orderly end of the run takes its services along.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("this process may outlive the test run: {error}");
    }
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    service: Service,
    child: Child,
}

impl Process {
    /// Starts this very program as the service, with no other environment than the given one. Its output is appended
    /// to `log`.
    ///
    /// # Errors
    /// If it cannot be started; not if it ends at once.
    pub(crate) fn start(
        service: Service,
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context("cannot write a log")?;
        let child = Command::new(this_program()?)
            .arg(service.command())
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot write a log")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {service}"))?;
        Ok(Self { service, child })
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// With the exit status.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self
            .child
            .try_wait()
            .context("cannot ask for a child's end")?
        {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.service),
        }
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// If it had ended before: then nothing was killed.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.ensure_alive()?;
        let pid = self.pid()?;
        self.child
            .start_kill()
            .with_context(|| format!("cannot kill {}", self.service))?;
        self.end(GONE_WITHIN).await?;
        let still_there = rustix::process::test_kill_process(pid).is_ok();
        ensure!(
            !still_there,
            "{} was killed and is still there",
            self.service
        );
        Ok(())
    }

    /// Waits until it dies as it was told to: by the signal of an abort.
    ///
    /// # Errors
    /// If it goes on, or ends otherwise.
    pub(crate) async fn died(mut self) -> anyhow::Result<()> {
        let status = self.end(DIES_WITHIN).await?;
        ensure!(
            status.signal() == Some(Signal::ABORT.as_raw()),
            "{} ended with {status}, and was to die at a moment of its work",
            self.service
        );
        Ok(())
    }

    /// SIGTERM; returns how it ended, and after how long.
    ///
    /// # Errors
    /// If it had ended before, or does not end within `limit`.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<(ExitStatus, Duration)> {
        self.ensure_alive()?;
        let begin = Instant::now();
        kill_process(self.pid()?, Signal::TERM)
            .with_context(|| format!("cannot signal {}", self.service))?;
        let status = self.end(limit).await?;
        Ok((status, begin.elapsed()))
    }

    async fn end(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("{} has not ended within {limit:?}", self.service))?
            .with_context(|| format!("cannot wait for {}", self.service))
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        self.child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .with_context(|| format!("{} has ended", self.service))
    }
}

/// On Linux the running image itself, so that a build during the run changes nothing.
fn this_program() -> anyhow::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find this program")
}

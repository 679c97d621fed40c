//! One service as a child process: started, killed, stopped in an orderly way.
//!
//! Not here: its settings, and whether it is ready.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::{Child, Command};

use crate::eventually::within;

/// Files and sockets of the suite at once.
const FILES: u64 = 16_384;
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

    /// Its only process, as a rule.
    pub(crate) const fn first(self) -> Instance {
        Instance {
            service: self,
            number: 1,
        }
    }

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

/// One process of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) service: Service,
    /// From one on.
    pub(crate) number: u8,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => self.service.fmt(f),
            number => write!(f, "{}-{number}", self.service),
        }
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
    instance: Instance,
    child: Child,
}

impl Process {
    /// Starts this very program as the service, with no other environment than the given one. Its output is appended
    /// to `log`.
    ///
    /// # Errors
    /// If it cannot be started; not if it ends at once.
    pub(crate) fn start(
        instance: Instance,
        environment: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context("cannot write a log")?;
        let child = Command::new(this_program()?)
            .arg(instance.service.command())
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot write a log")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {instance}"))?;
        Ok(Self { instance, child })
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
            Some(status) => bail!("{} ended by itself: {status}", self.instance),
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
            .with_context(|| format!("cannot kill {}", self.instance))?;
        self.end(GONE_WITHIN).await?;
        let still_there = rustix::process::test_kill_process(pid).is_ok();
        ensure!(
            !still_there,
            "{} was killed and is still there",
            self.instance
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
            self.instance
        );
        Ok(())
    }

    /// Waits until it ends by itself; returns how.
    ///
    /// # Errors
    /// If it goes on.
    pub(crate) async fn ended(mut self) -> anyhow::Result<ExitStatus> {
        self.end(DIES_WITHIN).await
    }

    /// SIGTERM; returns how it ended, and after how long.
    ///
    /// # Errors
    /// If it had ended before, or does not end within `limit`.
    pub(crate) async fn stop(mut self, limit: Duration) -> anyhow::Result<(ExitStatus, Duration)> {
        self.ensure_alive()?;
        let begin = Instant::now();
        kill_process(self.pid()?, Signal::TERM)
            .with_context(|| format!("cannot signal {}", self.instance))?;
        let status = self.end(limit).await?;
        Ok((status, begin.elapsed()))
    }

    /// SIGSTOP; returns when it stands still.
    ///
    /// # Errors
    /// If it has ended, or goes on.
    pub(crate) async fn freeze(&mut self) -> anyhow::Result<()> {
        self.ensure_alive()?;
        let pid = self.pid()?;
        kill_process(pid, Signal::STOP)
            .with_context(|| format!("cannot signal {}", self.instance))?;
        self.stands_still(GONE_WITHIN).await
    }

    /// Waits until it freezes by itself, as it was told to.
    ///
    /// # Errors
    /// If it goes on, or ends.
    pub(crate) async fn froze(&mut self) -> anyhow::Result<()> {
        self.stands_still(DIES_WITHIN).await?;
        self.ensure_alive()
    }

    async fn stands_still(&self, limit: Duration) -> anyhow::Result<()> {
        let pid = self.pid()?;
        let instance = self.instance;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        within(limit, &format!("{instance} stands still"), || async move {
            let status = waitid(WaitId::Pid(pid), stopped).context("cannot ask for a state")?;
            ensure!(status.is_some_and(|status| status.stopped()), "it goes on");
            Ok(())
        })
        .await
    }

    /// SIGCONT. Does nothing to one that runs.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn thaw(&self) -> anyhow::Result<()> {
        kill_process(self.pid()?, Signal::CONT)
            .with_context(|| format!("cannot signal {}", self.instance))
    }

    /// Lets it have no more than so many files and sockets open from now on.
    ///
    /// # Errors
    /// If it has ended; elsewhere than on Linux a running process cannot be limited.
    pub(crate) fn limit_files(&self, count: u64) -> anyhow::Result<()> {
        let pid = self.pid()?;
        limit_files(pid, count).with_context(|| format!("cannot limit {}", self.instance))
    }

    async fn end(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("{} has not ended within {limit:?}", self.instance))?
            .with_context(|| format!("cannot wait for {}", self.instance))
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        self.child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .with_context(|| format!("{} has ended", self.instance))
    }
}

/// Runs this very program as an operator's command to its end.
///
/// # Errors
/// If it cannot be started.
pub(crate) async fn command(
    arguments: &[&str],
    environment: &[(String, String)],
) -> anyhow::Result<Output> {
    Command::new(this_program()?)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {arguments:?}"))
}

/// On Linux the running image itself, so that a build during the run changes nothing.
pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe().context("cannot find this program")
}

/// Lets this program, and each service it starts, have that many files and sockets open, or as many as the system lets
/// it have: a scenario has a thousand clients, and a shell often allows no more than that. Not all that it would let it
/// have, because Erlang makes a table as long as what is allowed.
///
/// # Errors
/// If the system refuses.
pub(crate) fn allow_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit).context("cannot open as many files as are needed")?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn limit_files(pid: Pid, count: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, prlimit};
    let limit = Rlimit {
        current: Some(count),
        maximum: Some(count),
    };
    prlimit(Some(pid), Resource::Nofile, limit)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn limit_files(_: Pid, _: u64) -> anyhow::Result<()> {
    bail!("only Linux limits a process that runs already")
}

//! The folder of one sandbox, the user its servers run as, and the start of processes in it.
//!
//! Not here: which servers there are. The end of everything is the reaper's (`reaper.sh`).

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use uuid::Uuid;

use super::process::Process;
use crate::reaper::Reaper;
use crate::server::lock;
use crate::{Data, Unreachable, variables};

/// Ends the processes of a place and removes its folder.
const REAP: &str = include_str!("reaper.sh");

/// Keeps the shell that becomes the server from doing so before the reaper knows its number.
const WAIT_FOR_GO: &str = "read -r go && exec \"$@\" </dev/null";

/// An ordinary user, for servers that refuse to run as root.
#[derive(Clone, Debug)]
struct User {
    name: &'static str,
    uid: u32,
    gid: u32,
}

/// Dropping it ends all processes in it and removes the folder if it is temporary.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    user: Option<User>,
    password: String,
    mark: String,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    reaper: Reaper,
    processes: Vec<Process>,
}

/// A program to start.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Both outputs are appended to this file of the place.
    pub(crate) log: &'static str,
    /// The name of the signal with which the reaper ends it.
    pub(crate) end: &'static str,
}

impl Place {
    /// # Errors
    /// [`Unreachable`] if the servers' user cannot enter a kept folder; others if it cannot be made, or if another
    /// sandbox still runs on it after 15 s.
    pub(crate) async fn open(data: &Data) -> anyhow::Result<Arc<Self>> {
        let user = ordinary_user()?;
        let (folder, kept) = match data {
            Data::Temporary => (temporary_folder(user.as_ref())?, None),
            Data::Kept(path) => {
                let folder = kept_folder(path, user.as_ref())?;
                let lock = lock_folder(&folder).await?;
                (folder, Some(lock))
            }
        };
        let mark = format!("PAIDONCE_SANDBOX_MARK={}", Uuid::now_v7().simple());
        let temporary = match kept {
            Some(_) => OsStr::new(""),
            None => folder.as_os_str(),
        };
        let reaper = Reaper::start(REAP, &[temporary, OsStr::new(&mark)], kept)?;
        let password = password(&folder)?;
        let running = Mutex::new(Running {
            reaper,
            processes: Vec::new(),
        });
        Ok(Arc::new(Self {
            folder,
            user,
            password,
            mark,
            running,
        }))
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder that belongs to the servers' user.
    pub(crate) fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        self.give(&path)?;
        Ok(path)
    }

    /// A file that only the servers' user can read.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(text.as_bytes())?;
        self.give(&path)?;
        Ok(path)
    }

    /// Sets aside the log of an earlier sandbox on a kept folder; there is none in a new one.
    pub(crate) fn begin_log(&self, name: &str) {
        std::fs::rename(self.path(name), self.path(&format!("{name}.before"))).ok();
    }

    pub(crate) fn read(&self, name: &str) -> anyhow::Result<String> {
        let bytes = std::fs::read(self.path(name)).context("cannot read a log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn give(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        Ok(())
    }

    /// Starts a program as the servers' user, with nothing of this process's environment but PATH.
    pub(crate) fn spawn(&self, launch: &Launch) -> anyhow::Result<Process> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(launch.log))
            .context("cannot open a server's log")?;
        let (mark, value) = self.mark.split_once('=').unwrap_or((&self.mark, ""));
        let mut command = command_as(self.user.as_ref());
        command
            .args(["-c", WAIT_FOR_GO, "paidonce-server"])
            .arg(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", search_path())
            .env(mark, value)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            .current_dir(&self.folder)
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", launch.program.display()))?;
        let go = child.stdin.take();
        let process = Process::of(child, launch.end);
        self.register(process.clone())?;
        go.context("the server has no input")?
            .write_all(b"go\n")
            .with_context(|| format!("{} ended at once", launch.program.display()))?;
        Ok(process)
    }

    fn register(&self, process: Process) -> anyhow::Result<()> {
        let mut running = lock(&self.running);
        running.processes.push(process);
        running.settle()
    }

    /// Tells the reaper that some processes have ended: their numbers may become others'.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        lock(&self.running).settle()
    }
}

impl Running {
    fn settle(&mut self) -> anyhow::Result<()> {
        self.processes
            .retain(|process| matches!(process.ended(), Ok(None)));
        // The newest first: a broker must end before its name server.
        let words: Vec<String> = self.processes.iter().rev().map(Process::word).collect();
        self.reaper.tell(&words)
    }
}

impl Drop for Place {
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop cannot await, and whoever dropped a sandbox wants it gone"
    )]
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        running.reaper.release();
        let begin = Instant::now();
        // Asking for their ends also removes the zombies of our own children.
        while begin.elapsed() < Duration::from_secs(15) {
            running
                .processes
                .retain(|process| matches!(process.ended(), Ok(None)));
            if running.reaper.is_done() && running.processes.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// PostgreSQL refuses root. `nobody` is in every passwd, and a server wants its user to be there.
fn ordinary_user() -> anyhow::Result<Option<User>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
        Some(User {
            name: "nobody",
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    });
    match user {
        Some(user) => Ok(Some(user)),
        None => {
            bail!("the servers do not run as root, and /etc/passwd has no user nobody for them")
        }
    }
}

fn command_as(user: Option<&User>) -> Command {
    let mut command = Command::new("/bin/sh");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn search_path() -> OsString {
    let mut path = variables::search_path();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/usr/bin:/bin");
    path
}

/// Asks the user itself, because access depends on each folder above and on more than their modes.
fn reaches(user: Option<&User>, folder: &Path) -> bool {
    command_as(user)
        .args(["-c", "cd -- \"$1\"", "sh"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .status()
        .is_ok_and(|status| status.success())
}

fn open_to(user: Option<&User>, folder: &Path) -> anyhow::Result<()> {
    let mode = if user.is_some() { 0o755 } else { 0o700 };
    std::fs::set_permissions(folder, Permissions::from_mode(mode))
        .with_context(|| format!("cannot open {} for the servers", folder.display()))
}

fn temporary_folder(user: Option<&User>) -> anyhow::Result<PathBuf> {
    for base in [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()] {
        let Ok(made) = tempfile::Builder::new()
            .prefix("paidonce-")
            .tempdir_in(base)
        else {
            continue;
        };
        open_to(user, made.path())?;
        if reaches(user, made.path()) {
            // From here on the reaper removes it.
            return Ok(made.keep());
        }
    }
    bail!("no temporary folder that the servers can reach")
}

fn kept_folder(path: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    let folder = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    open_to(user, &folder)?;
    if reaches(user, &folder) {
        return Ok(folder);
    }
    Err(Unreachable {
        path: folder,
        user: user.map_or_else(String::new, |user| user.name.to_owned()),
    }
    .into())
}

/// The lock goes on to the reaper, so it also waits for the clean-up of a predecessor that was killed.
async fn lock_folder(folder: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("lock"))
        .context("cannot open the lock of the data folder")?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).context("cannot lock the data folder");
            }
            Err(TryLockError::WouldBlock) if begin.elapsed() > Duration::from_secs(15) => {
                bail!("{} is in use by another sandbox", folder.display())
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Other users of the machine reach the loopback ports too, so no password is known beforehand.
fn password(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("password");
    if let Ok(known) = std::fs::read_to_string(&path)
        && !known.is_empty()
    {
        return Ok(known);
    }
    let password = Uuid::now_v7().simple().to_string();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .context("cannot write the servers' password")?;
    file.write_all(password.as_bytes())?;
    Ok(password)
}

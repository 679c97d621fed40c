//! However a sandbox ends, its servers and its folder go with it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sandbox::{Options, Sandbox};

/// What belongs to a sandbox, as the machine sees it.
struct Traces {
    processes: Vec<(u32, String)>,
    folder: PathBuf,
}

impl Traces {
    /// Those of all processes that `root` started.
    fn of(root: u32) -> anyhow::Result<Self> {
        let processes = descendants(root)?;
        let has = |name: &str| processes.iter().any(|(_, found)| found.contains(name));
        ensure!(has("postgres"), "no PostgreSQL among {processes:?}");
        ensure!(has("beam"), "no RabbitMQ among {processes:?}");
        let folder = processes
            .iter()
            .filter_map(|(pid, _)| std::fs::read_link(format!("/proc/{pid}/cwd")).ok())
            .find_map(|folder| {
                folder
                    .ancestors()
                    .find(|part| name(part).starts_with("paidonce-"))
                    .map(Path::to_owned)
            })
            .context("no process works in the sandbox's folder")?;
        Ok(Self { processes, folder })
    }

    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes
            .iter()
            .filter(|(pid, name)| runs(*pid, name))
            .map(|(pid, name)| format!("{name} ({pid})"))
            .collect();
        if self.folder.exists() {
            left.push(self.folder.display().to_string());
        }
        left
    }

    fn vanish_within(&self, patience: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !self.left().is_empty() {
            ensure!(
                begin.elapsed() < patience,
                "left after {patience:?}: {:?}",
                self.left()
            );
            pause();
        }
        Ok(())
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The fields of a stat line that matter: name, state, parent.
fn stat(pid: u32) -> Option<(String, char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name, state, fields.next()?.parse().ok()?))
}

fn runs(pid: u32, name: &str) -> bool {
    stat(pid).is_some_and(|(now, state, _)| now == name && state != 'Z')
}

fn descendants(root: u32) -> anyhow::Result<Vec<(u32, String)>> {
    let mut parents = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("these tests need /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        if let Some((name, _, parent)) = stat(pid) {
            parents.insert(pid, (name, parent));
        }
    }
    let belongs = |mut pid: u32| {
        while let Some((_, parent)) = parents.get(&pid) {
            if *parent == root {
                return true;
            }
            pid = *parent;
        }
        false
    };
    Ok(parents
        .iter()
        .filter(|(pid, _)| belongs(**pid))
        .map(|(pid, (name, _))| (*pid, name.clone()))
        .collect())
}

/// The binary, around a command that says that it runs and then waits for its input to end.
fn start_binary() -> anyhow::Result<Child> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandbox"))
        .args(["--backend", "local", "--", "sh", "-c"])
        .arg("test -n \"$PAIDONCE_SANDBOX\" && echo up && read -r line; exit 7")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the binary")?;
    let output = child.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "up\n", "the command does not run");
    Ok(child)
}

#[test]
fn a_killed_parent_leaves_no_server_and_no_folder() -> anyhow::Result<()> {
    let mut child = start_binary()?;
    let traces = Traces::of(child.id())?;
    child.kill()?;
    child.wait()?;
    drop(child.stdin.take());
    traces.vanish_within(Duration::from_secs(10))
}

#[test]
fn the_binary_ends_as_its_command_ends_and_leaves_nothing() -> anyhow::Result<()> {
    let mut child = start_binary()?;
    let traces = Traces::of(child.id())?;
    drop(child.stdin.take());
    let status = child.wait()?;
    assert_eq!(status.code(), Some(7));
    // Already gone: it does not leave the work to others.
    assert_eq!(traces.left(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_nothing_even_if_its_servers_were_frozen() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Options::default()).await?;
    let traces = Traces::of(std::process::id())?;
    let ports = [sandbox.postgres.direct_port(), sandbox.rabbitmq.port()];
    sandbox.postgres.freeze().await?;
    sandbox.rabbitmq.freeze().await?;
    drop(sandbox);
    assert_eq!(traces.left(), Vec::<String>::new());
    for port in ports {
        // The proxy's task ends when the runtime gets to it.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime here: what is waited for is another process"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

//! One server process and the family it starts: signals, states, and waiting for the end.
//!
//! Not here: what a server is called with; how it is started (`place.rs`).

use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{eventually, lock};

/// A child of ours, in a process group of its own. Cheap to clone; all clones mean the same process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    pid: Pid,
    born: u64,
    /// The name of the signal with which the reaper ends it.
    end: &'static str,
}

impl Process {
    pub(crate) fn of(child: Child, end: &'static str) -> Self {
        let pid = Pid::from_child(&child);
        let born = row(pid).map_or(0, |row| row.born);
        Self {
            child: Arc::new(Mutex::new(child)),
            pid,
            born,
            end,
        }
    }

    /// As the reaper reads it.
    pub(crate) fn word(&self) -> String {
        format!("{}:{}:{}", self.pid.as_raw_pid(), self.born, self.end)
    }

    /// `None` while it runs. It is a child of ours until this says otherwise, so its number cannot be another's.
    pub(crate) fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        lock(&self.child)
            .try_wait()
            .context("cannot ask for the state of a server")
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If it still runs after `patience`.
    pub(crate) async fn wait(&self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        eventually(patience, "the process ends", || {
            status = self.ended()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("the process has no exit status")
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("the process has already ended ({status})");
        }
        kill_process(self.pid, signal).context("cannot send a signal")
    }

    /// SIGKILL for the process and all that it started, as at a loss of power: no part of it sees the end of another.
    pub(crate) async fn kill(&self) -> anyhow::Result<()> {
        // Stopped first, so that no child is born between the look and the kill.
        self.signal(Signal::STOP)?;
        let family = family(self.pid);
        send(&family, Signal::KILL);
        self.signal(Signal::KILL).ok();
        let status = self.wait(Duration::from_secs(10)).await?;
        eventually(Duration::from_secs(10), "its children end", || {
            Ok(family.iter().all(|member| !member.runs()))
        })
        .await?;
        if status.success() {
            bail!("the process ended by itself before it was killed");
        }
        Ok(())
    }

    /// Holds the process and all that it started.
    pub(crate) async fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        send(&family(self.pid), Signal::STOP);
        self.all(true).await
    }

    /// Lets them run again.
    pub(crate) async fn thaw(&self) -> anyhow::Result<()> {
        send(&family(self.pid), Signal::CONT);
        self.signal(Signal::CONT)?;
        self.all(false).await
    }

    async fn all(&self, stopped: bool) -> anyhow::Result<()> {
        let what = if stopped {
            "all processes stand still"
        } else {
            "all processes run again"
        };
        eventually(Duration::from_secs(5), what, || {
            Ok(family(self.pid)
                .iter()
                .all(|member| (member.state == 'T') == stopped || member.state == 'Z'))
        })
        .await
    }
}

/// One line of the process table.
#[derive(Clone, Debug)]
struct Row {
    pid: i32,
    parent: i32,
    group: i32,
    state: char,
    born: u64,
}

impl Row {
    fn runs(&self) -> bool {
        Pid::from_raw(self.pid)
            .and_then(row)
            .is_some_and(|now| now.born == self.born && now.state != 'Z')
    }
}

/// The process itself, its group and all its descendants: PostgreSQL's backends each lead a group of their own.
fn family(root: Pid) -> Vec<Row> {
    let root = root.as_raw_pid();
    let table = table();
    let mut members: Vec<i32> = vec![root];
    loop {
        let before = members.len();
        for row in &table {
            let belongs = row.group == root || members.contains(&row.parent);
            if belongs && !members.contains(&row.pid) {
                members.push(row.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    table
        .into_iter()
        .filter(|row| members.contains(&row.pid))
        .collect()
}

fn send(rows: &[Row], signal: Signal) {
    for pid in rows.iter().filter_map(|row| Pid::from_raw(row.pid)) {
        // One that has just ended needs no signal; the callers look at the result.
        kill_process(pid, signal).ok();
    }
}

fn row(pid: Pid) -> Option<Row> {
    let pid = pid.as_raw_pid();
    if on_proc() {
        return parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    }
    table().into_iter().find(|row| row.pid == pid)
}

fn on_proc() -> bool {
    std::path::Path::new("/proc/self/stat").exists()
}

fn table() -> Vec<Row> {
    if !on_proc() {
        return ask_ps();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| parse_stat(&stat))
        .collect()
}

/// `PID (NAME) STATE PARENT GROUP ...`, where the name may hold anything, also blanks and brackets.
fn parse_stat(stat: &str) -> Option<Row> {
    let (head, tail) = stat.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Row {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        // Field 22 of the whole line, in ticks since the machine started.
        born: fields.get(19)?.parse().ok()?,
    })
}

/// For systems without `/proc`.
fn ask_ps() -> Vec<Row> {
    let Ok(output) = std::process::Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,pgid=,state="])
        .output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            Some(Row {
                pid: fields.first()?.parse().ok()?,
                parent: fields.get(1)?.parse().ok()?,
                group: fields.get(2)?.parse().ok()?,
                state: fields.get(3)?.chars().next()?,
                born: 0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        let row = parse_stat(stat).expect("a whole line");
        assert_eq!(
            (row.pid, row.parent, row.group, row.state, row.born),
            (42, 7, 40, 'S', 98765)
        );
    }
}

//! A small process that outlives this one and ends the servers when nobody else can.
//!
//! Not here: any clean-up in Rust. Dropping a sandbox, a panic, `process::exit` and SIGKILL all take the same path,
//! which is that the pipe to the reaper is closed. What it then does is the backend's script.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;

/// A shell that blocks on a pipe of ours, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Reaper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// The script gets the arguments, and lines of [`tell`](Self::tell) on its standard input; at the end of that it
    /// begins its work. `lock` is held for as long as the reaper lives, so that whoever waits for it also waits for
    /// the end of that work.
    pub(crate) fn start(
        script: &str,
        arguments: &[&OsStr],
        lock: Option<File>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "paidonce-reaper"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(lock.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::null())
            .current_dir("/")
            // A Ctrl-C at the terminal goes to a whole group.
            .process_group(0)
            .spawn()
            .context("cannot start the shell that ends the servers")?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Hands the script one line of words.
    pub(crate) fn tell(&mut self, words: &[String]) -> anyhow::Result<()> {
        let line = format!("{}\n", words.join(" "));
        let pipe = self.pipe.as_mut().context("the reaper is gone")?;
        pipe.write_all(line.as_bytes())
            .context("cannot tell the reaper about a server")
    }

    /// Lets the reaper begin.
    pub(crate) fn release(&mut self) {
        self.pipe = None;
    }

    /// Whether the reaper has done its work.
    pub(crate) fn is_done(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

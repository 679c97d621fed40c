//! `sandbox [--backend local|docker|external] -- COMMAND...`: both servers around a command, so that all processes of a
//! test run share them. The command finds them by `PAIDONCE_SANDBOX`.
//!
//! Not here: anything that a library caller could want too.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Backend, Data, Options, Sandbox};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: sandbox [--backend local|docker|external] -- COMMAND...";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let (backend, command) = parse(std::env::args_os().skip(1))?;
    let sandbox = Sandbox::start(Options {
        backend,
        data: Data::Temporary,
    })
    .await?;
    eprintln!("sandbox: {}", sandbox.describe());
    let code = run(&command, &sandbox).await;
    sandbox.stop().await?;
    code
}

fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> anyhow::Result<(Backend, Vec<OsString>)> {
    let mut backend = None;
    loop {
        let argument = arguments.next().context(USAGE)?;
        match argument.to_str() {
            Some("--") => break,
            Some("--backend") => {
                let name = arguments.next().context(USAGE)?;
                backend = Some(match name.to_str() {
                    Some("local") => Backend::Local,
                    Some("docker") => Backend::Docker,
                    Some("external") => Backend::External,
                    _ => bail!(USAGE),
                });
            }
            _ => bail!(USAGE),
        }
    }
    let command: Vec<OsString> = arguments.collect();
    if command.is_empty() {
        bail!(USAGE);
    }
    Ok((backend.map_or_else(Backend::choose, Ok)?, command))
}

/// Ends with the command and as it ends. A Ctrl-C reaches the command by itself, from the terminal; the other signals
/// are handed on.
async fn run(command: &[OsString], sandbox: &Sandbox) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let (program, arguments) = command.split_first().context(USAGE)?;
    let (name, value) = sandbox.environment()?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(name, value)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    let hand_on = |signal| {
        if let Some(pid) = pid {
            kill_process(pid, signal).ok();
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("cannot wait for the command")?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => hand_on(Signal::TERM),
            _ = hang_up.recv() => hand_on(Signal::HUP),
        }
    };
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

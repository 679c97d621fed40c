//! Servers in containers: the same promises as for child processes.
#![cfg(feature = "containers")]

mod engine;
mod promises;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use engine::{engine_is_there, lists, pause};
use sandbox::{Backend, Data, Options, Sandbox};

async fn docker() -> anyhow::Result<Sandbox> {
    Sandbox::start(Options {
        backend: Backend::Docker,
        data: Data::Temporary,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_in_containers_keep_the_same_promises() -> anyhow::Result<()> {
    if !engine_is_there() {
        return Ok(());
    }
    let sandbox = docker().await?;
    println!("{}", sandbox.describe());
    promises::postgres_comes_back_with_its_data(&sandbox).await?;
    promises::rabbitmq_comes_back_with_its_messages(&sandbox).await?;
    promises::a_frozen_server_is_silent(&sandbox).await?;
    promises::a_link_stalls_breaks_and_slows(&sandbox).await?;
    sandbox.stop().await
}

#[test]
fn a_killed_parent_leaves_no_container() -> anyhow::Result<()> {
    if !engine_is_there() {
        return Ok(());
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandbox"))
        .args(["--backend", "docker", "--", "sh", "-c"])
        .arg("echo \"$PAIDONCE_SANDBOX\"; read -r line")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let addresses: serde_json::Value = serde_json::from_str(&line)?;
    let mut containers = Vec::new();
    for server in ["postgres", "rabbitmq"] {
        let port = &addresses[server]["port"];
        let published = format!("publish={port}");
        let found = lists(&["ps", "--all", "--quiet", "--filter", &published])?;
        ensure!(!found.is_empty(), "no container has the port of {server}");
        containers.extend(found);
    }

    child.kill()?;
    child.wait()?;
    drop(child.stdin.take());
    let begin = Instant::now();
    for id in containers {
        let id = format!("id={id}");
        while !lists(&["ps", "--all", "--quiet", "--filter", &id])?.is_empty() {
            ensure!(begin.elapsed() < Duration::from_secs(20), "{id} is left");
            pause();
        }
    }
    Ok(())
}

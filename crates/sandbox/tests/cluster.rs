//! Three nodes of the broker in containers: each can be lost and comes back, and nothing is left of them.
#![cfg(feature = "containers")]

mod engine;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use engine::{engine_is_there, lists, pause};
use rustix::process::{Pid, Signal, kill_process_group};
use sandbox::{Cluster, Members};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const QUEUE: &str = "letters";
/// Above the time after which a cluster believes that a silent node is gone.
const PATIENCE: Duration = Duration::from_secs(120);
/// Long enough for an answer on a busy machine, and short enough to wait for its absence.
const SILENCE: Duration = Duration::from_secs(2);
/// What the first line of the first test begins with.
const FIRST_NODE: &str = "the first node is rabbit@broker1-";

#[tokio::test(flavor = "multi_thread")]
async fn each_node_can_be_lost_and_comes_back() -> anyhow::Result<()> {
    if !engine_is_there() {
        return Ok(());
    }
    let cluster = Cluster::start().await?;
    println!("the first node is {}", cluster.names()[0]);
    println!("{}", cluster.describe());
    cluster.nodes()[0].create_vhost("kept").await?;
    let quorum = serde_json::json!({
        "durable": true,
        "arguments": { "x-queue-type": "quorum" },
    });
    let path = format!("/api/queues/kept/{QUEUE}");
    cluster.management("PUT", &path, Some(quorum)).await?;
    let leader = until(&cluster, "it is on all nodes", |members| {
        members.all == [0, 1, 2] && members.online == [0, 1, 2]
    })
    .await?;
    // A quorum queue is registered on disk a moment after it is declared.
    tokio::time::sleep(Duration::from_secs(2)).await;

    cluster.nodes()[leader].kill().await?;
    let second = until(&cluster, "another leads it", |members| {
        members.leader != Some(leader) && !members.online.contains(&leader)
    })
    .await?;
    cluster.restore().await?;
    until(&cluster, "it is on all nodes", |members| {
        members.online == [0, 1, 2]
    })
    .await?;

    cluster.nodes()[second].cut_off().await?;
    ensure!(!greets(&cluster, second).await, "the cut did not bite");
    ensure!(cluster.nodes()[second].kill().await.is_err(), "killed too");
    cluster.restore().await?;
    ensure!(greets(&cluster, second).await, "it cannot be reached");
    until(&cluster, "it is on all nodes", |members| {
        members.online == [0, 1, 2]
    })
    .await?;
    cluster.remove().await
}

/// Waits for a state of the queue, and returns its leader.
async fn until(
    cluster: &Cluster,
    what: &str,
    is_so: impl Fn(&Members) -> bool,
) -> anyhow::Result<usize> {
    let begin = Instant::now();
    loop {
        let members = cluster.members("kept", QUEUE).await;
        if let Ok(members) = &members
            && let Some(leader) = members.leader
            && is_so(members)
        {
            println!("{what} after {:?}", begin.elapsed());
            return Ok(leader);
        }
        ensure!(begin.elapsed() < PATIENCE, "not so: {what}: {members:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a node answers a client's first bytes.
async fn greets(cluster: &Cluster, node: usize) -> bool {
    let greeting = async {
        let node = &cluster.nodes()[node];
        let mut stream = TcpStream::connect((node.host(), node.port())).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_exact(&mut [0]).await
    };
    matches!(tokio::time::timeout(SILENCE, greeting).await, Ok(Ok(_)))
}

/// The test above is interrupted, as by Ctrl-C.
#[test]
fn an_interrupted_cluster_leaves_no_container_and_no_network() -> anyhow::Result<()> {
    if !engine_is_there() {
        return Ok(());
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "each_node_can_be_lost_and_comes_back",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    // Held until the child is gone: it would stumble over a pipe that nobody reads.
    let mut output = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mark = output
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(FIRST_NODE)?.1.to_owned()))
        .context("the cluster was not started")?;
    let left = || -> anyhow::Result<Vec<String>> {
        let name = format!("name={mark}");
        let containers = lists(&["ps", "--all", "--quiet", "--filter", &name])?;
        let networks = lists(&["network", "ls", "--quiet", "--filter", &name])?;
        Ok([containers, networks].concat())
    };
    let before = left()?;
    ensure!(
        before.len() == 4,
        "not three nodes and a network: {before:?}"
    );

    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process_group(group.context("no process")?, Signal::INT)?;
    let status = child.wait()?;
    ensure!(!status.success(), "it had ended by itself");
    drop(output);
    let begin = Instant::now();
    while !left()?.is_empty() {
        ensure!(
            begin.elapsed() < Duration::from_secs(30),
            "left: {:?}",
            left()?
        );
        pause();
    }
    Ok(())
}

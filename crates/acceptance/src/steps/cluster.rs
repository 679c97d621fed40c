//! A broker of three nodes that loses one. Scenarios with these sentences are tagged `@containers`: they need containers.

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS};
use cucumber::{given, then, when};

use crate::audit;
use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::parameters::{Loss, Which};
use crate::stack::Stack;
use crate::steps::services::until_orders_are_under_way;
use crate::world::World;

/// Orders and Payments have one connection to send and one to receive each.
const CONNECTIONS: usize = 4;
/// Orders that must end while one node is restarted, to show that the other two do the work.
const GOES_ON: i64 = 100;
/// A cluster may take its time over a silent node; how long is told, and this is far above it.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(180);

#[given("the broker is a cluster of three nodes")]
async fn the_broker_is_a_cluster(world: &mut World) -> Step {
    world.settings.cluster = true;
    println!("{}", world.prepare().await?.cluster()?.describe());
    Ok(())
}

#[given("every queue is on all three nodes")]
#[then("every queue is on all three nodes")]
async fn every_queue_is_everywhere(world: &mut World) -> Step {
    Ok(until_every_queue_is_everywhere(world.stack()?).await?)
}

#[when(expr = "the node that leads the requests is {loss} while orders are under way")]
async fn the_leader_is_lost(world: &mut World, loss: Loss) -> Step {
    let stack = world.stack()?;
    stack.until_topology_is_old().await?;
    let cluster = stack.cluster()?;
    let members = cluster.members(stack.vhost(), PAYMENT_REQUESTS.queue);
    let leader = members.await?.leader.context("nobody leads the requests")?;
    let node = &cluster.nodes()[leader];
    require!(
        node.link().open_connections() >= CONNECTIONS,
        "the services are not connected to the node that is to be lost"
    );
    until_orders_are_under_way(world).await?;
    match loss {
        Loss::Killed => node.kill().await?,
        Loss::CutOff => node.cut_off().await?,
        Loss::Paused => node.freeze().await?,
    }
    world.lost_node = Some(leader);
    Ok(())
}

#[then("another node leads the requests")]
async fn another_node_leads(world: &mut World) -> Step {
    let lost = world.lost_node.context("no node is lost")?;
    let stack = world.stack()?;
    let cluster = stack.cluster()?;
    let what = "another node leads the requests";
    within(CLUSTER_PATIENCE, what, || async move {
        let members = cluster
            .members(stack.vhost(), PAYMENT_REQUESTS.queue)
            .await?;
        let another = members.leader.is_some_and(|leader| leader != lost);
        ensure!(another && !members.online.contains(&lost), "{members:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("the services have moved to the other nodes")]
async fn the_services_have_moved(world: &mut World) -> Step {
    let lost = world.lost_node.context("no node is lost")?;
    let cluster = world.stack()?.cluster()?;
    eventually("the services are connected to the other nodes", || async {
        let others = (0..).zip(cluster.nodes()).filter(|(n, _)| *n != lost);
        let connections: usize = others.map(|(_, node)| node.link().open_connections()).sum();
        ensure!(connections >= CONNECTIONS, "{connections} connections");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "{int} more orders end without that node")]
async fn more_orders_end(world: &mut World, count: i64) -> Step {
    require!(world.lost_node.is_some(), "no node is lost");
    Ok(until_more_end(world.stack()?, count).await?)
}

#[when("that node is back")]
async fn that_node_is_back(world: &mut World) -> Step {
    require!(world.lost_node.take().is_some(), "no node is lost");
    Ok(world.stack()?.restore_cluster().await?)
}

#[when("each node in turn is restarted while orders are under way")]
async fn each_is_restarted(world: &mut World) -> Step {
    world.stack()?.until_topology_is_old().await?;
    for number in 0..world.stack()?.cluster()?.nodes().len() {
        until_orders_are_under_way(world).await?;
        let stack = world.stack()?;
        let cluster = stack.cluster()?;
        cluster.nodes()[number].stop().await?;
        let what = "the queue of requests is on the other two nodes";
        within(CLUSTER_PATIENCE, what, || async move {
            let members = cluster
                .members(stack.vhost(), PAYMENT_REQUESTS.queue)
                .await?;
            ensure!(!members.online.contains(&number), "{members:?}");
            Ok(())
        })
        .await?;
        until_more_end(stack, GOES_ON).await?;
        cluster.restore().await?;
        // As an operator does: the next one only when nothing depends on it alone.
        until_every_queue_is_everywhere(stack).await?;
    }
    Ok(())
}

#[then(expr = "{service} has read back {string}")]
async fn has_read_back(world: &mut World, service: Which, words: String) -> Step {
    let (stack, words) = (world.stack()?, words.as_str());
    let what = format!("{} says {words}", service.0);
    within(CLUSTER_PATIENCE, &what, || async move {
        let answer = stack.health(service.0, "ready").await?;
        ensure!(answer.body.contains(words), "it says {}", answer.body);
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the queue of requests is left on one node only")]
async fn left_on_one_node(world: &mut World) -> Step {
    let stack = world.stack()?;
    let cluster = stack.cluster()?;
    let (vhost, queue) = (stack.vhost(), PAYMENT_REQUESTS.queue);
    let members = cluster.members(vhost, queue).await?;
    let leader = members.leader.context("nobody leads the requests")?;
    for node in members.all.into_iter().filter(|node| *node != leader) {
        cluster.set_member(vhost, queue, node, false).await?;
    }
    eventually("the queue is on one node", || async move {
        let members = cluster.members(vhost, queue).await?;
        ensure!(members.all == [leader], "{members:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the queue of requests is put on the other nodes again")]
async fn put_on_the_others(world: &mut World) -> Step {
    let stack = world.stack()?;
    let cluster = stack.cluster()?;
    let (vhost, queue) = (stack.vhost(), PAYMENT_REQUESTS.queue);
    let members = cluster.members(vhost, queue).await?.all;
    for node in (0..cluster.nodes().len()).filter(|node| !members.contains(node)) {
        // One after the other: a change of members is refused while another is under way.
        eventually("the queue has one more member", || async move {
            cluster.set_member(vhost, queue, node, true).await
        })
        .await?;
    }
    Ok(())
}

#[then(expr = "orders never stood still for more than {int} seconds")]
async fn never_stood_still(world: &mut World, bound: u64) -> Step {
    let (pause, wait) = audit::longest_waits(world.stack()?).await?;
    println!("no order ended for {pause:.1?} at most; the slowest order took {wait:.1?}");
    require!(
        pause < Duration::from_secs(bound),
        "they did for {pause:.1?}"
    );
    Ok(())
}

async fn until_every_queue_is_everywhere(stack: &Stack) -> anyhow::Result<()> {
    let cluster = stack.cluster()?;
    let everywhere: Vec<usize> = (0..cluster.nodes().len()).collect();
    let queues = [PAYMENT_REQUESTS.queue, ORDER_RESULTS.queue];
    for queue in queues
        .map(|queue| [queue.to_owned(), format!("{queue}.dead")])
        .concat()
    {
        let (queue, everywhere) = (queue.as_str(), &everywhere);
        within(
            CLUSTER_PATIENCE,
            &format!("{queue} is on all nodes"),
            || async move {
                let members = cluster.members(stack.vhost(), queue).await?;
                let is_well = members.leader.is_some() && members.all == *everywhere;
                ensure!(is_well && members.online == *everywhere, "{members:?}");
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}

async fn until_more_end(stack: &Stack, count: i64) -> anyhow::Result<()> {
    let before = audit::ended(stack).await?;
    within(CLUSTER_PATIENCE, "more orders end", || async move {
        let more = audit::ended(stack).await? - before;
        ensure!(more >= count, "{more} have");
        Ok(())
    })
    .await
}

//! What a broker does to those who use it, short of going away. Each step that breaks something asserts that it did.

use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::topology::{EXCHANGE, PAYMENT_REQUESTS};
use cucumber::{given, then, when};
use lapin::ErrorKind;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::FieldTable;
use prover::amqp;
use sandbox::{Alarm, Rabbitmq};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::parameters::{Person, Which};
use crate::process::Service;
use crate::stack::{OWN_PASSWORD, Stack};
use crate::world::World;

/// Bytes a second that are some 40 messages.
const SLOW: usize = 28_000;
/// Requests that must leave over a slow connection, to show that it goes on.
const GOES_ON: i64 = 150;
/// Kills of the broker until one leaves a queue dead.
const KILLS: usize = 6;
/// A queue that is well answers at once, or as soon as its broker is whole again.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// Orders and Payments have one connection to send and one to receive each.
const CONNECTIONS: usize = 4;

#[given("the services have a login of their own at the broker")]
async fn own_login(world: &mut World) -> Step {
    world.settings.own_login = true;
    Ok(())
}

#[given("confirms are given up soon")]
async fn confirms_are_given_up_soon(world: &mut World) -> Step {
    world.settings.confirm_timeout = "1s";
    Ok(())
}

#[then(expr = "{service} says {string}")]
async fn a_service_says(world: &mut World, service: Which, words: String) -> Step {
    let (stack, words) = (world.stack()?, words.as_str());
    eventually(&format!("{} says {words}", service.0), || async move {
        let answer = stack.health(service.0, "ready").await?;
        ensure!(answer.body.contains(words), "it says {}", answer.body);
        Ok(())
    })
    .await?;
    Ok(())
}

#[when(expr = "the broker runs out of {word}")]
async fn the_broker_runs_out(world: &mut World, of: String) -> Step {
    let alarm = match of.as_str() {
        "memory" => Alarm::Memory,
        "disk" => Alarm::Disk,
        other => return Err(anyhow::anyhow!("a broker does not run out of {other}").into()),
    };
    world.down.alarm = Some(alarm);
    Ok(world.stack()?.sandbox().rabbitmq.raise_alarm(alarm).await?)
}

#[then("the broker blocks who publishes")]
async fn the_broker_blocks(world: &mut World) -> Step {
    let rabbitmq = &world.stack()?.sandbox().rabbitmq;
    eventually("a connection is blocked", || async move {
        let connections = rabbitmq.management("GET", "/api/connections", None).await?;
        let connections = connections.as_array().context("no list")?;
        let blocked = connections
            .iter()
            .filter(|connection| connection["state"] == "blocked")
            .count();
        ensure!(blocked > 0, "none of {} is blocked", connections.len());
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the broker has enough again")]
async fn the_broker_has_enough_again(world: &mut World) -> Step {
    let alarm = world.down.alarm.context("it never ran out of anything")?;
    world.stack()?.sandbox().rabbitmq.end_alarm(alarm).await?;
    world.down.alarm = None;
    Ok(())
}

#[when("the exchange is deleted")]
async fn the_exchange_is_deleted(world: &mut World) -> Step {
    Ok(delete(world.stack()?, &["exchanges"], &[EXCHANGE]).await?)
}

#[when("the queue of requests is deleted")]
async fn the_queue_is_deleted(world: &mut World) -> Step {
    Ok(delete(world.stack()?, &["queues"], &[PAYMENT_REQUESTS.queue]).await?)
}

#[when("the requests' way to their queue is cut")]
async fn the_binding_is_deleted(world: &mut World) -> Step {
    let (from, to) = (
        ["bindings"],
        [PAYMENT_REQUESTS.queue, PAYMENT_REQUESTS.kind],
    );
    Ok(delete(world.stack()?, &from, &["e", EXCHANGE, "q", to[0], to[1]]).await?)
}

#[then(expr = "the {word} {string} is there again within {int} seconds")]
async fn is_soon_there_again(world: &mut World, kind: String, name: String, seconds: u64) -> Step {
    let stack = world.stack()?;
    let path = format!("/api/{kind}s/{}/{name}", stack.vhost());
    let path = path.as_str();
    within(
        Duration::from_secs(seconds),
        "it is declared anew",
        || async move {
            let rabbitmq = &stack.sandbox().rabbitmq;
            rabbitmq.management("GET", path, None).await.map(drop)
        },
    )
    .await?;
    Ok(())
}

/// Deletes what is there: the management API refuses to delete what is not.
pub(crate) async fn delete(stack: &Stack, kind: &[&str], names: &[&str]) -> anyhow::Result<()> {
    let path = format!(
        "/api/{}/{}/{}",
        kind.join("/"),
        stack.vhost(),
        names.join("/")
    );
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.management("DELETE", &path, None).await.map(drop)
}

#[given("somebody has declared the queue of requests in another way")]
async fn declared_otherwise(world: &mut World) -> Step {
    let stack = world.prepare().await?;
    let path = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
    let classic = json!({ "durable": true, "arguments": { "x-queue-type": "classic" } });
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.management("PUT", &path, Some(classic)).await?;
    Ok(())
}

#[when("the services may do nothing at the broker any more")]
async fn permissions_are_revoked(world: &mut World) -> Step {
    let stack = world.stack()?;
    let rabbitmq = &stack.sandbox().rabbitmq;
    rabbitmq.permit(stack.vhost(), "^$").await?;
    // What was permitted before is remembered by each open channel.
    Ok(all_are_thrown_out(stack, rabbitmq).await?)
}

#[when("the services may do everything at the broker again")]
async fn permissions_are_back(world: &mut World) -> Step {
    let stack = world.stack()?;
    stack.sandbox().rabbitmq.permit(stack.vhost(), ".*").await?;
    Ok(())
}

#[when("the services' password at the broker is changed")]
async fn the_password_is_changed(world: &mut World) -> Step {
    let stack = world.stack()?;
    let rabbitmq = &stack.sandbox().rabbitmq;
    let vhost = stack.vhost();
    rabbitmq.set_login(vhost, vhost, "another").await?;
    Ok(all_are_thrown_out(stack, rabbitmq).await?)
}

#[when("the services' password at the broker is as before")]
async fn the_password_is_as_before(world: &mut World) -> Step {
    let stack = world.stack()?;
    let vhost = stack.vhost();
    let rabbitmq = &stack.sandbox().rabbitmq;
    Ok(rabbitmq.set_login(vhost, vhost, OWN_PASSWORD).await?)
}

/// What the management API knows of connections is a second old, so it is asked until each one that the services
/// have was closed.
pub(super) async fn all_are_thrown_out(stack: &Stack, rabbitmq: &Rabbitmq) -> anyhow::Result<()> {
    let mut closed = 0;
    while closed < CONNECTIONS {
        closed += eventually("connections are open, and are closed", || async move {
            let closed = rabbitmq.close_all_connections(stack.vhost()).await?;
            ensure!(closed > 0, "there is none");
            Ok(closed)
        })
        .await?;
    }
    Ok(())
}

#[when("the way to the broker becomes narrow")]
async fn the_way_becomes_narrow(world: &mut World) -> Step {
    let link = world.stack()?.sandbox().rabbitmq.link();
    require!(link.open_connections() > 0, "nobody is connected");
    link.set_bandwidth(Some(SLOW));
    Ok(())
}

#[then("requests leave all the same")]
async fn requests_leave(world: &mut World) -> Step {
    let stack = world.stack()?;
    let before = sent(stack).await?;
    eventually("requests leave", || async move {
        let since = sent(stack).await? - before;
        ensure!(since >= GOES_ON, "{since} have left");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the way to the broker is wide again")]
async fn the_way_is_wide_again(world: &mut World) -> Step {
    world.stack()?.sandbox().rabbitmq.link().set_bandwidth(None);
    Ok(())
}

#[when(expr = "the request for {person}'s order is spoilt by {string}")]
async fn a_request_is_spoilt(world: &mut World, person: Person, fault: String) -> Step {
    let order = world.last_order(&person)?.id;
    let mut connection = orders_database(world.stack()?).await?;
    let spoil = match fault.as_str() {
        "a header beyond all bounds" => "request_id = repeat('x', 140000)",
        "a body beyond all bounds" => "body = body || repeat(' ', 140000)",
        "a type beyond all bounds" => "kind = repeat('x', 300)",
        other => return Err(anyhow::anyhow!("no fault {other:?} is known here").into()),
    };
    let free = "alter table outbox_messages drop constraint outbox_messages_request_id_check";
    sqlx::query(free).execute(&mut connection).await?;
    let spoil = format!(
        "update outbox_messages b set {spoil} from audit.orders o \
          where o.order_uid = b.key and o.order_id = $1 and not b.is_published"
    );
    let spoilt = sqlx::query(sqlx::AssertSqlSafe(spoil))
        .bind(order)
        .execute(&mut connection)
        .await?;
    require!(
        spoilt.rows_affected() == 1,
        "{} requests are spoilt",
        spoilt.rows_affected()
    );
    Ok(connection.close().await?)
}

#[then("Orders has set the spoilt request aside")]
async fn the_spoilt_is_set_aside(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("the spoilt request is parked", || async move {
        let parked = crate::audit::parked(stack, Service::Orders).await?;
        let expected = parked.len() == 1
            && parked[0].queue == PAYMENT_REQUESTS.queue
            && parked[0].reason == "attempts";
        ensure!(expected, "parked are {parked:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("messages have come back to Orders")]
async fn messages_have_come_back(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("messages have come back", || async move {
        let mut connection = orders_database(stack).await?;
        let back: i64 = sqlx::query_scalar("select count(*) from audit.outbox where attempts > 0")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        ensure!(back > 0, "none has");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the broker is killed right after it made the queue of requests")]
async fn killed_too_early(world: &mut World) -> Step {
    for _ in 0..KILLS {
        let stack = world.stack()?;
        let rabbitmq = &stack.sandbox().rabbitmq;
        delete(stack, &["queues"], &[PAYMENT_REQUESTS.queue]).await?;
        let path = format!("/api/queues/{}/{}", stack.vhost(), PAYMENT_REQUESTS.queue);
        eventually("a service has declared it anew", || async {
            let queue: Value = rabbitmq.management("GET", &path, None).await?;
            ensure!(queue["name"] == PAYMENT_REQUESTS.queue, "{queue}");
            Ok(())
        })
        .await?;
        rabbitmq.kill().await?;
        world.down.broker = true;
        let stack = world.stack()?;
        let rabbitmq = &stack.sandbox().rabbitmq;
        rabbitmq.start().await?;
        world.down.broker = false;
        if is_dead(world.stack()?).await? {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("{KILLS} kills, and no queue came back dead").into())
}

/// Whether the queue of requests is there, and does not even say, for some time, that it is empty. A broker that is
/// not up yet, or a queue that is not there, says nothing of that.
async fn is_dead(stack: &Stack) -> anyhow::Result<bool> {
    let url = stack.amqp_url();
    let queue = PAYMENT_REQUESTS.queue;
    eventually("the queue is there, dead or alive", || async {
        let connection = amqp::connect(&url, "acceptance-probe").await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let there = channel.queue_declare(queue.into(), passive, FieldTable::default());
        tokio::time::timeout(DEAD_AFTER, there).await??;
        let get = channel.basic_get(queue.into(), BasicGetOptions::default());
        match tokio::time::timeout(DEAD_AFTER, get).await {
            Err(_) => Ok(true),
            Ok(Err(error)) if is_internal(&error) => Ok(true),
            Ok(answer) => Ok(answer.map(|_| false)?),
        }
    })
    .await
}

/// What the broker makes of its own vain wait for a queue.
fn is_internal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error)
        if *error.kind() == AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR))
}

/// So the queue was dead, and it was not the broker that mended it.
#[then("Orders has deleted the dead queue of requests")]
async fn the_dead_queue_is_replaced(world: &mut World) -> Step {
    let path = &world.stack()?.log(Service::Orders.first());
    eventually("Orders says that it deletes the queue", || async move {
        let log = std::fs::read_to_string(path).context("cannot read a log")?;
        let says = log.lines().any(|line| {
            line.contains("the queue does not answer: it is deleted")
                && line.contains(PAYMENT_REQUESTS.queue)
        });
        ensure!(says, "it does not");
        Ok(())
    })
    .await?;
    Ok(())
}

async fn sent(stack: &Stack) -> anyhow::Result<i64> {
    let mut connection = orders_database(stack).await?;
    let sent = sqlx::query_scalar("select count(*) from audit.outbox where sent")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(sent)
}

async fn orders_database(stack: &Stack) -> anyhow::Result<PgConnection> {
    let connect = PgConnection::connect(&stack.database_url(Service::Orders)?).await;
    connect.context("cannot connect to the database of Orders")
}

//! The network of one scenario: ways that are cut, swallow, delay or chop up what is sent on them.
//!
//! Not here: the shared servers themselves (`faults`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cucumber::{given, then, when};
use prover::client::{Client, Status};
use prover::quiescence;
use sandbox::{Link, Proxy};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::audit;
use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::parameters::{FarEnd, Harm, Person, Which};
use crate::steps::poison::queue_of;
use crate::steps::services::until_orders_are_under_way;
use crate::ways::Far;
use crate::world::World;

/// There and back it is twice as long.
const FAR_AWAY: Duration = Duration::from_millis(10);
/// An order may well be paid before the confirm of its request is noted: for as long it is not the network's fault.
const STAYS_UNCONFIRMED: Duration = Duration::from_secs(3);
/// Some rounds of looking for what is due (`RELAY__POLL_INTERVAL`), and a fifth of a lease.
const A_LITTLE: Duration = Duration::from_secs(3);
/// Another continent, over a bad line.
const VERY_FAR_AWAY: Duration = Duration::from_millis(150);
/// One portion in so many is lost on it, and the connection with it.
const LOST_ONE_IN: usize = 100;

#[given("a balancer in front of Orders and Payments")]
async fn a_balancer(world: &mut World) -> Step {
    world.settings_mut()?.balanced = true;
    Ok(())
}

#[when(expr = "the way from {service} to {far} {harm}")]
async fn a_way_is_harmed(world: &mut World, service: Which, far: FarEnd, harm: Harm) -> Step {
    let way = way(world, service, far)?;
    require!(
        way.open_connections() > 0,
        "nobody uses that way, so nobody would notice"
    );
    way.set_link(harm.0);
    if matches!(harm.0, Link::Down | Link::Reset) {
        eventually("the connections are cut", || async move {
            // Clients that try again are cut off at once, and counted for a moment.
            let open = way.open_connections();
            ensure!(open <= 1, "{open} are open");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[when(expr = "the way from {service} to {far} {harm} while orders are under way")]
async fn a_way_is_harmed_under_load(
    world: &mut World,
    service: Which,
    far: FarEnd,
    harm: Harm,
) -> Step {
    until_orders_are_under_way(world).await?;
    a_way_is_harmed(world, service, far, harm).await
}

#[when("every way is open again")]
async fn every_way_is_open(world: &mut World) -> Step {
    world.stack()?.ways().heal();
    Ok(())
}

#[given(expr = "{service} is far away from its database")]
async fn is_far_away(world: &mut World, service: Which) -> Step {
    let way = way(world, service, FarEnd::Database)?;
    way.set_delay(FAR_AWAY);
    Ok(())
}

#[when("every way is slow, passes on one byte at a time, and is reset one time in a hundred")]
async fn every_way_is_slow(world: &mut World) -> Step {
    for way in world.stack()?.ways().all() {
        way.set_delay(VERY_FAR_AWAY);
        way.set_slice(1);
        way.set_reset_each(LOST_ONE_IN);
    }
    Ok(())
}

#[then("connections were reset on the way")]
async fn connections_were_reset(world: &mut World) -> Step {
    let ways = world.stack()?.ways();
    eventually("connections are reset", || async move {
        let resets: usize = ways.all().map(Proxy::resets).sum();
        ensure!(resets > 0, "none was");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when(expr = "{person} orders for {money}, and waits for the answer")]
async fn orders_and_waits(
    world: &mut World,
    person: Person,
    amount: crate::parameters::Amount,
) -> Step {
    let (user_id, amount) = (world.user_id(&person), amount.0);
    let client = world.client()?.clone();
    world.seen.invoked(user_id, amount);
    world.waits = Some(tokio::spawn(async move {
        client
            .place_order(user_id, &amount.to_string(), "acceptance")
            .await
    }));
    Ok(())
}

#[then(expr = "the books say that {person}'s order is finished")]
async fn the_books_say(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let stack = world.stack()?;
    eventually("the order is finished", || async move {
        let finished = audit::finished(stack, user_id).await?;
        ensure!(finished == 1, "{finished} orders are");
        Ok(())
    })
    .await?;
    let waits = world.waits.as_ref().context("nobody waits")?;
    require!(!waits.is_finished(), "the answer was not held up");
    Ok(())
}

#[then(expr = "{person} is told that the order is open")]
async fn is_told(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let waits = world.waits.take().context("nobody waits")?;
    let order = waits.await?.ok()?;
    require!(
        order.user_id == user_id && order.status == Status::New,
        "the answer is {order:?}"
    );
    let amount = order.amount.parse()?;
    world.remember(&order, amount);
    Ok(())
}

#[then("payments are made for orders that Orders does not know to be sent")]
async fn paid_and_not_known_to_be_sent(world: &mut World) -> Step {
    let stack = world.stack()?;
    let since = Mutex::new(BTreeMap::<Uuid, Instant>::new());
    let since = &since;
    eventually("requests are paid and stay unconfirmed", || async move {
        let unsent = audit::unsent_orders(stack).await?;
        let paid = audit::decided_among(stack, &unsent).await?;
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|order, _| paid.contains(order));
        for order in paid {
            since.entry(order).or_insert_with(Instant::now);
        }
        let longest = since.values().map(Instant::elapsed).max();
        let stays = longest.is_some_and(|age| age >= STAYS_UNCONFIRMED);
        ensure!(stays, "of {} unsent ones, since {longest:?}", unsent.len());
        Ok(())
    })
    .await?;
    Ok(())
}

/// Whoever minds no lease has seen them by then, and the lease is not over.
#[then("a little later no request was delivered twice, though some are not known to be sent")]
async fn leases_are_minded(world: &mut World) -> Step {
    let since = Instant::now();
    within(A_LITTLE * 2, "a little while has passed", || async move {
        ensure!(since.elapsed() >= A_LITTLE, "{:?} so far", since.elapsed());
        Ok(())
    })
    .await?;
    let stack = world.stack()?;
    let again = audit::answered_again(stack).await?;
    require!(again == 0, "{again} requests were delivered twice");
    let in_flight = quiescence::in_flight(stack.databases()).await?;
    let unsent = in_flight.unsent_by_orders;
    require!(unsent > 0, "all are known to be sent: no lease was needed");
    Ok(())
}

#[then(expr = "{int} requests were answered a second time")]
async fn so_many_were_answered_again(world: &mut World, count: i64) -> Step {
    let stack = world.stack()?;
    eventually("they are answered again", || async move {
        let again = audit::answered_again(stack).await?;
        ensure!(again == count, "{again} are");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("some requests were delivered twice")]
async fn some_were_delivered_twice(world: &mut World) -> Step {
    let stack = world.stack()?;
    // An order is finished on the first answer, and the second request may still be on its way.
    eventually("a request is answered again", || async move {
        let again = audit::answered_again(stack).await?;
        ensure!(again > 0, "each was answered once");
        Ok(())
    })
    .await?;
    Ok(())
}

#[when("the answer to the next order is lost")]
async fn the_next_answer_is_lost(world: &mut World) -> Step {
    let way = way(world, Which(ORDERS), FarEnd::Database)?;
    // The text that these orders carry; it stands in the statement that stores them.
    way.lose_answer_to(b"at once");
    Ok(())
}

/// Of a transaction that takes messages in: it names their queue.
#[when(expr = "the answer to the next commit of {service} is lost")]
async fn the_next_answer_to_a_commit_is_lost(world: &mut World, service: Which) -> Step {
    let queue = queue_of(service.0.service)?.queue.as_bytes();
    way(world, service, FarEnd::Database)?.lose_answer_behind(queue, b"COMMIT");
    Ok(())
}

/// As above.
#[when(expr = "the next commit of {service} is lost")]
async fn the_next_commit_is_lost(world: &mut World, service: Which) -> Step {
    let queue = queue_of(service.0.service)?.queue.as_bytes();
    way(world, service, FarEnd::Database)?.lose_request_behind(queue, b"COMMIT");
    Ok(())
}

#[then(expr = "an answer of {service}'s database was lost indeed")]
#[then(expr = "a commit of {service} was lost indeed")]
async fn an_answer_was_lost(world: &mut World, service: Which) -> Step {
    let way = way(world, service, FarEnd::Database)?;
    eventually("an answer is lost", || async move {
        ensure!(way.lost_in_traps() > 0, "none was");
        Ok(())
    })
    .await?;
    Ok(())
}

const ORDERS: crate::process::Instance = crate::process::Service::Orders.first();

/// The way that a step speaks of.
pub(crate) fn way(world: &World, service: Which, far: FarEnd) -> anyhow::Result<&Proxy> {
    let ways = world.stack()?.ways();
    match far {
        FarEnd::Database => ways.to(service.0, Far::Database),
        FarEnd::Broker => ways.to(service.0, Far::Broker),
        FarEnd::Gateway => ways
            .balancer(service.0.service)
            .context("there is no balancer, whose ways could be harmed"),
    }
}

#[when(expr = "{service} may open no more than {int} files")]
async fn may_open_no_more(world: &mut World, service: Which, count: u64) -> Step {
    Ok(world.stack_mut()?.process(service.0)?.limit_files(count)?)
}

#[when(expr = "{int} clients connect to {service} and say nothing")]
async fn silent_clients(world: &mut World, count: usize, service: Which) -> Step {
    let port = world.stack()?.api_port(service.0)?;
    for _ in 0..count {
        // The system accepts for the service, up to a length of its own.
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        world.silent.push(client);
    }
    Ok(())
}

#[then(expr = "{service} serves nobody else")]
async fn serves_nobody(world: &mut World, service: Which) -> Step {
    let answer = ask_directly(world, service).await;
    require!(answer.is_err(), "it answers {answer:?}");
    Ok(())
}

#[when("the silent clients leave")]
async fn silent_clients_leave(world: &mut World) -> Step {
    world.silent.clear();
    Ok(())
}

#[then(expr = "{service} serves everybody again")]
async fn serves_again(world: &mut World, service: Which) -> Step {
    let world = &*world;
    eventually("it answers", || ask_directly(world, service)).await?;
    Ok(())
}

/// One request to a process itself, on a new connection.
async fn ask_directly(world: &World, service: Which) -> anyhow::Result<u16> {
    let port = world.stack()?.api_port(service.0)?;
    let base = format!("http://127.0.0.1:{port}");
    let client = Client::with_timeout(&base, Duration::from_secs(2))?;
    let answer = client.send("GET", "/health/live", None).await.ok()?;
    Ok(answer.status)
}

//! What the gateway is asked while the services behind it, or other clients, leave it waiting.
//!
//! Not here: requests and answers letter for letter (`api`).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cucumber::{then, when};
use futures::future::join_all;
use prover::client::Answer;
use sandbox::{Link, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::eventually::{PATIENCE, eventually};
use crate::failed::{Step, require};
use crate::parameters::{Amount, FarEnd, Person, Which};
use crate::process::{Instance, Service};
use crate::steps::api::send;
use crate::steps::ways::way;
use crate::world::World;

const ORDERS: Which = Which(Service::Orders.first());
const GATEWAY: Instance = Service::Gateway.first();
/// Bytes a second: fifty orders take some seconds.
const NARROW: usize = 1_000;
/// How soon a slow sender sends its next byte. Any client that works sends a whole head at once.
const DAWDLE: Duration = Duration::from_millis(500);

#[then(expr = "whoever asks for {person}'s orders is answered {int} {string} within {int} seconds")]
async fn asking_is_answered(
    world: &mut World,
    person: Person,
    status: u16,
    code: String,
    seconds: u64,
) -> Step {
    let path = format!("/v1/orders/?user_id={}", world.user_id(&person));
    let began = Instant::now();
    let answer = send(world, "GET", &path, None, None).await?;
    Ok(is_in_time(&answer, status, &code, began, seconds)?)
}

/// The order may be stored all the same, and later than this: nobody knows.
#[then(expr = "whoever orders for {person} is answered {int} {string} within {int} seconds")]
async fn ordering_is_answered(
    world: &mut World,
    person: Person,
    status: u16,
    code: String,
    seconds: u64,
) -> Step {
    let user_id = world.user_id(&person);
    world.seen.invoked(user_id, "1.00".parse()?);
    let order = format!(r#"{{"user_id":{user_id},"amount":"1.00","description":"nobody knows"}}"#);
    let began = Instant::now();
    let answer = send(world, "POST", "/v1/orders/", Some(order), None).await?;
    Ok(is_in_time(&answer, status, &code, began, seconds)?)
}

fn is_in_time(
    answer: &Answer,
    status: u16,
    code: &str,
    began: Instant,
    seconds: u64,
) -> anyhow::Result<()> {
    let took = began.elapsed();
    let code = format!(r#""code":"{code}""#);
    ensure!(
        answer.status == status && answer.body.contains(&code),
        "the answer is {} {}",
        answer.status,
        answer.body
    );
    ensure!(
        took <= Duration::from_secs(seconds),
        "it took {took:?} to come"
    );
    Ok(())
}

#[then(expr = "{person}'s account can be read all the same")]
async fn accounts_can_be_read(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    world.client()?.account(user_id).await.ok()?;
    Ok(())
}

#[when(expr = "the gateway is told that Orders is at {string}")]
async fn told_another_name(world: &mut World, host: String) -> Step {
    let stack = world.stack_mut()?;
    stack.tell_once(GATEWAY, "ORDERS_SERVICE_URL", format!("http://{host}"));
    Ok(())
}

#[when(
    expr = "{person} orders {int} times for {money}, and before each all connections of the gateway to Orders are closed"
)]
async fn orders_over_closed_connections(
    world: &mut World,
    person: Person,
    times: usize,
    amount: Amount,
) -> Step {
    let user_id = world.user_id(&person);
    for n in 0..times {
        close_all(way(world, ORDERS, FarEnd::Gateway)?, n > 0).await?;
        // By the time it has answered, the gateway has read what came before: that the connections are closed.
        world
            .client()?
            .send("GET", "/health/live", None)
            .await
            .ok()?;
        world.place_order(user_id, amount.0).await?;
    }
    Ok(())
}

/// Closes what is open, and lets new connections pass.
async fn close_all(way: &Proxy, must_be_open: bool) -> anyhow::Result<()> {
    ensure!(
        !must_be_open || way.open_connections() > 0,
        "the gateway keeps no connection, so none can be closed"
    );
    way.set_link(Link::Down);
    eventually("the connections are closed", || async move {
        let open = way.open_connections();
        ensure!(open == 0, "{open} are open");
        Ok(())
    })
    .await?;
    way.set_link(Link::Up);
    Ok(())
}

#[when("the answer to the next order is lost between Orders and the gateway")]
async fn the_answer_to_an_order_is_lost(world: &mut World) -> Step {
    way(world, ORDERS, FarEnd::Gateway)?.lose_answer_to(b"POST /v1/orders ");
    Ok(())
}

#[when("the answer to the next question is lost between Orders and the gateway")]
async fn the_answer_to_a_question_is_lost(world: &mut World) -> Step {
    way(world, ORDERS, FarEnd::Gateway)?.lose_answer_to(b"GET /v1/orders?");
    Ok(())
}

#[then(expr = "{person}'s orders can be read all the same, and there is one")]
async fn there_is_one(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let orders = world.client()?.orders(user_id).await.ok()?;
    require!(orders.len() == 1, "there are {orders:?}");
    Ok(())
}

#[then(expr = "{int} answers were lost between Orders and the gateway")]
async fn answers_were_lost(world: &mut World, count: usize) -> Step {
    let lost = way(world, ORDERS, FarEnd::Gateway)?.lost_in_traps();
    require!(lost == count, "{lost} were");
    Ok(())
}

#[when(
    expr = "the way from Orders to the gateway is narrow, and is cut while {person}'s orders are on it"
)]
async fn cut_within_an_answer(world: &mut World, person: Person) -> Step {
    let path = format!("/v1/orders/?user_id={}", world.user_id(&person));
    let url = format!("{}{path}", world.stack()?.url());
    let whole = send(world, "GET", &path, None, None).await?.body.len();
    let way = way(world, ORDERS, FarEnd::Gateway)?;
    way.set_bandwidth(Some(NARROW));
    // What is open has begun to take more at a time.
    close_all(way, true).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let mut response = client.build()?.get(url).send().await?;
    require!(response.status() == 200, "it is {}", response.status());
    let mut came = response.chunk().await?.map_or(0, |chunk| chunk.len());
    way.set_link(Link::Down);
    require!(
        came > 0 && came < whole,
        "{came} of {whole} bytes came before the cut"
    );
    let seen = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => came += chunk.len(),
            Ok(None) => break Err(format!("{came} of {whole} bytes were taken for all")),
            Err(_) => break Ok(()),
        }
    };
    require!(
        came < whole,
        "all of it came before the cut, so nothing is shown"
    );
    world.cut_short = Some(seen);
    Ok(())
}

#[then(expr = "what came is not taken for all of {person}'s orders")]
async fn not_taken_for_all(world: &mut World, _person: Person) -> Step {
    let seen = world.cut_short.take().context("nothing was cut short")?;
    Ok(seen.map_err(anyhow::Error::msg)?)
}

#[when(expr = "{int} clients send the gateway the head of a request, one byte at a time")]
async fn slow_heads(world: &mut World, count: usize) -> Step {
    Ok(dawdlers(world, count, b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await?)
}

#[when(expr = "{int} clients send it an order, one byte at a time")]
async fn slow_bodies(world: &mut World, count: usize) -> Step {
    let head = b"POST /v1/orders/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                 Content-Length: 60000\r\n\r\n";
    Ok(dawdlers(world, count, head, b"{").await?)
}

/// Clients that send the one at once, and the other and more a byte at a time until they are cut off.
async fn dawdlers(
    world: &mut World,
    count: usize,
    at_once: &'static [u8],
    slowly: &'static [u8],
) -> anyhow::Result<()> {
    let port = world.stack()?.api_port(GATEWAY)?;
    for _ in 0..count {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        client.write_all(at_once).await?;
        world.slow.spawn(async move {
            let mut pace = tokio::time::interval(DAWDLE);
            for byte in slowly.iter().chain(std::iter::repeat(&b' ')) {
                pace.tick().await;
                if client.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

#[then(expr = "all those clients are cut off within {int} seconds")]
async fn all_are_cut_off(world: &mut World, seconds: u64) -> Step {
    let silent = std::mem::take(&mut world.silent);
    require!(
        !silent.is_empty() && !world.slow.is_empty(),
        "there are none"
    );
    let cut = async {
        join_all(silent.into_iter().map(until_cut)).await;
        while world.slow.join_next().await.is_some() {}
    };
    if tokio::time::timeout(Duration::from_secs(seconds), cut)
        .await
        .is_err()
    {
        return Err(anyhow::anyhow!("not all are cut off within {seconds} s").into());
    }
    Ok(())
}

async fn until_cut(mut client: TcpStream) {
    // An error is an end as well as none.
    client.read_to_end(&mut Vec::new()).await.ok();
}

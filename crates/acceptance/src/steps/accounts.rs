//! Customers, their accounts and what is in them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::Money;
use cucumber::{given, then, when};
use futures::{StreamExt as _, TryStreamExt as _};
use prover::client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::failed::{Step, require};
use crate::parameters::{Amount, Person, Which};
use crate::steps::orders::place_at_once;
use crate::world::World;

/// Requests of one customer at a time: fewer than there are connections to the database.
const LANES: usize = 4;
/// Hang-ups before the answer that make the scenario worth something.
const CUT_SHORT: usize = 20;

#[given(expr = "{person} has an account with {money}")]
#[when(expr = "{person} opens an account with {money}")]
async fn opens_an_account(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    Ok(open_account(world, user_id, amount.0).await?)
}

#[given(expr = "{person} has no account")]
async fn has_no_account(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let outcome = world.client()?.account(user_id).await;
    let none = outcome.had_no_effect();
    require!(
        none,
        "asked for an account that must not be there: {outcome:?}"
    );
    Ok(())
}

#[given(expr = "{int} customers have an account with {money} each")]
async fn customers_have_accounts(world: &mut World, count: usize, amount: Amount) -> Step {
    for _ in 0..count {
        let user_id = world.new_customer();
        open_account(world, user_id, amount.0).await?;
    }
    Ok(())
}

#[given(expr = "{int} customers have no account")]
async fn customers_have_no_account(world: &mut World, count: usize) -> Step {
    for _ in 0..count {
        world.new_customer();
    }
    Ok(())
}

#[when(expr = "{person} deposits {money}")]
async fn deposits(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    let deposited = world
        .client()?
        .deposit(user_id, &amount.0.to_string())
        .await;
    deposited.ok().context("the deposit was not taken")?;
    Ok(())
}

#[when(expr = "{person} orders {int} times for {money} while she makes {int} deposits of {money}")]
async fn orders_and_deposits(
    world: &mut World,
    person: Person,
    orders: usize,
    price: Amount,
    deposits: usize,
    amount: Amount,
) -> Step {
    let user_id = world.user_id(&person);
    let client = world.client()?.clone();
    let deposits = deposit_often(client, user_id, amount.0, deposits, 1);
    let (deposited, ordered) = tokio::join!(
        deposits,
        place_at_once(world, vec![user_id; orders], price.0),
    );
    ordered?;
    Ok(deposited?)
}

#[when(
    expr = "{person} makes {int} deposits of {money} while {person} hangs up on {int} of {money}, at {service}"
)]
#[expect(clippy::too_many_arguments, reason = "the sentence has so many parts")]
async fn deposits_while_another_hangs_up(
    world: &mut World,
    honest: Person,
    deposits: usize,
    amount: Amount,
    hasty: Person,
    hang_ups: usize,
    other_amount: Amount,
    at: Which,
) -> Step {
    let (honest, hasty) = (world.user_id(&honest), world.user_id(&hasty));
    let client = world.client()?.clone();
    let port = world.stack()?.api_port(at.0)?;
    let body = format!(r#"{{"user_id":{hasty},"amount":"{}"}}"#, other_amount.0);
    let request = format!(
        "POST /v1/accounts/deposit HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let request = &request;
    let hang_ups = futures::stream::iter(0..hang_ups)
        .map(|turn| hang_up(port, request, turn))
        .buffer_unordered(LANES)
        .try_collect::<Vec<bool>>();
    let (deposited, unanswered) = tokio::join!(
        deposit_often(client, honest, amount.0, deposits, LANES),
        hang_ups
    );
    deposited?;
    let unanswered = unanswered?.into_iter().filter(|cut| *cut).count();
    require!(
        unanswered >= CUT_SHORT,
        "only {unanswered} requests were cut short"
    );
    Ok(())
}

/// Sends a request and hangs up a little later, each time at another moment of its way. Whether that was before the
/// answer.
async fn hang_up(port: u16, request: &str, turn: usize) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let moment = Duration::from_millis((turn as u64 * 7) % 71);
    let answered = tokio::time::timeout(moment, stream.read(&mut [0])).await;
    if turn.is_multiple_of(2) {
        // A reset is noticed while the request is worked on; an ordinary end may be only half of one.
        stream.set_zero_linger()?;
    }
    Ok(answered.is_err())
}

/// Makes deposits, so many at a time, each of which must be taken.
async fn deposit_often(
    client: Client,
    user_id: i64,
    amount: Money,
    count: usize,
    at_a_time: usize,
) -> anyhow::Result<()> {
    let amount = &amount.to_string();
    let client = &client;
    futures::stream::iter(0..count)
        .map(|_| async move { client.deposit(user_id, amount).await.ok() })
        .buffer_unordered(at_a_time)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("a deposit was not taken")
}

#[then(expr = "{person}'s balance is {money}")]
async fn balance_is(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    let account = world.client()?.account(user_id).await.ok()?;
    let expected = amount.0.to_string();
    require!(
        account.balance == expected,
        "the balance is {} and must be {expected}",
        account.balance
    );
    Ok(())
}

/// Opens an account and puts money into it.
///
/// # Errors
/// If one of the two is not answered as a success.
pub(crate) async fn open_account(world: &World, user_id: i64, amount: Money) -> anyhow::Result<()> {
    let client = world.client()?;
    client
        .open_account(user_id)
        .await
        .ok()
        .context("the account was not opened")?;
    if amount.is_zero() {
        return Ok(());
    }
    let deposited = client.deposit(user_id, &amount.to_string()).await;
    let account = deposited.ok().context("the deposit was not taken")?;
    ensure!(
        account.balance == amount.to_string(),
        "the first deposit gave a balance of {}",
        account.balance
    );
    Ok(())
}

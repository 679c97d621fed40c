//! Deposits that the database takes long for, or does not answer.
//!
//! Not here: deposits that are simply made (`accounts`).

use std::time::Duration;

use anyhow::ensure;
use cucumber::{then, when};
use prover::client::Client;
use tokio::task::JoinSet;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Amount, FarEnd, Person, Which};
use crate::process::Service;
use crate::steps::ways::way;
use crate::world::World;

/// More than there are connections for, several times.
const CROWD: u32 = 40;
/// How long Payments waits for a lock, and for a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections of Payments for its API, by default.
const POOL: i64 = 10;

#[when(expr = "the answer to {person}'s next deposit is lost")]
async fn the_next_deposit_is_lost(world: &mut World, person: Person) -> Step {
    // As a deposit begins to be sent: two parameters, the first of eight bytes, the user's number. The number alone
    // stands in the lists with which the reconciliation looks at accounts, too.
    let mut parameters = vec![0, 2, 0, 0, 0, 8];
    parameters.extend(world.user_id(&person).to_be_bytes());
    let payments = Which(Service::Payments.first());
    way(world, payments, FarEnd::Database)?.lose_answer_to(&parameters);
    Ok(())
}

#[when(expr = "{person} deposits {money}, and is told that nobody knows")]
async fn nobody_knows(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    let body = format!(r#"{{"user_id":{user_id},"amount":"{}"}}"#, amount.0);
    let sent = world
        .client()?
        .send("POST", "/v1/accounts/deposit", Some(body));
    let answer = sent.await.ok()?;
    require!(
        matches!(answer.status, 503 | 504),
        "the answer is {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

#[when(expr = "a crowd keeps depositing {money} to {person}'s account")]
async fn a_crowd_deposits(world: &mut World, amount: Amount, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let client = world.client()?.clone();
    let mut crowd = JoinSet::new();
    // One after another, over as long as a lock and a connection are waited for: all at once they would give up all at
    // once, again and again, at the very moment at which the connections are free.
    let mut arrivals = tokio::time::interval(PATIENCE / CROWD);
    for _ in 0..CROWD {
        arrivals.tick().await;
        crowd.spawn(deposit_for_ever(
            client.clone(),
            user_id,
            amount.0.to_string(),
        ));
    }
    world.crowd = Some(crowd);
    Ok(())
}

async fn deposit_for_ever(client: Client, user_id: i64, amount: String) {
    loop {
        // Whatever is answered: the crowd is there to use connections up.
        client.deposit(user_id, &amount).await.ok().ok();
    }
}

#[then("all connections of the API of Payments wait for the account")]
async fn the_pool_is_used_up(world: &mut World) -> Step {
    let mut connection = audit::connect(world.stack()?, Service::Payments).await?;
    let connection = tokio::sync::Mutex::new(&mut connection);
    let connection = &connection;
    eventually("all wait", || async move {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and application_name = 'paidonce-payments-api' and wait_event_type = 'Lock'",
        )
        .fetch_one(&mut **connection.lock().await)
        .await?;
        ensure!(waiting >= POOL, "{waiting} do");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "{person} is told to pay in later")]
async fn is_told_to_pay_in_later(world: &mut World, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let client = world.client()?;
    eventually("a deposit is refused for now", || {
        a_deposit_is_deferred(client, user_id)
    })
    .await?;
    Ok(())
}

/// Tries to pay 1.00 in.
///
/// # Errors
/// If the answer is another than 503 with `Retry-After`.
pub(crate) async fn a_deposit_is_deferred(client: &Client, user_id: i64) -> anyhow::Result<()> {
    let body = format!(r#"{{"user_id":{user_id},"amount":"1.00"}}"#);
    let sent = client.send("POST", "/v1/accounts/deposit", Some(body));
    let answer = sent.await.ok()?;
    ensure!(
        answer.status == 503 && answer.headers.contains_key("retry-after"),
        "a deposit is answered {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

#[when("the crowd goes away")]
async fn the_crowd_goes_away(world: &mut World) -> Step {
    require!(world.crowd.take().is_some(), "there is no crowd");
    Ok(())
}

#[then(expr = "{person} can pay in {money} again")]
async fn can_pay_in_again(world: &mut World, person: Person, amount: Amount) -> Step {
    let user_id = world.user_id(&person);
    let (client, amount) = (world.client()?, &amount.0.to_string());
    eventually("a deposit is taken", || async move {
        client.deposit(user_id, amount).await.ok()?;
        Ok(())
    })
    .await?;
    Ok(())
}

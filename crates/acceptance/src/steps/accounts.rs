//! Customers, their accounts and what is in them.

use anyhow::{Context, ensure};
use contracts::Money;
use cucumber::{given, then, when};

use crate::failed::{Step, require};
use crate::parameters::{Amount, Person};
use crate::world::World;

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

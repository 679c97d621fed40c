//! What is done behind the services' back, and who notices.
//!
//! Not here: the watch itself (`watcher`).

use anyhow::{Context as _, ensure};
use contracts::topology::ORDER_RESULTS;
use contracts::{MessageId, OrderId, Outcome, PaymentSettled, UserId};
use cucumber::{given, then, when};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Amount, Person, Which};
use crate::process::Service;
use crate::steps::messages::{properties, publish};
use crate::watcher::{Watcher, metrics};
use crate::world::{Placed, World};

#[given("the books of both services are watched")]
async fn are_watched(world: &mut World) -> Step {
    Ok(watch(world, &[]).await?)
}

#[given("the books of both services are watched every second")]
async fn are_watched_often(world: &mut World) -> Step {
    Ok(watch(world, &["--interval", "1s"]).await?)
}

async fn watch(world: &mut World, how: &[&str]) -> anyhow::Result<()> {
    let watcher = Watcher::start(&world.stack()?.operator_s_environment()?, how)?;
    let watcher = &*world.watcher.insert(watcher);
    eventually("the watch has looked at both databases", || async move {
        let metrics = watcher.metrics().await?;
        let looks = r#"paidonce_task_up{service="verify",task="reconciliation"} 1"#;
        ensure!(metrics.contains(looks), "{metrics}\n{}", watcher.told());
        Ok(())
    })
    .await
}

#[when(expr = "somebody forges the news that {person}'s order is paid")]
async fn somebody_forges(world: &mut World, person: Person) -> Step {
    let placed = world.last_order(&person)?;
    let stack = world.stack()?;
    let result = PaymentSettled {
        order_uid: audit::identity(stack, placed.id).await?.order_uid,
        order_id: OrderId(placed.id),
        user_id: UserId(placed.user_id),
        amount: placed.amount,
        outcome: Outcome::Paid,
        reason: None,
    };
    let properties = properties(ORDER_RESULTS.kind, Some(MessageId::new()));
    Ok(publish(stack, ORDER_RESULTS.kind, result.to_body(), properties).await?)
}

#[when(expr = "the database of Payments loses all that was committed about {person}'s order")]
async fn payments_loses(world: &mut World, person: Person) -> Step {
    let (mut connection, uid, placed) = behind_the_back(world, &person).await?;
    let mut transaction = connection.begin().await?;
    // Triggers do not run for what a replica takes over.
    sqlx::raw_sql("set local session_replication_role = replica")
        .execute(&mut *transaction)
        .await
        .context("only a superuser may do this")?;
    let mut gone = 0;
    for lose in [
        "delete from ledger_entries where order_uid = $1",
        "delete from payments where order_uid = $1",
        "delete from inbox_messages where key = $1",
        "delete from outbox_messages where key = $1",
    ] {
        let lost = sqlx::query(lose).bind(uid).execute(&mut *transaction).await;
        gone += lost.context(lose)?.rows_affected();
    }
    change_balance(&mut transaction, placed.user_id, &placed.amount.to_string()).await?;
    transaction.commit().await?;
    connection.close().await?;
    require!(gone == 4, "{gone} rows were there");
    Ok(())
}

#[when(expr = "the payment for {person}'s order is written back")]
async fn is_written_back(world: &mut World, person: Person) -> Step {
    let (mut connection, uid, placed) = behind_the_back(world, &person).await?;
    let mut transaction = connection.begin().await?;
    let amount = placed.amount.to_string();
    for write in [
        "insert into payments (order_uid, order_id, user_id, amount, outcome, result_message_id)
         values ($1, $2, $3, $4::text::numeric, 'paid', gen_random_uuid())",
        "insert into ledger_entries (user_id, kind, amount, order_uid)
         select $3, 'charge', -($4::text::numeric), $1 where $2 > 0",
    ] {
        sqlx::query(write)
            .bind(uid)
            .bind(placed.id)
            .bind(placed.user_id)
            .bind(&amount)
            .execute(&mut *transaction)
            .await
            .context(write)?;
    }
    change_balance(&mut transaction, placed.user_id, &format!("-{amount}")).await?;
    transaction.commit().await?;
    Ok(connection.close().await?)
}

#[when(expr = "{money} are put into {person}'s account by hand")]
async fn are_put(world: &mut World, amount: Amount, person: Person) -> Step {
    by_hand(world, &person, &amount.0.to_string()).await
}

#[when(expr = "{money} are taken from {person}'s account by hand")]
async fn are_taken(world: &mut World, amount: Amount, person: Person) -> Step {
    by_hand(world, &person, &format!("-{}", amount.0)).await
}

async fn by_hand(world: &mut World, person: &Person, amount: &str) -> Step {
    let user_id = world.user_id(person);
    let mut connection = audit::connect(world.stack()?, Service::Payments).await?;
    change_balance(&mut connection, user_id, amount).await?;
    Ok(connection.close().await?)
}

#[then(expr = "{service} says that {person}'s balance is not the sum of her ledger")]
async fn says_that_it_differs(world: &mut World, service: Which, person: Person) -> Step {
    let user_id = world.user_id(&person);
    let stack = world.stack()?;
    let health = stack.health(service.0, "ready").await?.body;
    let health: serde_json::Value = serde_json::from_str(&health)?;
    let told = health["checks"]["reconciliation"]["detail"].as_str();
    let begin = format!("S1: user {user_id}: the balance is ");
    require!(
        told.is_some_and(|told| told.starts_with(&begin)),
        "it says {health}"
    );
    Ok(breaches_of_s1(world, service, 1).await?)
}

#[then(expr = "{service} says that all balances are right")]
async fn says_that_all_is_right(world: &mut World, service: Which) -> Step {
    Ok(breaches_of_s1(world, service, 0).await?)
}

async fn breaches_of_s1(world: &World, service: Which, count: u64) -> anyhow::Result<()> {
    let port = world.stack()?.ops_port(service.0)?;
    let name = service.0.service;
    let line =
        format!("paidonce_reconciliation_breaches{{service=\"{name}\",rule=\"S1\"}} {count}");
    let line = line.as_str();
    eventually("the metric says the same", || async move {
        let metrics = metrics(port).await?;
        ensure!(metrics.lines().any(|found| found == line), "{metrics}");
        Ok(())
    })
    .await
}

#[then(expr = "within a minute the watch names {person}'s order, finished and never debited")]
async fn names_the_order(world: &mut World, person: Person) -> Step {
    let Placed {
        user_id,
        id,
        amount,
    } = world.last_order(&person)?;
    let line = format!(
        "BREACH of S4: order {id} of user {user_id} for {amount}: FINISHED and never debited"
    );
    Ok(names(world, "S4", &line).await?)
}

#[then(expr = "within a minute the watch names a debit of {money} for {person}, without an order")]
async fn names_the_debit(world: &mut World, amount: Amount, person: Person) -> Step {
    let placed = world.last_order(&person)?;
    let mut connection = audit::connect(world.stack()?, Service::Payments).await?;
    let uid: Uuid = sqlx::query_scalar("select order_uid from audit.payments where order_id = $1")
        .bind(placed.id)
        .fetch_one(&mut connection)
        .await
        .context("it was never decided")?;
    connection.close().await?;
    let (amount, user_id) = (amount.0, placed.user_id);
    let line =
        format!("BREACH of S6: order_uid {uid}: {amount} debited from user {user_id}, no order");
    Ok(names(world, "S6", &line).await?)
}

#[then(expr = "within a minute the watch names {person}'s balance")]
async fn names_the_balance(world: &mut World, person: Person) -> Step {
    let line = format!(
        "BREACH of S1: user {}: the balance is ",
        world.user_id(&person)
    );
    Ok(names(world, "S1", &line).await?)
}

/// Waits for a line that is said once, and for the metric that goes with it.
async fn names(world: &World, rule: &str, line: &str) -> anyhow::Result<()> {
    let watcher = watcher(world)?;
    eventually("the watch names it", || async move {
        let told = watcher.told();
        ensure!(
            told.matches(line).count() == 1,
            "{line:?} is not in\n{told}"
        );
        let metrics = watcher.metrics().await?;
        let name = "paidonce_reconciliation_breaches";
        let metric = format!("{name}{{service=\"verify\",rule=\"{rule}\"}} 1");
        ensure!(metrics.contains(&metric), "{metrics}");
        Ok(())
    })
    .await
}

#[then("the watch says that it is over")]
async fn says_that_it_is_over(world: &mut World) -> Step {
    let watcher = watcher(world)?;
    eventually("the watch says that it is over", || async move {
        let told = watcher.told();
        let (named, over) = (
            told.matches("BREACH of ").count(),
            told.matches(" over, ").count(),
        );
        ensure!(named > 0 && named == over, "it says\n{told}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "the watch says that it cannot see the database of {service}")]
async fn cannot_see(world: &mut World, service: Which) -> Step {
    let watcher = watcher(world)?;
    let database = format!("the {} database", service.0.service);
    let database = database.as_str();
    eventually("the watch says so", || async move {
        let told = watcher.told();
        let last = told.lines().last().unwrap_or_default();
        ensure!(
            last.contains("cannot see") && last.contains(database),
            "it says\n{told}"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("the watch sees everything again")]
async fn sees_again(world: &mut World) -> Step {
    let watcher = watcher(world)?;
    eventually("the watch says so", || async move {
        let told = watcher.told();
        let last = told.lines().last().unwrap_or_default();
        ensure!(
            last.contains("sees both databases again"),
            "it says\n{told}"
        );
        Ok(())
    })
    .await?;
    Ok(())
}

#[then("who ends the watch is told that something was wrong")]
async fn something_was_wrong(world: &mut World) -> Step {
    let (code, told) = end(world).await?;
    require!(code == 1, "it ends with {code}:\n{told}");
    Ok(())
}

#[then(expr = "who ends the watch is told that nothing was wrong, after {int} looks at least")]
async fn nothing_was_wrong(world: &mut World, least: u64) -> Step {
    let (code, told) = end(world).await?;
    let last = told.lines().last().unwrap_or_default();
    let looks = last.split("no breach in ").nth(1);
    let looks: Option<u64> = looks.and_then(|rest| rest.split(' ').next()?.parse().ok());
    require!(
        code == 0 && looks.is_some_and(|looks| looks >= least) && !told.contains("BREACH"),
        "it ends with {code}:\n{told}"
    );
    Ok(())
}

async fn end(world: &mut World) -> anyhow::Result<(i32, String)> {
    let watcher = world.watcher.take().context("nobody watches")?;
    watcher.stop().await
}

fn watcher(world: &World) -> anyhow::Result<&Watcher> {
    world.watcher.as_ref().context("nobody watches")
}

/// The way into Payments' database past the service, and which order it is about.
async fn behind_the_back(
    world: &mut World,
    person: &Person,
) -> anyhow::Result<(PgConnection, Uuid, Placed)> {
    let placed = world.last_order(person)?;
    let stack = world.stack()?;
    let known = audit::identity(stack, placed.id).await?;
    let connection = audit::connect(stack, Service::Payments).await?;
    Ok((connection, known.order_uid.0, placed))
}

async fn change_balance(
    connection: &mut PgConnection,
    user_id: i64,
    amount: &str,
) -> anyhow::Result<()> {
    let changed =
        sqlx::query("update accounts set balance = balance + $2::text::numeric where user_id = $1")
            .bind(user_id)
            .bind(amount)
            .execute(connection)
            .await
            .context("cannot change a balance")?;
    ensure!(changed.rows_affected() == 1, "there is no account");
    Ok(())
}

//! What somebody does to the data itself: messages with another content, rows that are gone or changed.
//!
//! Not here: the network and the servers.

use std::cmp::Reverse;

use anyhow::{Context, ensure};
use contracts::topology::{EXCHANGE, ORDER_RESULTS, PAYMENT_REQUESTS, Route};
use contracts::{DeclineReason, MessageId, OrderId, Outcome, PaymentSettled, UserId};
use cucumber::{then, when};
use prover::amqp::{self, Published, RawMessage, Stolen};
use prover::client::Status;
use prover::duplicator::CopyId;
use prover::{At, judge};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Identity, Person};
use crate::process::Service;
use crate::steps::messages::{THEFT, properties, publish, until_queued};
use crate::world::World;

#[when(expr = "the opposite result for {person}'s order arrives")]
async fn the_opposite_result(world: &mut World, person: Person) -> Step {
    let placed = world.last_order(&person)?;
    let order = world
        .client()?
        .order(placed.user_id, placed.id)
        .await
        .ok()?;
    let (outcome, reason) = match order.status {
        Status::Finished => (Outcome::Declined, Some(DeclineReason::InsufficientFunds)),
        Status::Cancelled => (Outcome::Paid, None),
        Status::New => Err(anyhow::anyhow!("the order has no result yet"))?,
    };
    let stack = world.stack()?;
    let result = PaymentSettled {
        order_uid: audit::identity(stack, placed.id).await?.order_uid,
        order_id: OrderId(placed.id),
        user_id: UserId(placed.user_id),
        amount: placed.amount,
        outcome,
        reason,
    };
    let properties = properties(ORDER_RESULTS.kind, Some(MessageId::new()));
    Ok(publish(stack, ORDER_RESULTS.kind, result.to_body(), properties).await?)
}

#[when(expr = "Payments forgets the request for {person}'s order")]
async fn payments_forgets(world: &mut World, person: Person) -> Step {
    let placed = world.last_order(&person)?;
    let stack = world.stack()?;
    let known = audit::identity(stack, placed.id).await?;
    let mut connection = audit::connect(stack, Service::Payments).await?;
    let forgotten = sqlx::query("delete from inbox_messages where message_id = $1")
        .bind(known.message_id.0)
        .execute(&mut connection)
        .await
        .context("cannot delete an inbox row")?;
    connection.close().await?;
    require!(forgotten.rows_affected() == 1, "it never knew the request");
    Ok(())
}

#[when("each waiting request gets a field that nobody knows")]
async fn requests_get_a_field(world: &mut World) -> Step {
    Ok(replace(world, PAYMENT_REQUESTS, |stolen| vec![with_a_field(stolen)]).await?)
}

#[when("each waiting result gets a field that nobody knows")]
async fn results_get_a_field(world: &mut World) -> Step {
    Ok(replace(world, ORDER_RESULTS, |stolen| vec![with_a_field(stolen)]).await?)
}

#[when(expr = "each waiting request gets a copy behind it, under {identity}")]
async fn requests_get_a_copy(world: &mut World, identity: Identity) -> Step {
    let replaced = replace(world, PAYMENT_REQUESTS, |stolen| {
        let mut copy = stolen.clone();
        if matches!(identity.0, CopyId::New) {
            let id = MessageId::new().to_string();
            copy.properties = copy.properties.with_message_id(id.into());
        }
        vec![stolen, copy]
    });
    Ok(replaced.await?)
}

#[then(expr = "{person}'s order was answered {int} times")]
async fn was_answered(world: &mut World, person: Person, times: i64) -> Step {
    let placed = world.last_order(&person)?;
    let stack = world.stack()?;
    let known = audit::identity(stack, placed.id).await?;
    let answers = audit::answers(stack, known.order_uid).await?;
    require!(answers == times, "it was answered {answers} times");
    Ok(())
}

fn with_a_field(mut message: Stolen) -> Stolen {
    let end = message.body.pop();
    message.body.extend(br#","mood":{"of":["the day",null]}"#);
    message.body.extend(end);
    message
}

/// Takes all messages out of a queue that nobody reads, and puts others in for each.
async fn replace(
    world: &World,
    route: Route,
    with: impl Fn(Stolen) -> Vec<Stolen>,
) -> anyhow::Result<()> {
    let with = |stolen: Vec<Stolen>| stolen.into_iter().flat_map(&with).collect();
    replace_all(world, route, with).await
}

async fn replace_all(
    world: &World,
    route: Route,
    with: impl FnOnce(Vec<Stolen>) -> Vec<Stolen>,
) -> anyhow::Result<()> {
    until_queued(world, route.queue).await?;
    let connection = amqp::connect(&world.stack()?.amqp_url(), "acceptance-forger").await?;
    let stolen = amqp::steal(&connection, route.queue, THEFT).await?;
    ensure!(!stolen.is_empty(), "there was nothing to take");
    for message in with(stolen) {
        let message = RawMessage {
            exchange: EXCHANGE.to_owned(),
            routing_key: message.routing_key,
            properties: message.properties,
            body: message.body,
        };
        let published = amqp::publish(&connection, &message).await?;
        ensure!(
            published == Published::Queued,
            "the message was {published:?}"
        );
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

#[when(expr = "the unsent messages of Orders are due {word}")]
async fn are_due(world: &mut World, when: String) -> Step {
    let shift = match when.as_str() {
        "far-ahead" => "10 years",
        "an-hour-ahead" => "1 hour",
        "long-ago" => "-10 years",
        other => Err(anyhow::anyhow!("{other:?} is no time"))?,
    };
    let mut connection = audit::connect(world.stack()?, Service::Orders).await?;
    let moved = sqlx::query(
        "update outbox_messages set due_at = now() + $1::text::interval where not is_published",
    )
    .bind(shift)
    .execute(&mut connection)
    .await
    .context("cannot move a due time")?;
    connection.close().await?;
    require!(moved.rows_affected() > 0, "there is no unsent message");
    Ok(())
}

/// As the type of a message, which is also its routing key.
pub(crate) const WITHOUT_A_QUEUE: &str = "nobody.asked";

#[when("a message that has no queue comes behind each request in its outbox")]
async fn messages_without_a_queue(world: &mut World) -> Step {
    let mut connection = audit::connect(world.stack()?, Service::Orders).await?;
    let inserted = sqlx::query(
        "with moved as ( \
             update outbox_messages set id = 2 * id where not is_published returning id) \
         insert into outbox_messages (id, message_id, kind, body) \
         select id + 1, gen_random_uuid(), $1, '{}' from moved",
    )
    .bind(WITHOUT_A_QUEUE)
    .execute(&mut connection)
    .await
    .context("cannot insert messages")?;
    connection.close().await?;
    let inserted = inserted.rows_affected();
    require!(inserted > 0, "there is no unsent request");
    Ok(())
}

#[then("the messages that have no queue were tried, and are kept unsent")]
async fn are_kept_unsent(world: &mut World) -> Step {
    let stack = world.stack()?;
    eventually("those without a queue are kept", || async move {
        let mut connection = audit::connect(stack, Service::Orders).await?;
        let (all, kept): (i64, i64) = sqlx::query_as(
            "select count(*), count(*) filter (where not is_published and attempts > 0) \
             from outbox_messages where kind = $1",
        )
        .bind(WITHOUT_A_QUEUE)
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        ensure!(all > 0 && kept == all, "{kept} of {all} are");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Each pause is twice as long as the one before, from a second on and up to sixteen.
#[then("none of the messages that have no queue was tried more often than its pauses allow")]
async fn pauses_are_kept(world: &mut World) -> Step {
    let mut connection = audit::connect(world.stack()?, Service::Orders).await?;
    let (attempts, seconds): (i16, i64) = sqlx::query_as(
        "select max(attempts), extract(epoch from clock_timestamp() - min(created_at))::bigint \
         from outbox_messages where kind = $1",
    )
    .bind(WITHOUT_A_QUEUE)
    .fetch_one(&mut connection)
    .await
    .context("cannot read the outbox")?;
    connection.close().await?;
    let pauses: i64 = (1..attempts).map(|n| 1 << (n - 1).min(4)).sum();
    require!(pauses <= seconds, "{attempts} tries within {seconds} s");
    Ok(())
}

#[when("each waiting request is put back twice, the second time in the opposite order")]
async fn in_the_opposite_order(world: &mut World) -> Step {
    let mut middle = None;
    let replaced = replace_all(world, PAYMENT_REQUESTS, |mut stolen| {
        let id = stolen[stolen.len() / 2].properties.message_id().clone();
        middle = id.and_then(|id| Uuid::parse_str(id.as_str()).ok());
        let mut backwards = stolen.clone();
        backwards.reverse();
        stolen.append(&mut backwards);
        stolen
    });
    replaced.await?;
    world.middle = middle;
    Ok(())
}

#[when("the waiting requests are put back in the opposite order of the customers")]
async fn in_the_opposite_order_of_customers(world: &mut World) -> Step {
    let replaced = replace_all(world, PAYMENT_REQUESTS, |mut stolen| {
        stolen.sort_by_cached_key(|message| Reverse(field(message, "user_id").as_i64()));
        stolen
    });
    Ok(replaced.await?)
}

#[when("the waiting results are put back in the opposite order of their orders")]
async fn in_the_opposite_order_of_orders(world: &mut World) -> Step {
    let replaced = replace_all(world, ORDER_RESULTS, |mut stolen| {
        stolen.sort_by_cached_key(|message| Reverse(field(message, "order_uid").to_string()));
        stolen
    });
    Ok(replaced.await?)
}

fn field(message: &Stolen, name: &str) -> serde_json::Value {
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap_or_default();
    body[name].clone()
}

#[then("no database takes what is no amount")]
async fn no_database_takes_nan(world: &mut World) -> Step {
    const NOT_AMOUNTS: [(Service, &str); 4] = [
        (
            Service::Orders,
            "insert into orders (order_uid, message_id, user_id, amount, description, next_redrive_at) \
             values (gen_random_uuid(), gen_random_uuid(), 1, 'NaN', '', now())",
        ),
        (
            Service::Payments,
            "insert into accounts (user_id, balance) values (1, 'NaN')",
        ),
        (
            Service::Payments,
            "insert into ledger_entries (user_id, kind, amount) values (1, 'deposit', 'NaN')",
        ),
        (
            Service::Payments,
            "insert into payments (order_uid, order_id, user_id, amount, outcome, result_message_id) \
             values (gen_random_uuid(), 1, 1, 'NaN', 'paid', gen_random_uuid())",
        ),
    ];
    for (service, statement) in NOT_AMOUNTS {
        let mut connection = audit::connect(world.stack()?, service).await?;
        let refused = sqlx::query(statement).execute(&mut connection).await.err();
        let code = refused
            .as_ref()
            .and_then(|error| error.as_database_error()?.code());
        require!(
            code.as_deref() == Some("23514"),
            "{statement} ends with {refused:?}"
        );
        connection.close().await?;
    }
    Ok(())
}

#[when("Orders forgets its first order, and its number is given out again")]
async fn orders_forgets(world: &mut World) -> Step {
    let mut connection = audit::connect(world.stack()?, Service::Orders).await?;
    let forgotten = sqlx::raw_sql(
        "create table forgotten as select * from orders where id = 1;
         delete from orders where id = 1;",
    )
    .execute(&mut connection)
    .await
    .context("cannot delete an order")?;
    sqlx::raw_sql("alter table orders alter column id restart with 1")
        .execute(&mut connection)
        .await
        .context("cannot set the numbers back")?;
    connection.close().await?;
    require!(forgotten.rows_affected() > 0, "there was no order");
    Ok(())
}

#[then("the books of the two services differ")]
async fn the_books_differ(world: &mut World) -> Step {
    let report = judge(world.stack()?.databases(), At::Rest, None).await?;
    require!(!report.holds(), "nobody notices the order that is gone");
    Ok(())
}

#[when("the forgotten order is written back under another number")]
async fn the_order_is_back(world: &mut World) -> Step {
    let mut connection = audit::connect(world.stack()?, Service::Orders).await?;
    sqlx::raw_sql(
        "update forgotten set id = nextval('orders_id_seq');
         insert into orders select * from forgotten;
         drop table forgotten;",
    )
    .execute(&mut connection)
    .await
    .context("cannot write an order back")?;
    Ok(connection.close().await?)
}

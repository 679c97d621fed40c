//! Messages that cannot be processed.

use anyhow::{bail, ensure};
use contracts::topology::{ORDER_RESULTS, PAYMENT_REQUESTS, Route};
use contracts::{
    DeclineReason, MessageId, Money, OrderId, OrderUid, Outcome, PaymentRequested, PaymentSettled,
    UserId,
};
use cucumber::{then, when};
use lapin::types::{AMQPValue, FieldTable};
use prover::quiescence;

use crate::audit;
use crate::check::REST_WITHIN;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::Service;
use crate::steps::messages::{properties, publish};
use crate::world::World;

/// Bytes: what the sandbox's broker and that of compose are told (`max_message_size`).
const MESSAGE_MAX: usize = 131_072;

#[when(expr = "{service} is sent a message {string}")]
async fn is_sent_poison(world: &mut World, service: Which, fault: String) -> Step {
    let route = queue_of(service.0.service)?;
    let good = good_body(service.0.service);
    let whole = properties(route.kind, Some(MessageId::new()));
    let (body, properties) = match fault.as_str() {
        "that is cut short" => (good[..good.len() / 2].to_owned(), whole),
        "that is not UTF-8" => (format!("{{\"x\":\"?\",{}", &good[1..]), whole),
        "without any content" => (String::new(), whole),
        "without an id" => (good, properties(route.kind, None)),
        "with an empty id" => (good, whole.with_message_id("".into())),
        "with an id of 255 signs" => (good, whole.with_message_id("7".repeat(255).into())),
        "about more money than there can be" => {
            (good.replace("1.00", "10000000000000000.00"), whole)
        }
        "about a fraction of a cent" => (good.replace("1.00", "0.005"), whole),
        "about more than any number is" => (good.replace("1.00", "1e400"), whole),
        "about a number without quotes" => (good.replace("\"1.00\"", "1.00"), whole),
        "about what is no number" => (good.replace("1.00", "NaN"), whole),
        "about a customer with an impossible number" => {
            let number = i64::MAX.to_string();
            let user = format!("\"user_id\":{number}");
            (good.replace(&user, &format!("{user}0")), whole)
        }
        "with an id that is none" => (good, whole.with_message_id("42".into())),
        "of an unknown type" => (good, whole.with_type("payment.imagined".into())),
        "of a version to come" => (good, whole.with_headers(version(2))),
        "about no money" => (good.replace("1.00", "0.00"), whole),
        "about less than no money" => (good.replace("1.00", "-1.00"), whole),
        "that is compressed" => (good, whole.with_content_encoding("gzip".into())),
        "about an order that nobody placed" => (good, whole),
        "that is nested a hundred thousand deep" => {
            (format!("{{\"x\":{}", "[".repeat(100_000)), whole)
        }
        "of an unknown type, with 4,000 headers" => {
            let mut headers = version(1);
            for n in 0..4000 {
                headers.insert(format!("h{n}").into(), AMQPValue::Boolean(true));
            }
            let properties = whole.with_type("payment.imagined".into());
            (good, properties.with_headers(headers))
        }
        "of an unknown type, as large as the broker takes" => (
            " ".repeat(MESSAGE_MAX),
            whole.with_type("payment.imagined".into()),
        ),
        "of an unknown type, with a forged history" => {
            let mut headers = version(1);
            headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(5000));
            headers.insert("x-death".into(), AMQPValue::LongString("often".into()));
            let properties = whole.with_type("payment.imagined".into());
            (good, properties.with_headers(headers))
        }
        other => bail_unknown(other)?,
    };
    let mut body = body.into_bytes();
    if fault == "that is not UTF-8" {
        // In what nobody would read, so that it can only be refused for what it is.
        body.iter_mut()
            .filter(|byte| **byte == b'?')
            .for_each(|byte| *byte = 0xff);
    }
    Ok(publish(world.stack()?, route.kind, body, properties).await?)
}

#[when("Payments is sent a message that is larger by one byte, the broker refuses it")]
async fn too_large_for_the_broker(world: &mut World) -> Step {
    let body = " ".repeat(MESSAGE_MAX + 1);
    let properties = properties(PAYMENT_REQUESTS.kind, Some(MessageId::new()));
    let published = publish(world.stack()?, PAYMENT_REQUESTS.kind, body, properties).await;
    let told = published.err().map(|error| format!("{error:#}"));
    require!(
        told.as_ref()
            .is_some_and(|told| told.contains("PRECONDITION_FAILED")),
        "the broker says {told:?}"
    );
    Ok(())
}

/// Both ends are asked: an id may change when a message is stored, asked for again, or sent. At rest only: what a
/// process had sent and not marked when it died goes again when its lease ends, long after its order may be finished.
#[then("no message went out under two ids")]
async fn no_message_has_two_ids(world: &mut World) -> Step {
    quiescence::until_at_rest(world.stack()?.databases(), REST_WITHIN).await?;
    for service in [Service::Orders, Service::Payments] {
        let orders = audit::orders_with_two_ids(world.stack()?, service).await?;
        require!(
            orders == 0,
            "{service} knows messages about {orders} orders under two ids"
        );
    }
    Ok(())
}

#[then("nothing was parked")]
async fn nothing_was_parked(world: &mut World) -> Step {
    for service in [Service::Orders, Service::Payments] {
        let parked = audit::parked(world.stack()?, service).await?;
        require!(parked.is_empty(), "{service} has parked {parked:?}");
    }
    Ok(())
}

#[then(expr = "{service} has parked it as {word}")]
async fn has_parked_it(world: &mut World, service: Which, reason: String) -> Step {
    let queue = queue_of(service.0.service)?.queue;
    let (stack, reason) = (world.stack()?, reason.as_str());
    eventually("the message is parked", || async move {
        let parked = audit::parked(stack, service.0.service).await?;
        ensure!(!parked.is_empty(), "nothing is parked");
        let as_expected =
            parked.len() == 1 && parked[0].queue == queue && parked[0].reason == reason;
        ensure!(as_expected, "parked are {parked:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

pub(crate) fn queue_of(service: Service) -> anyhow::Result<Route> {
    match service {
        Service::Payments => Ok(PAYMENT_REQUESTS),
        Service::Orders => Ok(ORDER_RESULTS),
        Service::Gateway => bail!("the gateway takes no messages"),
    }
}

/// A message about an order that nobody placed, without any other fault.
fn good_body(service: Service) -> String {
    let (order_uid, order_id) = (OrderUid::new(), OrderId(i64::MAX));
    let (user_id, amount) = (UserId(i64::MAX), one());
    match service {
        Service::Orders => PaymentSettled {
            order_uid,
            order_id,
            user_id,
            amount,
            outcome: Outcome::Declined,
            reason: Some(DeclineReason::NoAccount),
        }
        .to_body(),
        Service::Payments | Service::Gateway => PaymentRequested {
            order_uid,
            order_id,
            user_id,
            amount,
        }
        .to_body(),
    }
}

fn one() -> Money {
    "1.00".parse().expect("an amount")
}

fn version(number: i32) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert("schema_version".into(), AMQPValue::LongInt(number));
    headers
}

fn bail_unknown<T>(fault: &str) -> anyhow::Result<T> {
    bail!("no message {fault:?} is known here")
}

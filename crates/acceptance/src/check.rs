//! The end of every scenario: everything is brought back, comes to rest, and is judged; if that fails it is told what
//! is known of the orders concerned; then the scenario's part of the shared servers is freed.
//!
//! Not here: the rules themselves (`prover`).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use prover::{At, history, judge, quiescence};

use crate::audit;
use crate::process::Service;
use crate::rush::Tried;
use crate::seed;
use crate::world::World;

/// Rows of a killed process fall due after 15 s, and the broker may have to come back first.
pub(crate) const REST_WITHIN: Duration = Duration::from_secs(90);
/// A failed scenario tells of so many orders; the others went the same way.
const HISTORIES: usize = 3;

/// Judges the system of a scenario whose steps have passed.
///
/// # Errors
/// If it does not come to rest, or a rule is broken, with the orders named, or transactions have come into a
/// deadlock: in the services' own load there is none.
pub(crate) async fn judge_at_rest(world: &mut World) -> anyhow::Result<()> {
    world.restore_servers().await?;
    end_rush(world).await?;
    let Ok(stack) = world.stack_mut() else {
        // A scenario without a system has promised nothing.
        bail!("the scenario ended without a system to judge");
    };
    stack.restore_cluster().await?;
    stack
        .start_all()
        .await
        .context("the system is not whole again")?;
    quiescence::until_at_rest(stack.databases(), REST_WITHIN).await?;
    let stack = world.stack()?;
    let report = judge(stack.databases(), At::Rest, Some(&world.seen)).await?;
    if !report.holds() {
        bail!("the invariants do not hold:\n{}", report.to_table());
    }
    let made = world.deadlocks;
    let stack = world.stack_mut()?;
    stack.ensure_alive()?;
    stack.end_all().await;
    audit::no_deadlocks(stack, made).await
}

/// Stops the orders that come in, if any do, and remembers what became of them.
///
/// # Errors
/// If their task has panicked.
pub(crate) async fn end_rush(world: &mut World) -> anyhow::Result<()> {
    let Some(rush) = world.rush.take() else {
        return Ok(());
    };
    let amount = rush.amount();
    for Tried {
        user_id,
        accepted,
        had_no_effect,
    } in rush.stop().await?
    {
        if !had_no_effect {
            world.seen.invoked(user_id, amount);
        }
        if let Some(order) = accepted {
            world.remember(&order, amount);
        }
    }
    Ok(())
}

/// What helps to find out why a scenario failed: what its processes said last, and all that the databases know of the
/// orders that `failure` names, or else of one that is open, or of the last one.
pub(crate) async fn describe(world: &World, failure: &str) -> String {
    let Ok(stack) = world.stack() else {
        return String::from("it had no system\n");
    };
    let mut text = format!("--- seed {}\n", seed::plant(None));
    text.push_str(&stack.last_logs());
    if let Some(watcher) = &world.watcher {
        text.push_str(&format!("--- the watch\n{}", watcher.told()));
    }
    for service in Service::ALL
        .into_iter()
        .filter(|service| !stack.runs(service.first()))
    {
        text.push_str(&format!("--- {service} does not run\n"));
    }
    if stack.sandbox().rabbitmq.log_contains("name_not_registered") {
        text.push_str(
            "--- the broker's log has name_not_registered: a queue that was declared just before a kill has come \
             back unusable, by a fault of the broker; a scenario that kills it must wait longer before it does\n",
        );
    }
    // The databases may be what has failed; then there is no more to tell.
    match histories(world, failure).await {
        Ok(histories) => text.push_str(&histories),
        Err(error) => text.push_str(&format!("--- no history of an order: {error:#}\n")),
    }
    text
}

async fn histories(world: &World, failure: &str) -> anyhow::Result<String> {
    let databases = world.stack()?.databases();
    let mut orders = orders_named(failure);
    if orders.is_empty() {
        let open = quiescence::in_flight(databases).await?.oldest_open;
        orders.extend(open.or(world.placed.last().map(|placed| placed.id)));
    }
    let mut text = String::new();
    for order in orders.into_iter().take(HISTORIES) {
        text.push_str(&format!("--- the history of order {order}\n"));
        for line in history(databases, order).await? {
            text.push_str(&format!("{line}\n"));
        }
    }
    Ok(text)
}

/// The numbers of orders that a text speaks of as `order N`.
fn orders_named(text: &str) -> BTreeSet<i64> {
    let after = text.split("order ").skip(1);
    after
        .filter_map(|rest| {
            let digits = rest.find(|c: char| !c.is_ascii_digit());
            rest[..digits.unwrap_or(rest.len())].parse().ok()
        })
        .collect()
}

/// Frees what the scenario has used, whatever state it is in.
///
/// # Errors
/// If a server does not answer.
pub(crate) async fn clean_up(world: &mut World) -> anyhow::Result<()> {
    world.rush = None;
    world.crowd = None;
    world.duplicator = None;
    world.watcher = None;
    world.outsider = None;
    if let Some(thief) = world.thief.take() {
        thief.abort();
    }
    world.restore_servers().await?;
    match world.take_stack() {
        Some(stack) => stack.remove().await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_s_orders_are_found_in_its_text() {
        let text =
            "S4 broken: order 12: not debited; order 7 is NEW: not within 60 s, in order of age";
        assert_eq!(orders_named(text), BTreeSet::from([7, 12]));
    }
}

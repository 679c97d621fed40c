//! The end of every scenario: everything is brought back, comes to rest, and is judged; then the scenario's part of
//! the shared servers is freed.
//!
//! Not here: the rules themselves (`prover`).

use std::time::Duration;

use anyhow::{Context, bail};
use prover::{At, judge, quiescence};

use crate::process::Service;
use crate::rush::Tried;
use crate::world::World;

/// Rows of a killed process fall due after 15 s, and the broker may have to come back first.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// Judges the system of a scenario whose steps have passed.
///
/// # Errors
/// If it does not come to rest, or a rule is broken, with the orders named.
pub(crate) async fn judge_at_rest(world: &mut World) -> anyhow::Result<()> {
    world.restore_servers().await?;
    end_rush(world).await?;
    let Ok(stack) = world.stack_mut() else {
        // A scenario without a system has promised nothing.
        bail!("the scenario ended without a system to judge");
    };
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
    Ok(())
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

/// What helps to find out why a scenario failed.
pub(crate) fn describe(world: &World) -> String {
    let Ok(stack) = world.stack() else {
        return String::from("it had no system\n");
    };
    let mut text = stack.last_logs();
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
    text
}

/// Frees what the scenario has used, whatever state it is in.
///
/// # Errors
/// If a server does not answer.
pub(crate) async fn clean_up(world: &mut World) -> anyhow::Result<()> {
    world.rush = None;
    world.duplicator = None;
    world.restore_servers().await?;
    match world.take_stack() {
        Some(stack) => stack.remove().await,
        None => Ok(()),
    }
}

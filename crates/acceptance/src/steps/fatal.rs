//! A request that kills every process of Payments that takes it in, and the supervisor that starts them again.

use anyhow::{Context, bail};
use cucumber::{given, then, when};

use crate::audit;
use crate::eventually::eventually;
use crate::failed::{Step, require};
use crate::parameters::{Amount, Person};
use crate::process::{Instance, Service};
use crate::stack::Stack;
use crate::world::World;

/// Of `crates/postbox/src/failpoints.rs`.
const DIES_OF: &str = "PAIDONCE_DIES_OF";
/// More than any one message may cost: then nobody puts an end to it.
const DEATHS_MAX: usize = 12;

const BOTH: [Instance; 2] = [
    Service::Payments.first(),
    Instance {
        service: Service::Payments,
        number: 2,
    },
];

#[given(expr = "Payments dies of any order for {money}")]
async fn dies_of(world: &mut World, amount: Amount) -> Step {
    let told = &mut world.settings_mut()?.told;
    told.push((Service::Payments, DIES_OF, amount.0.to_string()));
    Ok(())
}

#[when(expr = "Payments dies of no order any more")]
async fn dies_of_none(world: &mut World) -> Step {
    let stack = world.stack_mut()?;
    stack.tell_no_more(Service::Payments, DIES_OF);
    for instance in BOTH {
        stack.take(instance)?.kill().await?;
        stack.start(instance).await?;
    }
    for instance in BOTH {
        stack.until_ready(instance).await?;
    }
    Ok(())
}

#[when("both Payments are started again whenever they die, until a request is parked")]
async fn are_supervised(world: &mut World) -> Step {
    let stack = world.stack_mut()?;
    let mut known = [0; 2];
    while let Some(turn) = the_next_to_die(stack, known).await? {
        known[turn] += 1;
        if known.iter().sum::<usize>() > DEATHS_MAX {
            return Err(
                anyhow::anyhow!("{DEATHS_MAX} deaths, and the request is not parked").into(),
            );
        }
        stack.take(BOTH[turn])?.died().await?;
        stack.start(BOTH[turn]).await?;
    }
    for instance in BOTH {
        stack.until_ready(instance).await?;
    }
    Ok(())
}

/// Which of the two has died once more; `None` when a request is parked.
async fn the_next_to_die(stack: &Stack, known: [usize; 2]) -> anyhow::Result<Option<usize>> {
    eventually("one dies, or a request is parked", || async move {
        // Asked first: each death comes before that, so none is overlooked.
        let parked = audit::parked(stack, Service::Payments).await?;
        for (turn, known) in known.into_iter().enumerate() {
            if deaths(stack, BOTH[turn])?.len() > known {
                return Ok(Some(turn));
            }
        }
        match parked.is_empty() {
            true => bail!("both go on, and nothing is parked"),
            false => Ok(None),
        }
    })
    .await
}

/// For each death of a process by a request: how many others it had in hand. It says so in front of its death.
fn deaths(stack: &Stack, instance: Instance) -> anyhow::Result<Vec<usize>> {
    let log = std::fs::read_to_string(stack.log(instance)).context("cannot read a log")?;
    log.lines()
        .filter(|line| line.starts_with("dies of "))
        .map(|line| {
            let (_, rest) = line.split_once(", with ").context("with how many?")?;
            let others = rest.split(' ').next().unwrap_or_default();
            others.parse().with_context(|| line.to_owned())
        })
        .collect()
}

#[then(expr = "one has died of it among others, and {int} times one has died of it alone")]
async fn have_died(world: &mut World, alone: usize) -> Step {
    let stack = world.stack()?;
    let mut others = Vec::new();
    for instance in BOTH {
        others.extend(deaths(stack, instance)?);
    }
    let among = others.iter().filter(|others| **others > 0).count();
    require!(
        among == 1 && others.len() - among == alone,
        "beside it they had in hand: {others:?}"
    );
    Ok(())
}

#[then(expr = "it is the request for {person}'s order")]
async fn it_is_that_request(world: &mut World, person: Person) -> Step {
    let order = world.last_order(&person)?.id;
    let stack = world.stack()?;
    let known = audit::identity(stack, order).await?;
    let id = world.parked.as_deref().context("nobody has seen it")?;
    let shown = stack.command(&["parked", "show", id]).await?;
    let text = String::from_utf8_lossy(&shown.stdout);
    require!(
        text.contains(&known.order_uid.0.to_string()),
        "shown is {text}"
    );
    Ok(())
}

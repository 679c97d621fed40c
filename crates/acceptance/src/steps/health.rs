//! What the services say about themselves.

use std::time::Duration;

use anyhow::ensure;
use cucumber::{given, then};
use prover::client::Answer;

use crate::eventually::{eventually, within};
use crate::failed::{Step, require};
use crate::parameters::Which;
use crate::process::{Instance, Service};
use crate::steps::poison::queue_of;
use crate::watcher::metrics;
use crate::world::World;

#[given(expr = "{service} is ready for everything")]
#[then(expr = "{service} is ready for everything")]
async fn is_ready(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "ready", 200).await?)
}

#[then(expr = "{service} is not ready for everything")]
async fn is_not_ready(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "ready", 503).await?)
}

/// Where the row of the matrix is about the time.
#[then(expr = "{service} is not ready for everything within {int} seconds")]
async fn is_soon_not_ready(world: &mut World, service: Which, seconds: u64) -> Step {
    Ok(soon(world, service.0, 503, seconds).await?)
}

/// As above: a silent broker is given up after two heartbeats, of which each takes four seconds.
#[then(expr = "Orders and Payments are not ready for everything within {int} seconds")]
async fn both_are_soon_not_ready(world: &mut World, seconds: u64) -> Step {
    let both = [Service::Orders, Service::Payments];
    let both = both.map(|service| soon(world, service.first(), 503, seconds));
    futures::future::try_join_all(both).await?;
    Ok(())
}

/// As above.
#[then(expr = "{service} is ready for everything within {int} seconds")]
async fn is_soon_ready(world: &mut World, service: Which, seconds: u64) -> Step {
    Ok(soon(world, service.0, 200, seconds).await?)
}

/// As above; the seconds are those of all services together.
#[then(expr = "every service is ready within {int} seconds")]
async fn all_are_soon_ready(world: &mut World, seconds: u64) -> Step {
    let all = Service::ALL.map(|service| soon(world, service.first(), 200, seconds));
    futures::future::try_join_all(all).await?;
    Ok(())
}

async fn soon(world: &World, instance: Instance, status: u16, seconds: u64) -> anyhow::Result<()> {
    let stack = world.stack()?;
    let what = format!("/health/ready of {instance} answers {status}");
    within(Duration::from_secs(seconds), &what, || async move {
        let answer = stack.health(instance, "ready").await?;
        ensure!(
            answer.status == status,
            "it answers {} {}",
            answer.status,
            answer.body
        );
        Ok(())
    })
    .await
}

#[then(expr = "{service} shows to its operators that it is blocked")]
async fn is_shown_as_blocked(world: &mut World, service: Which) -> Step {
    let name = service.0.service;
    let line = format!("paidonce_broker_blocked{{service=\"{name}\"}} 1");
    until_shown(world, service, &[line]).await
}

#[then(expr = "{service} shows to its operators {int} message parked as {word}")]
async fn is_shown_as_parked(world: &mut World, service: Which, count: u64, reason: String) -> Step {
    let queue = queue_of(service.0.service)?.queue;
    let name = service.0.service;
    let labels = format!("{{service=\"{name}\",queue=\"{queue}\"");
    let all = format!("paidonce_parked_total{labels},reason=\"{reason}\"}} {count}");
    let open = format!("paidonce_parked{labels}}} {count}");
    until_shown(world, service, &[all, open]).await
}

/// Once for each contradiction, whatever an operator does about it.
#[then(expr = "{service} shows to its operators {int} {word}")]
async fn is_shown_as_against(world: &mut World, service: Which, count: u64, kind: String) -> Step {
    let name = service.0.service;
    let line =
        format!("paidonce_contradictions_total{{service=\"{name}\",kind=\"{kind}\"}} {count}");
    until_shown(world, service, &[line]).await
}

async fn until_shown(world: &World, service: Which, lines: &[String]) -> Step {
    let port = world.stack()?.ops_port(service.0)?;
    eventually("the numbers are shown", || async move {
        let metrics = metrics(port).await?;
        for line in lines {
            let is_there = metrics.lines().any(|found| found == line);
            ensure!(is_there, "{line} is not in\n{metrics}");
        }
        Ok(())
    })
    .await?;
    Ok(())
}

#[then(expr = "{service} accepts requests all the same")]
async fn accepts_requests(world: &mut World, service: Which) -> Step {
    let answer = world.stack()?.health(service.0, "accepting").await?;
    require!(
        answer.status == 200,
        "{} answers {} {}",
        service.0,
        answer.status,
        answer.body
    );
    Ok(())
}

#[then(expr = "{service} accepts requests in the end")]
async fn accepts_requests_in_the_end(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "accepting", 200).await?)
}

#[then(expr = "{service} does not accept requests")]
async fn does_not_accept_requests(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "accepting", 503).await?)
}

#[given(expr = "{service} is alive")]
#[then(expr = "{service} is alive")]
async fn is_alive(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "live", 200).await?)
}

#[then(
    expr = "{service} counts {int} messages sent and {int} taken in, {int} of them known already"
)]
async fn counts(world: &mut World, service: Which, sent: u64, taken: u64, known: u64) -> Step {
    let name = service.0.service;
    let lines = [
        ("outbox_published_total", String::new(), sent),
        ("inbox_handled_total", String::new(), taken),
        ("inbox_duplicates_total", String::new(), known),
        ("broker_blocked", String::new(), 0),
        ("task_up", ",task=\"consumer\"".to_owned(), 1),
    ]
    .map(|(metric, label, count)| {
        format!("paidonce_{metric}{{service=\"{name}\"{label}}} {count}")
    });
    until_shown(world, service, &lines).await
}

#[then(expr = "the public is told {string} about the system")]
async fn the_public_is_told(world: &mut World, word: String) -> Step {
    Ok(told(world, &word).await?)
}

#[then(expr = "the public is told {string} about the system in the end")]
async fn the_public_is_told_in_the_end(world: &mut World, word: String) -> Step {
    let (world, word) = (&*world, word.as_str());
    Ok(eventually("the public is told", || told(world, word)).await?)
}

/// The status, and of each service behind the gateway the same two words: nothing that helps an intruder.
async fn told(world: &World, word: &str) -> anyhow::Result<()> {
    let Answer { status, body, .. } = world
        .client()?
        .send("GET", "/health/ready", None)
        .await
        .ok()?;
    let told: serde_json::Value = serde_json::from_str(&body)?;
    ensure!(told["status"] == word, "it is told {body}");
    ensure!(
        (status == 200) == (word == "ok"),
        "{word} comes with {status}"
    );
    let known = body.replace("\"ok\"", "").replace("\"unavailable\"", "");
    ensure!(
        !known.contains("127.0.0.1") && !known.contains("detail"),
        "it is told {body}"
    );
    Ok(())
}

/// Each of them has had its share: what they say of themselves is asked, because the broker does not tell.
#[then(expr = "both processes of {service} have taken messages in")]
async fn both_take_part(world: &mut World, service: Which) -> Step {
    let (stack, service) = (world.stack()?, service.0.service);
    for number in [1, 2] {
        let port = stack.ops_port(Instance { service, number })?;
        let metrics = metrics(port).await?;
        let name = format!("paidonce_inbox_handled_total{{service=\"{service}\"}} ");
        let name = name.to_lowercase();
        let taken = metrics.lines().find_map(|line| line.strip_prefix(&name));
        require!(
            taken.is_some_and(|taken| taken != "0"),
            "process {number} of {service} has taken {taken:?} messages in"
        );
    }
    Ok(())
}

async fn becomes(world: &World, service: Which, word: &str, status: u16) -> anyhow::Result<()> {
    let stack = world.stack()?;
    eventually(
        &format!("/health/{word} of {} answers {status}", service.0),
        || async move {
            let answer = stack.health(service.0, word).await?;
            ensure!(
                answer.status == status,
                "it answers {} {}",
                answer.status,
                answer.body
            );
            Ok(())
        },
    )
    .await
}

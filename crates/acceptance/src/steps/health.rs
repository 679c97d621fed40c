//! What the services say about themselves.

use anyhow::ensure;
use cucumber::then;
use prover::client::Answer;

use crate::eventually::eventually;
use crate::failed::Step;
use crate::parameters::Which;
use crate::world::World;

#[then(expr = "{service} is ready for everything")]
async fn is_ready(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "ready", 200).await?)
}

#[then(expr = "{service} is not ready for everything")]
async fn is_not_ready(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "ready", 503).await?)
}

#[then(expr = "{service} accepts requests all the same")]
async fn accepts_requests(world: &mut World, service: Which) -> Step {
    let answer = world.stack()?.health(service.0, "accepting").await?;
    ensure!(
        answer.status == 200,
        "{} answers {} {}",
        service.0,
        answer.status,
        answer.body
    );
    Ok(())
}

#[then(expr = "{service} does not accept requests")]
async fn does_not_accept_requests(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "accepting", 503).await?)
}

#[then(expr = "{service} is alive")]
async fn is_alive(world: &mut World, service: Which) -> Step {
    Ok(becomes(world, service, "live", 200).await?)
}

#[then(expr = "the public is told {string} about the system")]
async fn the_public_is_told(world: &mut World, word: String) -> Step {
    let client = world.client()?;
    let Answer { body, .. } = client.send("GET", "/health/ready", None).await.ok()?;
    let told: serde_json::Value = serde_json::from_str(&body)?;
    ensure!(told["status"] == word.as_str(), "it is told {body}");
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

//! Waiting for a state, within a bound: the only place of these tests that sleeps.

use std::time::Duration;

use anyhow::{Context, Result};

/// Asks until the answer is good, for 30 s at most.
pub(crate) async fn eventually(what: &str, ask: impl AsyncFn() -> Result<()>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Ok(()) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error).with_context(|| format!("not in time: {what}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Asks for so long, and wants a good answer each time.
pub(crate) async fn stays(
    what: &str,
    span: Duration,
    ask: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let end = tokio::time::Instant::now() + span;
    while tokio::time::Instant::now() < end {
        ask()
            .await
            .with_context(|| format!("not for so long: {what}"))?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

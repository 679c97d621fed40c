//! Waiting for something to become true, within the one bound of all scenarios. Nothing else in this crate waits.

use std::time::Duration;

/// Far above what anything takes on an idle machine: the features promise that things end, and nothing about how soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is `Ok`, for at most a minute.
///
/// # Errors
/// What was waited for, and what the last answer was instead.
pub(crate) async fn eventually<T, Answer>(
    what: &str,
    ask: impl FnMut() -> Answer,
) -> anyhow::Result<T>
where
    Answer: Future<Output = anyhow::Result<T>>,
{
    within(PATIENCE, what, ask).await
}

/// As [`eventually`], with another bound.
///
/// # Errors
/// As [`eventually`].
pub(crate) async fn within<T, Answer>(
    bound: Duration,
    what: &str,
    mut ask: impl FnMut() -> Answer,
) -> anyhow::Result<T>
where
    Answer: Future<Output = anyhow::Result<T>>,
{
    let ask = || {
        let answer = ask();
        // With its causes: the text is all that is left of the error.
        async move { answer.await.map_err(|error| format!("{error:#}")) }
    };
    Ok(prover::eventually::eventually(bound, what, ask).await?)
}

//! Waiting for something to become true, within a bound. The only file of this crate that sleeps;
//! everything else waits through it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// First pause between two questions; each next one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Something did not become true in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: not within {within:?}: {last}")]
pub struct NotInTime {
    /// What was waited for.
    pub what: String,
    /// The bound.
    pub within: Duration,
    /// What the last question was answered, or that it was never answered.
    pub last: String,
}

/// Asks again and again, with growing pauses of at most a quarter of a second, until the answer is
/// `Ok` or `within` has passed. An `Err` means "not yet" and says what is missing; the last one
/// becomes part of the error. A question that is never answered ends with the bound, too.
///
/// # Errors
/// [`NotInTime`] when the bound has passed. The question is asked at least once.
///
/// The question is a plain closure that returns a future, not an async closure: with one of those
/// the waiting could not be spawned.
pub async fn eventually<T, E, Answer>(
    within: Duration,
    what: &str,
    mut ask: impl FnMut() -> Answer,
) -> Result<T, NotInTime>
where
    E: Display,
    Answer: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + within;
    let mut pause_for = FIRST_PAUSE;
    let mut last = String::from("no answer");
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(not_yet)) => last = not_yet.to_string(),
            Err(_) => {}
        }
        if Instant::now() + pause_for >= deadline {
            return Err(NotInTime {
                what: what.to_owned(),
                within,
                last,
            });
        }
        pause(pause_for).await;
        pause_for = (pause_for + pause_for / 2).min(LONGEST_PAUSE);
    }
}

/// Lets time pass between two rounds of a loop that has its own end.
pub(crate) async fn pause(time: Duration) {
    sleep(time).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_becomes_true_in_time_is_answered() {
        let asked = AtomicU32::new(0);
        let answer = eventually(Duration::from_secs(5), "third time lucky", || async {
            match asked.fetch_add(1, Ordering::Relaxed) {
                2 => Ok("lucky"),
                _ => Err("early"),
            }
        })
        .await;
        assert_eq!(answer, Ok("lucky"));
    }

    #[tokio::test]
    async fn the_error_tells_what_was_missing_last() {
        let asked = AtomicU32::new(0);
        let error = eventually(Duration::from_millis(200), "never", || async {
            let question = asked.fetch_add(1, Ordering::Relaxed) + 1;
            Err::<(), _>(format!("question {question}"))
        })
        .await
        .expect_err("it never becomes true");
        let asked = asked.into_inner();
        assert!(asked > 2, "asked {asked} times");
        assert_eq!(
            error.to_string(),
            format!("never: not within 200ms: question {asked}")
        );
    }

    #[tokio::test]
    async fn a_question_without_an_answer_ends_with_the_bound() {
        let error = eventually(
            Duration::from_millis(50),
            "silence",
            std::future::pending::<Result<(), String>>,
        )
        .await
        .expect_err("it never answers");
        assert_eq!(error.last, "no answer");
    }
}

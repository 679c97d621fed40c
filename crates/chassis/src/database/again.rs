//! Statements that lost against another transaction, tried again.

use std::time::Duration;

use rand::Rng as _;

use super::plans::is_stale_plan;

/// How often more, before the client is told to try again itself.
const RETRIES: u32 = 3;
/// The longest first pause; it doubles. At random, so that two who met do not meet again.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections of a pool whose plans are out of date all at once.
const STALE_PLANS: u32 = 32;

/// Runs a transaction, and runs it anew when the server rolled it back in favour of another one:
/// deadlock or serialization failure; or when a table has changed under a plan that its connection
/// had kept, see [`minding_plans`](super::minding_plans). Such a transaction has had no effect, so
/// there is nothing to look up first. Any other error is the caller's at once.
pub async fn again<T, F, Fut>(mut work: F) -> Result<T, sqlx::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    let (mut tries, mut stale_plans) = (0, 0);
    loop {
        let error = match work().await {
            Err(error) if stale_plans < STALE_PLANS && is_stale_plan(&error) => {
                stale_plans += 1;
                continue;
            }
            Err(error) if tries < RETRIES && lost_to_another(&error) => error,
            done => return done,
        };
        tracing::debug!("trying once more: {error}");
        tokio::time::sleep(jittered(PAUSE * 2_u32.pow(tries))).await;
        tries += 1;
    }
}

fn lost_to_another(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40P01" | "40001"))
}

fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.1..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::cell::Cell;
    use std::error::Error;
    use std::fmt;

    /// What a server answers with a SQLSTATE.
    #[derive(Debug)]
    struct Refusal(&'static str);

    impl fmt::Display for Refusal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Refusal {}

    impl sqlx::error::DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(self.0))
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }
    }

    /// How often a work is run that is refused `refusals` times, and whether it succeeds.
    async fn runs(code: &'static str, refusals: u32) -> (u32, bool) {
        let runs = Cell::new(0);
        let done = again(|| {
            runs.set(runs.get() + 1);
            let refused = runs.get() <= refusals;
            async move {
                if refused {
                    Err(sqlx::Error::Database(Box::new(Refusal(code))))
                } else {
                    Ok(())
                }
            }
        })
        .await;
        (runs.get(), done.is_ok())
    }

    #[tokio::test]
    async fn who_lost_to_another_tries_three_times_more() {
        assert_eq!(runs("40P01", 0).await, (1, true));
        assert_eq!(runs("40P01", 1).await, (2, true));
        assert_eq!(runs("40001", 3).await, (4, true));
        assert_eq!(runs("40P01", 4).await, (4, false));
        assert_eq!(runs("0A000", 20).await, (21, true));
    }

    #[tokio::test]
    async fn nothing_else_is_tried_again() {
        // A unique key, a lock timeout, a connection that went away: its outcome may be unknown.
        for code in ["23505", "55P03", "08006", "57P01"] {
            assert_eq!(runs(code, 1).await, (1, false), "{code}");
        }
    }
}

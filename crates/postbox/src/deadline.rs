//! Work with the database that ends, also when its answer is lost on the way: neither sqlx nor the
//! socket would ever give up, and whoever waits would look well.

use std::time::Duration;

/// A statement whose answer takes longer has none.
const STATEMENT: Duration = Duration::from_secs(8);
/// A transaction, which is several of them.
const TRANSACTION: Duration = Duration::from_secs(20);

/// One statement. Whether it was done is unknown when the time is over; its connection is not fit
/// to be used again, which the pool has to find out as for any future that is dropped.
pub(crate) async fn statement<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    within(STATEMENT, work).await
}

/// One transaction, likewise.
pub(crate) async fn transaction<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(TRANSACTION, work).await
}

async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // On the heap: a future that is handed on through several layers is copied in each.
    match tokio::time::timeout(limit, Box::pin(work)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

//! How often a process has died while one message was alone in its hands: a row that is
//! committed before the message is tried and deleted in the transaction that takes it in.

use std::collections::HashSet;
use std::time::Duration;

use lapin::message::Delivery;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::consumer::Consumer;
use crate::delivery;
use crate::fault;
use crate::inbox::{Committed, Handler, Read};
use crate::parked::{ParkReason, Parked, Unreadable};

/// How long a message that is tried alone may take after a stop is asked for. One that waits for
/// a lock would be cut off with the process, and look like its death.
const CALLED_OFF_AFTER: Duration = Duration::from_millis(500);

impl<H: Handler> Consumer<H> {
    /// Takes in a message that was delivered before: it, or a neighbour, may have been what the
    /// process died of. Its try is counted first, in a row that is gone if it ends in any other
    /// way than by death, so deaths are what is counted, and never a neighbour's. After
    /// `max_attempts` of them it is parked unread, its row stays, and no copy is tried until it
    /// is replayed.
    ///
    /// The price is a transaction per message in place of one per batch, and one statement more
    /// that waits for no disk. It is bounded: only what was under way is delivered again, at
    /// most a prefetch per consumer that went away, whatever waits in the queue.
    pub(crate) async fn alone(
        &self,
        delivery: Delivery,
        suspects: &mut HashSet<String>,
        stop: &CancellationToken,
    ) -> Option<Committed> {
        let tag = delivery.delivery_tag;
        let raw = Parked::of(delivery, Unreadable::unsaid());
        let identity = raw.identity();
        let max = self.max_attempts();
        let tries = self.patiently(stop, || self.raise(&identity)).await?;
        if tries > max {
            suspects.insert(identity);
            let detail = format!("the process died {max} times with this message alone in hand");
            let mut parked = Read {
                raw: Parked {
                    why: Unreadable::new(ParkReason::Attempts, detail),
                    ..raw
                },
                message: None,
            };
            return self.until_parked(&mut parked, tag, None, stop).await;
        }
        let mut read = delivery::read(&*self.handler, raw);
        let committed = self
            .until_parked(&mut read, tag, Some(&identity), stop)
            .await;
        if committed.is_some() {
            suspects.remove(&identity);
        }
        committed
    }

    /// A planted fault: each delivery of a message counts as a try, whoever was to blame.
    pub(crate) async fn count_all(
        &self,
        reads: &mut [Read<H::Message>],
        stop: &CancellationToken,
    ) -> Option<()> {
        for read in reads {
            let identity = read.raw.identity();
            if self.patiently(stop, || self.raise(&identity)).await? > self.max_attempts() {
                read.raw.why = Unreadable::new(ParkReason::Attempts, "planted");
                read.message = None;
            }
        }
        Some(())
    }

    /// Counts a try, see [`Self::alone`].
    pub(crate) async fn raise(&self, identity: &str) -> Result<i32, sqlx::Error> {
        raise(
            &self.pool,
            self.topology.reads.queue,
            identity,
            self.max_attempts(),
        )
        .await
    }

    fn max_attempts(&self) -> i32 {
        i32::try_from(self.config.max_attempts.get()).unwrap_or(i32::MAX - 1)
    }
}

/// Work that is called off a while after a stop is asked for, before the process ends under it.
pub(crate) async fn in_time<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
) -> Option<T> {
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(CALLED_OFF_AFTER).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = too_late => None,
    }
}

/// What is to be tried alone though it comes for the first time: what somebody's death left
/// behind, and what is parked for it, of which a fresh copy (an order asked for again) would
/// take a whole batch down. Asked once per session; what another process parks meanwhile costs
/// this one a death at most, and then it asks again.
pub(crate) async fn known(pool: &PgPool, queue: &str) -> Result<HashSet<String>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let identities = sqlx::query_scalar!(
        "select identity from delivery_attempts where queue = $1",
        queue,
    )
    .fetch_all(&mut *connection)
    .await;
    let identities = fault::minding_plans(&mut connection, identities).await?;
    Ok(identities.into_iter().collect())
}

/// Counts a try that is about to begin; returns how many there were with it, and no more than
/// `max + 1`. A crash of the database may forget it (no wait for its disk), a crash of ours not.
pub(crate) async fn raise(
    pool: &PgPool,
    queue: &str,
    identity: &str,
    max: i32,
) -> Result<i32, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let tries = sqlx::query_scalar!(
        r#"
        with relaxed as (select set_config('synchronous_commit', 'off', true))
        insert into delivery_attempts as a (queue, identity, attempts)
        select $1, $2, 1 from relaxed
            on conflict (queue, identity)
            do update set attempts = least(a.attempts, $3) + 1
        returning attempts
        "#,
        queue,
        identity,
        max,
    )
    .fetch_one(&mut *connection)
    .await;
    fault::minding_plans(&mut connection, tries).await
}

/// Takes a try back that ended without a death.
pub(crate) async fn lower(pool: &PgPool, queue: &str, identity: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with relaxed as (select set_config('synchronous_commit', 'off', true))
        update delivery_attempts
           set attempts = attempts - 1
          from relaxed
         where queue = $1 and identity = $2 and attempts > 0
        "#,
        queue,
        identity,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets all tries, in the transaction that takes the message in or sends it again.
pub(crate) async fn forget(
    transaction: &mut PgConnection,
    queue: &str,
    identity: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from delivery_attempts where queue = $1 and identity = $2",
        queue,
        identity,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

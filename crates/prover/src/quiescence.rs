//! Waiting until nothing is under way any more: no order NEW, no message unsent. Reads the audit
//! views only.

use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::audit::{Audit, AuditError, Databases, Side};
use crate::eventually::{NotInTime, eventually};

/// Rest must last this long to count: a duplicate that is still in a queue makes Payments answer
/// once more.
const LASTING: Duration = Duration::from_millis(500);

/// What has not come to its end yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Orders that are neither FINISHED nor CANCELLED.
    pub open_orders: u64,
    /// The smallest id among them.
    pub oldest_open: Option<i64>,
    /// Outbox rows of Orders that are not sent.
    pub unsent_by_orders: u64,
    /// Outbox rows of Payments that are not sent.
    pub unsent_by_payments: u64,
    /// Parked messages of both; they do not keep the system from resting, but they often are the
    /// reason why an order does not end.
    pub parked: u64,
}

impl InFlight {
    /// Whether nothing is under way.
    #[must_use]
    pub fn is_rest(&self) -> bool {
        self.open_orders == 0 && self.unsent_by_orders == 0 && self.unsent_by_payments == 0
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} orders open", self.open_orders)?;
        if let Some(order_id) = self.oldest_open {
            write!(f, " (the oldest is {order_id})")?;
        }
        let Self {
            unsent_by_orders,
            unsent_by_payments,
            parked,
            ..
        } = self;
        write!(
            f,
            ", {unsent_by_orders} messages unsent by orders, {unsent_by_payments} by payments, \
             {parked} parked"
        )
    }
}

/// What is under way now.
///
/// # Errors
/// [`AuditError`] when a database cannot be asked.
pub async fn in_flight(databases: &Databases) -> Result<InFlight, AuditError> {
    Both::connect(databases).await?.ask().await
}

/// Waits until nothing is under way, for half a second without a break, and tells how long it took
/// until that half second began. A database that does not answer
/// is not at rest, and is asked again: it may be about to come back.
///
/// # Errors
/// [`NotInTime`] after `within`; its text tells what is still under way. Rows of a dead process
/// are due after 15 s, so a bound below 20 s is too short after a kill.
pub async fn until_at_rest(databases: &Databases, within: Duration) -> Result<Duration, NotInTime> {
    let began = Instant::now();
    let watch = Mutex::new(Watch::default());
    eventually(within, "the system is at rest", || async {
        let since = watch.lock().await.resting_since(databases).await?;
        if since.elapsed() < LASTING {
            return Err(String::from("at rest, but not for long enough to be sure"));
        }
        Ok(since.duration_since(began))
    })
    .await
}

/// What is kept from one question to the next.
#[derive(Default)]
struct Watch {
    both: Option<Both>,
    resting_since: Option<Instant>,
}

impl Watch {
    /// Since when nothing is under way; otherwise what still is, in words.
    async fn resting_since(&mut self, databases: &Databases) -> Result<Instant, String> {
        let rested_since = self.resting_since.take();
        let mut both = match self.both.take() {
            Some(both) => both,
            None => Both::connect(databases).await.map_err(describe)?,
        };
        let in_flight = both.ask().await.map_err(describe)?;
        // Kept only after an answer: a broken connection is made anew.
        self.both = Some(both);
        if !in_flight.is_rest() {
            return Err(in_flight.to_string());
        }
        let since = rested_since.unwrap_or_else(Instant::now);
        self.resting_since = Some(since);
        Ok(since)
    }
}

/// With its causes: this text is all that is left of the error.
fn describe(error: AuditError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

struct Both {
    orders: Audit,
    payments: Audit,
}

impl Both {
    async fn connect(databases: &Databases) -> Result<Self, AuditError> {
        Ok(Self {
            orders: Audit::connect(databases, Side::Orders).await?,
            payments: Audit::connect(databases, Side::Payments).await?,
        })
    }

    /// Orders first: once no order is open, no decision is made any more, and what Payments has not
    /// sent or marked by then shows in the second question.
    async fn ask(&mut self) -> Result<InFlight, AuditError> {
        const UNSENT: &str = "select count(*) from audit.outbox where not sent";
        const PARKED: &str = "select count(*) from audit.parked";
        let (open_orders, oldest_open): (i64, Option<i64>) = self
            .orders
            .row(
                "select count(*), min(order_id) from audit.orders \
                 where status not in ('FINISHED', 'CANCELLED')",
            )
            .await?;
        Ok(InFlight {
            open_orders: open_orders.unsigned_abs(),
            oldest_open,
            unsent_by_orders: self.orders.count(UNSENT).await?,
            unsent_by_payments: self.payments.count(UNSENT).await?,
            parked: self.orders.count(PARKED).await? + self.payments.count(PARKED).await?,
        })
    }
}

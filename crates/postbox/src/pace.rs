//! How many rows a round has: fewer when the broker is slow, so that a round is over well before
//! the leases of its rows are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::outbox::LEASE;

/// A round that takes longer is too large: it has to be over, and marked, within the lease.
const SLOW: Duration = Duration::from_secs(LEASE.as_secs() / 4);
/// A round that takes less may be followed by a larger one.
const QUICK: Duration = Duration::from_secs(1);
/// No round is made smaller than this: one confirm for each message would be slower still.
const LEAST: usize = 8;

/// The size of one lane's next round.
#[derive(Debug)]
pub(crate) struct Pace {
    rows: AtomicUsize,
    most: usize,
}

impl Pace {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            rows: AtomicUsize::new(most),
            most,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Halves after a round that was slow or not confirmed to its end, doubles after a quick one.
    pub(crate) fn learn(&self, took: Duration, whole: bool) {
        let rows = self.rows();
        let next = if !whole || took > SLOW {
            (rows / 2).max(LEAST)
        } else if took < QUICK {
            rows.saturating_mul(2)
        } else {
            rows
        };
        self.rows.store(next.min(self.most), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that manages 40 messages a second, and leases of 15 s.
    #[test]
    fn rounds_become_as_small_as_the_broker_is_slow_and_large_again() {
        let pace = Pace::new(500);
        for _ in 0..10 {
            let took = Duration::from_millis(u64::try_from(pace.rows()).expect("small") * 25);
            pace.learn(took, true);
        }
        assert!((40..=150).contains(&pace.rows()), "{}", pace.rows());
        for _ in 0..10 {
            pace.learn(Duration::from_millis(5), true);
        }
        assert_eq!(pace.rows(), 500);
    }

    #[test]
    fn silence_makes_them_small_but_not_smaller_than_useful() {
        let pace = Pace::new(500);
        for _ in 0..10 {
            pace.learn(Duration::from_millis(5), false);
        }
        assert_eq!(pace.rows(), LEAST);
        let narrow = Pace::new(3);
        narrow.learn(Duration::ZERO, false);
        assert_eq!(narrow.rows(), 3);
    }
}

//! How long to wait before the next try: doubling, capped, jittered, without end.

use std::time::Duration;

use rand::Rng;

/// Waits between tries. The first wait is at most `first`; each later one doubles, up to `cap`;
/// each is shortened by up to a half at random, so that two processes do not beat in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            tries: 0,
        }
    }

    /// For a task that has lost its broker or its database.
    pub(crate) const fn reconnect() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// After a success: the next failure waits shortly again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let whole = nth(self.first, self.cap, self.tries);
        self.tries = self.tries.saturating_add(1);
        let half = whole / 2;
        let jitter = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        whole - Duration::from_micros(rand::rng().random_range(0..=jitter))
    }
}

/// The whole wait before try number `tries` (from 0), without jitter.
pub(crate) fn nth(first: Duration, cap: Duration, tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.min(31)).unwrap_or(u32::MAX);
    first.checked_mul(factor).unwrap_or(cap).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_never_nothing_and_never_above_the_cap(tries in 0..100_u32) {
            let mut backoff = Backoff::reconnect();
            backoff.tries = tries;
            let wait = backoff.next();
            prop_assert!(wait >= Duration::from_millis(50));
            prop_assert!(wait <= Duration::from_secs(2));
        }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(2));
        let waits: Vec<_> = (0..7).map(|n| nth(first, cap, n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }
}

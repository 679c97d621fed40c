//! What is parked, shown alike by every service that parks.
//!
//! Not here: parking, and the counting (`postbox`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Counters, Gauges, Metrics};

/// Reasons for which a message says another thing than what was decided: never by chance.
const CONTRADICTIONS: [&str; 2] = ["contradiction", "conflict"];

/// `parked{queue}`, `parked_total{queue,reason}` and `contradictions_total{kind}`.
#[derive(Clone, Debug)]
pub struct Parked {
    queues: &'static [&'static str],
    open: Gauges,
    all: Counters<2>,
    contradictions: Counters<1>,
    /// The most that was seen under each queue and reason: one that comes back may change its reason, and a count
    /// never falls.
    most: Arc<Mutex<BTreeMap<[String; 2], u64>>>,
}

/// Of one queue and one reason: how many messages wait for an operator, and how many were parked at all.
type Count<'a> = (&'a str, &'a str, i64, i64);

impl Parked {
    /// Nothing is known to be parked in these queues yet.
    #[must_use]
    pub fn new(metrics: &Metrics, queues: &'static [&'static str]) -> Self {
        let all = "Messages that were parked, each once however often it came";
        let against = "Messages that contradict what was decided; parked, and without effect";
        Self {
            queues,
            open: metrics.gauges(
                "parked",
                "Parked messages that wait for an operator",
                "queue",
                queues,
            ),
            all: metrics.counters("parked", all, ["queue", "reason"]),
            contradictions: metrics.counters("contradictions", against, ["kind"]),
            most: Arc::default(),
        }
    }

    /// Shows what is parked now.
    pub fn set<'a>(&self, counts: impl Iterator<Item = Count<'a>>) {
        let mut open: BTreeMap<&str, i64> = self.queues.iter().map(|&queue| (queue, 0)).collect();
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        for (queue, reason, waiting, all) in counts {
            // Any other queue has no gauge.
            if let Some(open) = open.get_mut(queue) {
                *open += waiting;
            }
            let seen = most
                .entry([queue.to_owned(), reason.to_owned()])
                .or_default();
            // No count of rows is negative.
            *seen = u64::try_from(all).unwrap_or_default().max(*seen);
        }
        for &queue in self.queues {
            self.open.set(queue, open[queue]);
        }
        let against = CONTRADICTIONS.map(|kind| {
            let of_this_kind = most.iter().filter(|([_, reason], _)| reason == kind);
            ([kind.to_owned()], of_this_kind.map(|(_, seen)| seen).sum())
        });
        self.contradictions.set(against.into());
        let all = most.iter().map(|(labels, seen)| (labels.clone(), *seen));
        self.all.set(all.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_never_falls() {
        let parked = Parked::new(&Metrics::new("orders"), &["letters"]);
        let conflicts = |all| ("letters", "conflict", 1, all);
        for (counts, seen) in [
            (vec![conflicts(2)], 2),
            (vec![conflicts(1)], 2),
            (vec![], 2),
            (vec![conflicts(3)], 3),
        ] {
            parked.set(counts.into_iter());
            let all = parked.all.0.read().expect("not poisoned");
            assert_eq!(*all, [(["letters".into(), "conflict".into()], seen)]);
            let against = parked.contradictions.0.read().expect("not poisoned");
            assert_eq!(
                *against,
                [(["contradiction".into()], 0), (["conflict".into()], seen)]
            );
        }
    }
}

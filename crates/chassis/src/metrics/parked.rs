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

/// How many messages out of one queue are parked for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The queue they came from, or could not be sent to.
    pub queue: String,
    /// A word of the contract's list.
    pub reason: String,
    /// Those that wait for an operator.
    pub open: i64,
    /// All, whatever became of them.
    pub all: i64,
}

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
    pub fn set(&self, counts: &[Count]) {
        for &queue in self.queues {
            let here = counts.iter().filter(|count| count.queue == queue);
            self.open.set(queue, here.map(|count| count.open).sum());
        }
        let mut most = self.most.lock().unwrap_or_else(PoisonError::into_inner);
        for count in counts {
            let labels = [count.queue.clone(), count.reason.clone()];
            let seen = most.entry(labels).or_default();
            *seen = number(count.all).max(*seen);
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

/// No count of rows is negative.
fn number(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(all: i64) -> Count {
        Count {
            queue: "letters".into(),
            reason: "conflict".into(),
            open: 1,
            all,
        }
    }

    #[test]
    fn a_count_never_falls() {
        let parked = Parked::new(&Metrics::new("orders"), &["letters"]);
        for (counts, seen) in [
            (vec![conflicts(2)], 2),
            (vec![conflicts(1)], 2),
            (vec![], 2),
            (vec![conflicts(3)], 3),
        ] {
            parked.set(&counts);
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

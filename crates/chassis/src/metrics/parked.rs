//! What is parked, shown alike by every service that parks.
//!
//! Not here: parking, and the counting (`postbox`).

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
        }
    }

    /// Shows what is parked now.
    pub fn set(&self, counts: &[Count]) {
        for &queue in self.queues {
            let here = counts.iter().filter(|count| count.queue == queue);
            self.open.set(queue, here.map(|count| count.open).sum());
        }
        let all = counts.iter().map(|count| {
            let labels = [count.queue.clone(), count.reason.clone()];
            (labels, number(count.all))
        });
        self.all.set(all.collect());
        let against = CONTRADICTIONS.map(|kind| {
            let of_this_kind = counts.iter().filter(|count| count.reason == kind);
            let sum = of_this_kind.map(|count| count.all).sum();
            ([kind.to_owned()], number(sum))
        });
        self.contradictions.set(against.into());
    }
}

/// No count of rows is negative.
fn number(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or_default()
}

//! The figures of a run, and whether they are good enough.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::follow::Tracker;
use super::place::Posts;
use crate::seen::Seen;

/// What came out of a run. How each figure is made is told in [`crate::load`].
#[derive(Clone, Debug, Serialize)]
pub struct LoadResult {
    /// POSTs answered with a success.
    pub accepted: u64,
    /// Of these, FINISHED.
    pub finished: u64,
    /// Of these, CANCELLED.
    pub cancelled: u64,
    /// Of these, not final in time.
    pub unsettled: u64,
    /// FINISHED without money, or CANCELLED with enough of it.
    pub misjudged: u64,
    /// POSTs that were not answered with a success, by what came instead.
    pub failures: BTreeMap<String, u64>,
    /// From the first POST to the answer of the last.
    pub accepting_seconds: f64,
    /// From the first POST to the last final status.
    pub overall_seconds: f64,
    /// Accepted orders over `accepting_seconds`.
    pub accepted_per_second: f64,
    /// FINISHED orders over `overall_seconds`.
    pub finished_per_second: f64,
    /// POST to its answer.
    pub post: Percentiles,
    /// POST to the final status.
    pub settle: Percentiles,
    /// What the clients saw, for the rules on lost and phantom orders.
    #[serde(skip)]
    pub seen: Seen,
}

/// Latencies in microseconds, exact to three digits. All are 0 if none was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured. Below 100, p99 is the slowest.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50_us: u64,
    /// 99 of 100 took at most this long.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// What a run must reach. What is not set is not looked at; orders left open and orders misjudged
/// never pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Least [`LoadResult::accepted_per_second`].
    pub accepted_per_second_min: Option<f64>,
    /// Least [`LoadResult::finished_per_second`].
    pub finished_per_second_min: Option<f64>,
    /// Longest p99 of a POST.
    pub post_p99_max: Option<Duration>,
    /// Longest p99 of POST to final status.
    pub settle_p99_max: Option<Duration>,
    /// Most failed POSTs; none if not set.
    pub failed_max: Option<u64>,
}

impl LoadResult {
    /// How many POSTs were not answered with a success.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl Thresholds {
    /// What was not reached, one text each; empty if all was.
    #[must_use]
    pub fn missed_by(&self, result: &LoadResult) -> Vec<String> {
        let mut missed = Vec::new();
        for (count, what) in [
            (result.unsettled, "left open"),
            (result.misjudged, "misjudged"),
        ] {
            if count > 0 {
                missed.push(format!("{count} orders {what}"));
            }
        }
        let failed_max = self.failed_max.unwrap_or(0);
        if result.failed() > failed_max {
            missed.push(format!(
                "{} requests failed, at most {failed_max} may",
                result.failed()
            ));
        }
        for (what, rate, least) in [
            (
                "accepted",
                result.accepted_per_second,
                self.accepted_per_second_min,
            ),
            (
                "FINISHED",
                result.finished_per_second,
                self.finished_per_second_min,
            ),
        ] {
            if let Some(least) = least.filter(|least| rate < *least) {
                missed.push(format!("{rate:.1} {what} per second, less than {least:.1}"));
            }
        }
        for (what, measured, most) in [
            ("POST", result.post, self.post_p99_max),
            ("settle", result.settle, self.settle_p99_max),
        ] {
            let p99 = Duration::from_micros(measured.p99_us);
            if let Some(most) = most.filter(|most| measured.count == 0 || p99 > *most) {
                missed.push(format!(
                    "{what} p99 of {p99:?}, more than {most:?}, or none measured"
                ));
            }
        }
        missed
    }

    /// Whether all was reached.
    #[must_use]
    pub fn met_by(&self, result: &LoadResult) -> bool {
        self.missed_by(result).is_empty()
    }
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }
    }
}

/// The longest latency that is told from longer ones: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// From a microsecond to an hour, with three digits. What is recorded into it must saturate: the
/// library neither grows a histogram nor records anything when a value is out of its bounds.
pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are allowed")
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn put_together(
    posts: Posts,
    tracker: &Tracker,
    began: Instant,
    accepting: Duration,
) -> LoadResult {
    let settled = tracker.settled();
    let overall = settled
        .last_final
        .map_or(accepting, |last| last.duration_since(began));
    LoadResult {
        accepted: posts.accepted,
        finished: settled.finished,
        cancelled: settled.cancelled,
        unsettled: settled.open,
        misjudged: settled.misjudged,
        failures: posts.failures,
        accepting_seconds: accepting.as_secs_f64(),
        overall_seconds: overall.as_secs_f64(),
        accepted_per_second: per_second(posts.accepted, accepting),
        finished_per_second: per_second(settled.finished, overall),
        post: Percentiles::from(&posts.latency),
        settle: Percentiles::from(&settled.latency),
        seen: posts.seen,
    }
}

#[expect(clippy::float_arithmetic, reason = "a rate to report, never money")]
#[expect(clippy::cast_precision_loss, reason = "fewer orders than 2^53")]
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> LoadResult {
        LoadResult {
            accepted: 100,
            finished: 100,
            cancelled: 0,
            unsettled: 0,
            misjudged: 0,
            failures: BTreeMap::new(),
            accepting_seconds: 1.0,
            overall_seconds: 2.0,
            accepted_per_second: 100.0,
            finished_per_second: 50.0,
            post: Percentiles {
                count: 100,
                p50_us: 1_000,
                p99_us: 9_000,
                max_us: 9_500,
            },
            settle: Percentiles {
                count: 100,
                p50_us: 5_000,
                p99_us: 30_000,
                max_us: 31_000,
            },
            seen: Seen::default(),
        }
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut histogram = new_histogram();
        for millis in 1..=100 {
            histogram.saturating_record(micros(Duration::from_millis(millis)));
        }
        let Percentiles {
            count,
            p50_us,
            p99_us,
            max_us,
        } = Percentiles::from(&histogram);
        assert_eq!(count, 100);
        // Three digits: within one part in a thousand, upwards.
        assert!((50_000..=50_050).contains(&p50_us), "{p50_us}");
        assert!((99_000..=99_099).contains(&p99_us), "{p99_us}");
        assert!((100_000..=100_100).contains(&max_us), "{max_us}");
    }

    #[test]
    fn nothing_recorded_is_nothing_and_passes_no_threshold() {
        assert_eq!(Percentiles::from(&new_histogram()), Percentiles::default());
        let none = LoadResult {
            settle: Percentiles::default(),
            ..result()
        };
        let most = Thresholds {
            settle_p99_max: Some(Duration::from_secs(9)),
            ..Default::default()
        };
        assert!(!most.met_by(&none));
    }

    #[test]
    fn a_rate_is_a_count_over_its_time() {
        assert_eq!(per_second(30, Duration::from_millis(1500)), 20.0);
        assert_eq!(per_second(30, Duration::ZERO), 0.0);
    }

    #[test]
    fn each_threshold_can_be_missed_by_its_own_figure() {
        let none = Thresholds::default();
        assert!(none.met_by(&result()));
        for (thresholds, result) in [
            (
                none,
                LoadResult {
                    unsettled: 1,
                    ..result()
                },
            ),
            (
                none,
                LoadResult {
                    misjudged: 1,
                    ..result()
                },
            ),
            (
                none,
                LoadResult {
                    failures: [(String::from("503"), 1)].into(),
                    ..result()
                },
            ),
            (
                Thresholds {
                    accepted_per_second_min: Some(100.1),
                    ..none
                },
                result(),
            ),
            (
                Thresholds {
                    finished_per_second_min: Some(50.1),
                    ..none
                },
                result(),
            ),
            (
                Thresholds {
                    post_p99_max: Some(Duration::from_millis(8)),
                    ..none
                },
                result(),
            ),
            (
                Thresholds {
                    settle_p99_max: Some(Duration::from_millis(29)),
                    ..none
                },
                result(),
            ),
        ] {
            assert_eq!(thresholds.missed_by(&result).len(), 1, "{thresholds:?}");
        }
        let reached = Thresholds {
            accepted_per_second_min: Some(100.0),
            finished_per_second_min: Some(50.0),
            post_p99_max: Some(Duration::from_millis(9)),
            settle_p99_max: Some(Duration::from_millis(30)),
            failed_max: Some(0),
        };
        assert!(reached.met_by(&result()));
    }
}

//! What a service counts, as Prometheus reads it at `GET /metrics` of the ops port.
//!
//! One registry per service and passed in, because `paidonce up` runs several services in one
//! process. Labels come from the code and never from a request: there are as many series as the
//! sources say, whatever customers do.

mod parked;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::error::ApiError;
use crate::http::both;
use crate::tasks::{TaskState, Tasks};

pub use parked::Parked;

/// In front of every name.
const PREFIX: &str = "paidonce";

/// The metrics of one service. Clones share the registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
}

/// A number for each value of one label. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Gauges {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl Gauges {
    /// Sets the number of one value.
    pub fn set(&self, value: &'static str, number: i64) {
        self.family
            .get_or_create(&[(self.label, value)])
            .set(number);
    }
}

/// Counts, each under a value for every one of some labels. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Counters<const LABELS: usize>(Arc<RwLock<Vec<Labelled<LABELS>>>>);

/// The labels' values, and the count.
type Labelled<const LABELS: usize> = ([String; LABELS], u64);

impl<const LABELS: usize> Counters<LABELS> {
    /// Sets all of them anew; one that is not named is shown no more.
    pub fn set(&self, counts: Vec<([String; LABELS], u64)>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

impl Metrics {
    /// No metrics yet; all to come carry the label `service`.
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        let label = (Cow::Borrowed("service"), Cow::Borrowed(service));
        let registry = Registry::with_prefix_and_labels(PREFIX, [label].into_iter());
        Self {
            registry: Arc::new(RwLock::new(registry)),
        }
    }

    /// A number for each of these values of `label`, 0 at first.
    #[must_use]
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Gauges {
        let gauges = Gauges {
            label,
            family: Family::default(),
        };
        for value in values {
            gauges.set(value, 0);
        }
        self.change(|registry| registry.register(name, help, gauges.family.clone()));
        gauges
    }

    /// A number that is asked for at each reading.
    pub fn gauge<F>(&self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> i64 + Send + Sync + 'static,
    {
        self.read(name, help, Read::Gauge(Box::new(read)));
    }

    /// A count since the start that is asked for at each reading. `_total` is added to the name.
    pub fn counter<F>(&self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> u64 + Send + Sync + 'static,
    {
        self.read(name, help, Read::Counter(Box::new(read)));
    }

    /// Counts that are known from elsewhere, as rows are. `_total` is added to the name.
    #[must_use]
    pub fn counters<const LABELS: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; LABELS],
    ) -> Counters<LABELS> {
        let counts = Counters(Arc::default());
        self.collect(Counted {
            name,
            help,
            labels,
            counts: counts.clone(),
        });
        counts
    }

    /// `task_up` and `task_restarts_total` of all supervised tasks of these groups.
    pub fn tasks(&self, groups: &[&Tasks]) {
        let groups = groups.iter().map(|tasks| (*tasks).clone()).collect();
        self.collect(OfTasks { groups });
    }

    /// Route for the ops port: `GET /metrics`.
    pub fn router(&self) -> Router {
        both(Router::new(), "/metrics", get(answer)).with_state(self.clone())
    }

    fn read(&self, name: &'static str, help: &'static str, read: Read) {
        self.collect(Asked { name, help, read });
    }

    fn collect(&self, collector: impl Collector) {
        self.change(|registry| registry.register_collector(Box::new(collector)));
    }

    fn change(&self, change: impl FnOnce(&mut Registry)) {
        change(
            &mut self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

async fn answer(State(metrics): State<Metrics>) -> Response {
    let mut text = String::new();
    let encoded = {
        let registry = metrics.registry.read();
        let registry = registry.unwrap_or_else(PoisonError::into_inner);
        prometheus_text::encode(&mut text, &registry)
    };
    match encoded {
        Ok(()) => ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

enum Read {
    Gauge(Box<dyn Fn() -> i64 + Send + Sync>),
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
}

/// One number, asked for at each reading.
struct Asked {
    name: &'static str,
    help: &'static str,
    read: Read,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match &self.read {
            Read::Gauge(_) => MetricType::Gauge,
            Read::Counter(_) => MetricType::Counter,
        };
        let number = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.read {
            Read::Gauge(read) => ConstGauge::new(read()).encode(number),
            Read::Counter(read) => ConstCounter::new(read()).encode(number),
        }
    }
}

#[derive(Debug)]
struct Counted<const LABELS: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; LABELS],
    counts: Counters<LABELS>,
}

impl<const LABELS: usize> Collector for Counted<LABELS> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut all = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        let counts = self.counts.0.read();
        for (values, count) in counts.unwrap_or_else(PoisonError::into_inner).iter() {
            let labels: Vec<(&str, &str)> = self
                .labels
                .into_iter()
                .zip(values.iter().map(String::as_str))
                .collect();
            ConstCounter::new(*count).encode(all.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OfTasks {
    groups: Vec<Tasks>,
}

impl Collector for OfTasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.groups.iter().flat_map(Tasks::health).collect();
        let help = "Whether a task runs, and without a fault of late";
        let mut up = encoder.encode_descriptor("task_up", help, None, MetricType::Gauge)?;
        for (name, task) in &tasks {
            let is_up = ConstGauge::new(i64::from(task.state == TaskState::Up));
            is_up.encode(up.encode_family(&[("task", *name)])?)?;
        }
        let help = "How often a task was started anew";
        let kind = MetricType::Counter;
        let mut restarts = encoder.encode_descriptor("task_restarts", help, None, kind)?;
        for (name, task) in &tasks {
            let count = ConstCounter::new(task.restarts);
            count.encode(restarts.encode_family(&[("task", *name)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    async fn read(metrics: &Metrics) -> (String, String) {
        let request = http::Request::get("/metrics")
            .body(Body::empty())
            .expect("a request");
        let response = metrics.router().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), 200);
        let kind = response.headers()[CONTENT_TYPE].to_str().expect("text");
        let kind = kind.to_owned();
        let body = response.into_body().collect().await.expect("a body");
        let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        (kind, text)
    }

    #[tokio::test]
    async fn numbers_are_read_in_prometheus_own_format() {
        let metrics = Metrics::new("orders");
        let broken = metrics.gauges("broken", "What is broken", "rule", &["S1", "S2"]);
        broken.set("S2", 3);
        metrics.gauge("blocked", "Whether it waits", || 1);
        metrics.counter("sent", "What was sent", || 7);
        let lost = metrics.counters("lost", "What was lost", ["where", "why"]);
        lost.set(vec![(["sea".into(), "storm".into()], 2)]);
        let (kind, text) = read(&metrics).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "# TYPE paidonce_broken gauge",
            "paidonce_broken{service=\"orders\",rule=\"S1\"} 0",
            "paidonce_broken{service=\"orders\",rule=\"S2\"} 3",
            "paidonce_blocked{service=\"orders\"} 1",
            "# TYPE paidonce_sent_total counter",
            "paidonce_sent_total{service=\"orders\"} 7",
            "# TYPE paidonce_lost_total counter",
            "paidonce_lost_total{service=\"orders\",where=\"sea\",why=\"storm\"} 2",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line:?} is missing in\n{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_task_of_each_group_is_shown_once() {
        let stop = CancellationToken::new();
        let (intake, relaying) = (Tasks::new(stop.clone()), Tasks::new(stop.clone()));
        for (tasks, name) in [(&intake, "consumer"), (&relaying, "relay")] {
            let stop = stop.clone();
            tasks.supervise(name, move || {
                let stop = stop.clone();
                async move { stop.cancelled().await }
            });
        }
        let metrics = Metrics::new("payments");
        metrics.tasks(&[&intake, &relaying]);
        let (_, text) = read(&metrics).await;
        for line in [
            "paidonce_task_up{service=\"payments\",task=\"consumer\"} 1",
            "paidonce_task_up{service=\"payments\",task=\"relay\"} 1",
            "paidonce_task_restarts_total{service=\"payments\",task=\"relay\"} 0",
        ] {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
        let heads = text.matches("# TYPE paidonce_task_up gauge").count();
        assert_eq!(heads, 1, "{text}");
        stop.cancel();
    }
}

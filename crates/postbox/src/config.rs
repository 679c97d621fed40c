//! Settings of the broker connection, the relay and the consumer, as an environment gives them.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Where the broker is and who logs in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct BrokerConfig {
    /// One host or several, comma-separated; each may carry `:port`.
    #[serde(deserialize_with = "hosts")]
    pub host: String,
    /// For hosts that carry none.
    pub port: u16,
    /// Login.
    pub user: String,
    /// Never printed.
    pub password: SecretString,
    /// Virtual host.
    pub vhost: String,
    /// AMQPS with the system's certificates.
    pub tls: bool,
    /// Half of it without a sign of life and the connection is given up. Whole seconds, one at
    /// least: with none a broker that stands still is never noticed.
    #[serde(deserialize_with = "a_second_at_least")]
    pub heartbeat: Duration,
    /// `http://host:port` of the management API, with a login or with the one above: there the
    /// policies and members of our queues are read back. Secret, because of the login in it.
    pub management_url: Option<SecretString>,
    /// Deletes a queue that confirms nothing and does not answer. Not for a cluster: one without
    /// its majority looks the same, and its queues come back.
    pub heal_wedged: bool,
    /// Which address each connection had last.
    #[serde(skip)]
    pub turns: Turns,
}

/// Which address comes next, for each connection's name. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<String, usize>>>);

impl Turns {
    /// Where to begin: behind the address that the last connection of this name had.
    pub(crate) fn next(&self, name: &str) -> usize {
        self.lock().get(name).map_or(0, |last| last + 1)
    }

    /// A connection was opened, to this address of the list.
    pub(crate) fn had(&self, name: &str, address: usize) {
        self.lock().insert(name.to_owned(), address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 5672,
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            tls: false,
            heartbeat: Duration::from_secs(4),
            management_url: None,
            heal_wedged: false,
            turns: Turns::default(),
        }
    }
}

impl BrokerConfig {
    /// Host and port of each broker, in the given order. An IPv6 address stands in brackets.
    pub(crate) fn addresses(&self) -> Vec<(String, u16)> {
        self.host
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(|host| {
                let (name, port) = address(host);
                let port = port.and_then(|port| port.parse().ok());
                (name.to_owned(), port.unwrap_or(self.port))
            })
            .collect()
    }
}

/// Splits `host:port`, `[::1]:port` or a host alone.
fn address(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let hosts = String::deserialize(deserializer)?;
    let mut named = hosts
        .split(',')
        .map(str::trim)
        .filter(|h| !h.is_empty())
        .peekable();
    if named.peek().is_none() {
        return Err(D::Error::custom("expected the name of a host"));
    }
    for host in named {
        let (name, port) = address(host);
        let is_bare = name.contains(':') && !name.ends_with(']');
        let is_port = port.is_none_or(|port| port.parse::<NonZeroU16>().is_ok());
        if name.is_empty() || is_bare || !is_port {
            return Err(D::Error::custom(format_args!(
                "expected host, host:port or [IPv6]:port, found {host:?}"
            )));
        }
    }
    Ok(hosts)
}

fn a_second_at_least<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time: Duration = humantime_serde::deserialize(deserializer)?;
    match time.as_secs() {
        0 => Err(D::Error::custom(
            "expected at least 1s: without heartbeats a broker that stands still is never noticed",
        )),
        _ => Ok(time),
    }
}

/// How the outbox is emptied.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RelayConfig {
    /// How often to look for rows that are due though nobody handed them over.
    #[serde(deserialize_with = "some_time")]
    pub poll_interval: Duration,
    /// Rows published before their confirms are awaited.
    pub batch: NonZeroUsize,
    /// Without any confirm for this long, what is open counts as unknown.
    #[serde(skip, default = "confirm_timeout")]
    pub confirm_timeout: Duration,
}

/// A duration of none would have the relay ask without a pause.
fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time: Duration = humantime_serde::deserialize(deserializer)?;
    match time.is_zero() {
        true => Err(D::Error::custom("expected more than no time at all")),
        false => Ok(time),
    }
}

const fn size(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).expect("not zero")
}

fn confirm_timeout() -> Duration {
    Duration::from_secs(10)
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            batch: size(500),
            confirm_timeout: confirm_timeout(),
        }
    }
}

/// How a queue is taken in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ConsumerConfig {
    /// Most deliveries in one transaction.
    pub batch: NonZeroUsize,
    /// Deliveries under way at a time. The broker takes zero for no bound at all.
    pub prefetch: NonZeroU16,
    /// Tries of a message that fails alone, and not for want of a server, before it is parked.
    pub max_attempts: NonZeroU32,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            batch: size(200),
            prefetch: const { NonZeroU16::new(500).expect("not zero") },
            max_attempts: const { NonZeroU32::new(3).expect("not zero") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_nothing_is_refused() {
        let relay = |json| serde_json::from_value::<RelayConfig>(json);
        let consumer = |json| serde_json::from_value::<ConsumerConfig>(json);
        assert!(relay(serde_json::json!({"batch": 1, "poll_interval": "1ms"})).is_ok());
        assert!(relay(serde_json::json!({"batch": 0})).is_err());
        assert!(relay(serde_json::json!({"poll_interval": "0s"})).is_err());
        assert!(
            consumer(serde_json::json!({"batch": 1, "prefetch": 1, "max_attempts": 1})).is_ok()
        );
        for name in ["batch", "prefetch", "max_attempts"] {
            assert!(consumer(serde_json::json!({name: 0})).is_err(), "{name}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        let broker = |name: &str, value: &str| {
            serde_json::from_value::<BrokerConfig>(serde_json::json!({name: value}))
                .map_err(|error| error.to_string())
        };
        for good in ["rabbit", "a:1,b", "a, b:5673,[::1]:5674,[::1]"] {
            assert_eq!(broker("host", good).map(|c| c.host), Ok(good.to_owned()));
        }
        for bad in [
            "", ",", "a:56xx", "a:0", "a:70000", "a:", ":5672", "::1", "a,b:x",
        ] {
            assert!(broker("host", bad).is_err(), "{bad}");
        }
        assert!(broker("heartbeat", "1s").is_ok());
        for bad in ["0s", "500ms"] {
            let refusal = broker("heartbeat", bad).expect_err(bad);
            assert!(refusal.contains("at least 1s"), "{refusal}");
        }
    }

    #[test]
    fn each_host_may_carry_its_own_port() {
        let config = BrokerConfig {
            host: "a, b:5673,[::1]:5674,[::1]".into(),
            ..BrokerConfig::default()
        };
        let expected = [("a", 5672), ("b", 5673), ("[::1]", 5674), ("[::1]", 5672)];
        assert_eq!(
            config.addresses(),
            expected.map(|(host, port)| (host.to_owned(), port))
        );
    }
}

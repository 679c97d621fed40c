//! Settings of the Orders service, from the environment.

use std::num::NonZeroU32;
use std::time::Duration;

use chassis::database::DatabaseConfig;
use chassis::env::{self, EnvError, Listen};
use postbox::{BrokerConfig, ConsumerConfig, RelayConfig, Retention};
use serde::Deserialize;

/// Values that stand in where the environment says nothing.
const DEFAULTS: &[(&str, &str)] = &[
    ("DB_ORDERS__NAME", "orders_db"),
    ("ORDERS__LISTEN", "0.0.0.0:8001"),
    ("ORDERS__OPS_LISTEN", "127.0.0.1:9001"),
];

/// All that the service can be told.
#[derive(Clone, Debug, Deserialize)]
pub struct OrdersConfig {
    /// `DB_ORDERS__…`
    pub db_orders: DatabaseConfig,
    /// `RABBITMQ__…`
    #[serde(default)]
    pub rabbitmq: BrokerConfig,
    /// `ORDERS__LISTEN`, `ORDERS__OPS_LISTEN`
    pub orders: Listen,
    /// `RELAY__…`
    #[serde(default)]
    pub relay: RelayConfig,
    /// `CONSUMER__…`
    #[serde(default)]
    pub consumer: ConsumerConfig,
    /// `CONFIRM_TIMEOUT`: no confirm for this long and what is open counts as unknown.
    #[serde(with = "humantime_serde", default = "confirm_timeout")]
    pub confirm_timeout: Duration,
    /// `REDRIVE_AFTER`: how long an order may be NEW before its payment is asked for again.
    #[serde(with = "humantime_serde", default = "redrive_after")]
    pub redrive_after: Duration,
    /// `REDRIVE__…`
    #[serde(default)]
    pub redrive: RedriveConfig,
    /// `RETENTION`: how long what was sent and what was received is kept.
    #[serde(default)]
    pub retention: Retention,
    /// `SHUTDOWN_TIMEOUT`: how long a stop may take to finish what is under way.
    #[serde(with = "humantime_serde", default = "shutdown_timeout")]
    pub shutdown_timeout: Duration,
}

/// Bounds of asking again.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RedriveConfig {
    /// Most orders that were asked for again and are still NEW, over all processes. Without it
    /// a long stop of Payments under load never recovers: the copies crowd out the requests.
    pub window: NonZeroU32,
}

impl Default for RedriveConfig {
    fn default() -> Self {
        Self {
            window: const { NonZeroU32::new(500).expect("not zero") },
        }
    }
}

fn confirm_timeout() -> Duration {
    Duration::from_secs(10)
}

fn redrive_after() -> Duration {
    Duration::from_secs(30)
}

fn shutdown_timeout() -> Duration {
    Duration::from_secs(8)
}

impl OrdersConfig {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Names the variable that is wrong or unknown.
    pub fn read() -> Result<Self, EnvError> {
        env::read(DEFAULTS).and_then(Self::checked)
    }

    /// Reads given variables in place of the process's environment.
    ///
    /// # Errors
    /// Names the variable that is wrong or unknown.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, EnvError> {
        env::read_from(vars, DEFAULTS).and_then(Self::checked)
    }

    /// An order is asked for again under the id of the first request, which must still be known.
    fn checked(self) -> Result<Self, EnvError> {
        let shortest = self.redrive_after.saturating_mul(2);
        if self.retention.duration() >= shortest {
            return Ok(self);
        }
        Err(EnvError::Invalid {
            name: "RETENTION".into(),
            problem:
                "must be twice REDRIVE_AFTER or more: an order is asked for again under the id \
                      of its first request, which must still be known then"
                    .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(vars: &[(&str, &str)]) -> Option<String> {
        let login = ["DB_ORDERS__USER", "DB_ORDERS__PASSWORD"].map(|name| (name, "x"));
        let vars = login.iter().chain(vars);
        let vars = vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let read = OrdersConfig::from_vars(vars);
        read.err().map(|error| error.to_string())
    }

    #[test]
    fn what_is_received_is_kept_for_longer_than_it_can_come_again() {
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&[("RETENTION", "1d")]), None);
        assert_eq!(
            refusal(&[("RETENTION", "30d"), ("REDRIVE_AFTER", "15d")]),
            None
        );
        for (retention, redrive_after) in [("23h", "30s"), ("5s", "30s"), ("30d", "16d")] {
            let told = refusal(&[("RETENTION", retention), ("REDRIVE_AFTER", redrive_after)]);
            assert!(
                told.as_ref().is_some_and(|told| told.contains("RETENTION")),
                "{retention}: {told:?}"
            );
        }
    }
}

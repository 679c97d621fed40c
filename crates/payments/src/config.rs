//! Settings of the Payments service, from the environment.

use std::time::Duration;

use chassis::database::DatabaseConfig;
use chassis::env::{self, EnvError, Listen};
use postbox::{BrokerConfig, ConsumerConfig, RelayConfig, Retention};
use serde::Deserialize;

/// Values that stand in where the environment says nothing.
const DEFAULTS: &[(&str, &str)] = &[
    ("DB_PAYMENTS__NAME", "payments_db"),
    ("PAYMENTS__LISTEN", "0.0.0.0:8002"),
    ("PAYMENTS__OPS_LISTEN", "127.0.0.1:9002"),
];

/// All that the service can be told.
#[derive(Clone, Debug, Deserialize)]
pub struct PaymentsConfig {
    /// `DB_PAYMENTS__…`
    pub db_payments: DatabaseConfig,
    /// `RABBITMQ__…`
    #[serde(default)]
    pub rabbitmq: BrokerConfig,
    /// `PAYMENTS__LISTEN`, `PAYMENTS__OPS_LISTEN`
    pub payments: Listen,
    /// `RELAY__…`
    #[serde(default)]
    pub relay: RelayConfig,
    /// `CONSUMER__…`
    #[serde(default)]
    pub consumer: ConsumerConfig,
    /// `CONFIRM_TIMEOUT`: no confirm for this long and what is open counts as unknown.
    #[serde(with = "humantime_serde", default = "confirm_timeout")]
    pub confirm_timeout: Duration,
    /// `RETENTION`: how long what was sent and what was received is kept.
    #[serde(default)]
    pub retention: Retention,
    /// `SHUTDOWN_TIMEOUT`: how long a stop may take to finish what is under way.
    #[serde(with = "humantime_serde", default = "shutdown_timeout")]
    pub shutdown_timeout: Duration,
}

fn confirm_timeout() -> Duration {
    Duration::from_secs(10)
}

fn shutdown_timeout() -> Duration {
    Duration::from_secs(8)
}

impl PaymentsConfig {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Names the variable that is wrong or unknown.
    pub fn read() -> Result<Self, EnvError> {
        env::read(DEFAULTS)
    }

    /// Reads given variables in place of the process's environment.
    ///
    /// # Errors
    /// Names the variable that is wrong or unknown.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, EnvError> {
        env::read_from(vars, DEFAULTS)
    }
}

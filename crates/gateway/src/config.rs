//! The gateway's settings, read once from the environment. No other file reads a variable.

use std::time::Duration;

use chassis::env::{self, EnvError, Listen, Stage};
use reqwest::Url;
use serde::Deserialize;

const DEFAULTS: &[(&str, &str)] = &[
    ("GATEWAY__LISTEN", "0.0.0.0:8000"),
    ("GATEWAY__OPS_LISTEN", "127.0.0.1:9000"),
    ("ORDERS_SERVICE_URL", "http://localhost:8001"),
    ("PAYMENTS_SERVICE_URL", "http://localhost:8002"),
    ("SHUTDOWN_TIMEOUT", "8s"),
];

/// Everything the gateway can be told.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayConfig {
    /// Where it listens.
    pub gateway: Listen,
    /// Where Orders answers: scheme `http`, host and port, nothing else.
    pub orders_service_url: String,
    /// Where Payments answers: scheme `http`, host and port, nothing else.
    pub payments_service_url: String,
    /// How long requests under way may take to end after shutdown.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// Development or production.
    #[serde(default)]
    pub env: Stage,
}

impl GatewayConfig {
    /// Reads the process environment.
    ///
    /// # Errors
    /// The first fault found; its text names the variable.
    pub fn read() -> Result<Self, EnvError> {
        Self::checked(env::read(DEFAULTS)?)
    }

    /// Reads given variables in place of the process's environment.
    ///
    /// # Errors
    /// The first fault found; its text names the variable.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, EnvError> {
        Self::checked(env::read_from(vars, DEFAULTS)?)
    }

    fn checked(self) -> Result<Self, EnvError> {
        base_url("ORDERS_SERVICE_URL", &self.orders_service_url)?;
        base_url("PAYMENTS_SERVICE_URL", &self.payments_service_url)?;
        Ok(self)
    }
}

/// The base of a service's URLs. A path or a login in it would be dropped without a word when a
/// request is put together, so both are refused here.
pub(crate) fn base_url(variable: &str, text: &str) -> Result<Url, EnvError> {
    let invalid = || EnvError::Invalid {
        name: variable.to_owned(),
        problem: "expected http://HOST or http://HOST:PORT".to_owned(),
    };
    let url = Url::parse(text).map_err(|_| invalid())?;
    let is_bare = url.scheme() == "http"
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if is_bare { Ok(url) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<GatewayConfig, EnvError> {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        env::read_from::<GatewayConfig>(vars, DEFAULTS)?.checked()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = read(&[]).expect("defaults are enough");
        assert_eq!(config.gateway.listen.to_string(), "0.0.0.0:8000");
        assert_eq!(config.gateway.ops_listen.to_string(), "127.0.0.1:9000");
        assert_eq!(config.orders_service_url, "http://localhost:8001");
        assert_eq!(config.payments_service_url, "http://localhost:8002");
        assert_eq!(config.shutdown_timeout, Duration::from_secs(8));
    }

    #[test]
    fn an_upstream_is_a_host_and_a_port_and_nothing_more() {
        let good = [("ORDERS_SERVICE_URL", "http://orders_service:8000/")];
        read(&good).expect("as compose sets it");
        for bad in [
            "orders_service:8000",
            "https://orders_service",
            "http://orders_service/v1",
            "http://user@orders_service",
            "http://orders_service?x=1",
            "ftp://x",
            "",
        ] {
            let vars = [("PAYMENTS_SERVICE_URL", bad)];
            let Err(error) = read(&vars) else {
                assert_eq!(bad, "", "only an empty variable counts as unset");
                continue;
            };
            assert!(
                error.to_string().contains("PAYMENTS_SERVICE_URL"),
                "{error}"
            );
        }
    }
}

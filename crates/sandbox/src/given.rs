//! Backend `external`: servers that somebody else runs, and addresses that are handed on to other processes.
//!
//! Not here: anything that starts, stops or harms a server.

use std::fmt;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::sandbox::{Login, Servers};
use crate::server::{Ports, Server};
use crate::variables::{self, AMQP_URL, MANAGEMENT_URL, POSTGRES_URL, SANDBOX};

/// A server's address and an administrator's login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// All that a process needs to use servers that another one started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) postgres: Endpoint,
    pub(crate) rabbitmq: Endpoint,
    pub(crate) management_url: String,
}

impl Addresses {
    /// Those of the sandbox around this process, if there is one.
    pub(crate) fn around() -> anyhow::Result<Option<Self>> {
        variables::text(SANDBOX)?
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .with_context(|| format!("cannot read {SANDBOX}"))
    }

    /// Those of the given URLs, if there are any.
    ///
    /// # Errors
    /// If one is there without the other, or is no such URL.
    pub(crate) fn given() -> anyhow::Result<Option<Self>> {
        match (variables::text(POSTGRES_URL)?, variables::text(AMQP_URL)?) {
            (None, None) => Ok(None),
            (Some(postgres), Some(amqp)) => {
                Self::parse(&postgres, &amqp, variables::text(MANAGEMENT_URL)?).map(Some)
            }
            _ => bail!("{POSTGRES_URL} and {AMQP_URL} are only of use together"),
        }
    }

    fn parse(postgres: &str, amqp: &str, management: Option<String>) -> anyhow::Result<Self> {
        let postgres = Endpoint::parse(postgres, 5432).context(POSTGRES_URL)?;
        let rabbitmq = Endpoint::parse(amqp, 5672).context(AMQP_URL)?;
        let management_url =
            management.unwrap_or_else(|| format!("http://{}:15672", rabbitmq.host));
        Ok(Self {
            postgres,
            rabbitmq,
            management_url: management_url.trim_end_matches('/').to_owned(),
        })
    }
}

impl Endpoint {
    fn parse(url: &str, default_port: u16) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("not a URL")?;
        let password = url.password().context("no password")?;
        Ok(Self {
            host: url.host_str().context("no host")?.to_owned(),
            port: url.port().unwrap_or(default_port),
            user: decode(url.username())?,
            password: decode(password)?,
        })
    }

    async fn resolve(&self) -> anyhow::Result<std::net::SocketAddr> {
        tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("cannot find {}", self.host))?
            .next()
            .with_context(|| format!("{} has no address", self.host))
    }
}

/// Undoes percent signs.
fn decode(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).context("a login that is not UTF-8")
}

/// Writes a text so that it can be one segment of a URL's path or its user or password.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Both servers, as they are given.
pub(crate) async fn prepare() -> anyhow::Result<Servers> {
    let addresses = Addresses::given()?
        .with_context(|| format!("{POSTGRES_URL} and {AMQP_URL} are not set"))?;
    let url = Url::parse(&addresses.management_url).context(MANAGEMENT_URL)?;
    let management = Endpoint {
        host: url.host_str().context(MANAGEMENT_URL)?.to_owned(),
        port: url.port_or_known_default().context(MANAGEMENT_URL)?,
        ..addresses.rabbitmq.clone()
    };
    Ok(Servers {
        postgres: Box::new(Given(Ports {
            main: addresses.postgres.resolve().await?,
            management: None,
        })),
        rabbitmq: Box::new(Given(Ports {
            main: addresses.rabbitmq.resolve().await?,
            management: Some(management.resolve().await?),
        })),
        postgres_login: login(&addresses.postgres),
        rabbitmq_login: login(&addresses.rabbitmq),
    })
}

fn login(endpoint: &Endpoint) -> Login {
    Login {
        user: endpoint.user.clone(),
        password: endpoint.password.clone(),
    }
}

/// A server of somebody else.
#[derive(Debug)]
struct Given(Ports);

impl Given {
    fn refuse(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { bail!("the server is given, so it is not this sandbox's to start, stop or harm") }
            .boxed()
    }
}

impl Server for Given {
    fn start(&self) -> BoxFuture<'_, anyhow::Result<Ports>> {
        async { Ok(self.0) }.boxed()
    }

    fn stop(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.refuse()
    }

    fn kill(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.refuse()
    }

    fn freeze(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.refuse()
    }

    fn thaw(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        self.refuse()
    }

    fn is_alive(&self) -> BoxFuture<'_, bool> {
        async { true }.boxed()
    }

    fn is_ours(&self) -> bool {
        false
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_any_sign() {
        let odd = "p@ss/w:rd %ü";
        assert_eq!(decode(&encode(odd)).expect("UTF-8"), odd);
        let url = format!("postgres://ana:{}@db.example", encode(odd));
        let endpoint = Endpoint::parse(&url, 5432).expect("a URL");
        assert_eq!(endpoint.password, odd);
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port),
            ("db.example", 5432)
        );
    }

    #[test]
    fn management_is_looked_for_on_the_brokers_host() {
        let addresses =
            Addresses::parse("postgres://a:b@db:1", "amqp://c:d@broker:2", None).expect("two URLs");
        assert_eq!(addresses.management_url, "http://broker:15672");
    }

    #[test]
    fn a_url_without_a_password_is_refused() {
        assert!(Endpoint::parse("amqp://guest@broker", 5672).is_err());
    }
}

//! The environment of this process, read in one place. Nothing is read that is not named here.
//!
//! Not here: what the values mean.
#![expect(
    clippy::disallowed_methods,
    reason = "chassis reads the services' settings; these are of tests and tools, and chassis is no dependency"
)]

use std::ffi::OsString;

use anyhow::Context;

/// `auto`, `docker`, `local` or `external`.
pub(crate) const BACKEND: &str = "PAIDONCE_TEST_BACKEND";
/// Set by the binary `sandbox` around a command; JSON of [`Addresses`](crate::given::Addresses).
pub(crate) const SANDBOX: &str = "PAIDONCE_SANDBOX";
/// `postgres://user:password@host:port`, of a login that may create databases.
pub(crate) const POSTGRES_URL: &str = "PAIDONCE_POSTGRES_URL";
/// `amqp://user:password@host:port`, of an administrator.
pub(crate) const AMQP_URL: &str = "PAIDONCE_AMQP_URL";
/// `http://host:port`; by default port 15672 on the broker's host.
pub(crate) const MANAGEMENT_URL: &str = "PAIDONCE_MANAGEMENT_URL";
/// With a tag; by default the public one, then the stand-in.
#[cfg(feature = "containers")]
pub(crate) const POSTGRES_IMAGE: &str = "POSTGRES_IMAGE";
/// With a tag; by default the public one, then the stand-in.
#[cfg(feature = "containers")]
pub(crate) const RABBITMQ_IMAGE: &str = "RABBITMQ_IMAGE";
/// Where the Docker engine is, as its own client reads it.
#[cfg(feature = "containers")]
pub(crate) const DOCKER_HOST: &str = "DOCKER_HOST";

/// `None` if it is not set or empty.
///
/// # Errors
/// If it is not UTF-8.
pub(crate) fn text(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

/// Where programs are looked for.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

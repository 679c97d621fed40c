//! Who runs the servers, and how that is decided.
//!
//! Not here: running them.

use std::fmt;

use anyhow::bail;

use crate::given::Addresses;
use crate::variables::{AMQP_URL, BACKEND, POSTGRES_URL};
use crate::{local, variables};

/// Who runs the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Containers, by a Docker engine (feature `containers`).
    Docker,
    /// Child processes of this one.
    Local,
    /// Somebody else; they are found by `PAIDONCE_POSTGRES_URL`, `PAIDONCE_AMQP_URL` and, where it is not on the
    /// broker's port 15672, `PAIDONCE_MANAGEMENT_URL`. They cannot be stopped or harmed, but the links to them can.
    External,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Local => "local",
            Self::External => "external",
        })
    }
}

impl Backend {
    /// By `PAIDONCE_TEST_BACKEND`; when that is `auto` or not set: external if the URLs are given, else local if the
    /// programs are found, else docker if an engine answers. For tests that want to begin soon.
    ///
    /// # Errors
    /// If the variable has another value, or none of the ways is open: one error that names all of them.
    pub fn choose() -> anyhow::Result<Self> {
        Self::choose_from(asked_for()?)
    }

    /// As [`choose`](Self::choose), but docker comes first if an engine answers and has the images.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub fn choose_for_acceptance() -> anyhow::Result<Self> {
        let asked_for = asked_for()?;
        if asked_for.is_none() && Addresses::given()?.is_none() && images_are_present() {
            return Ok(Self::Docker);
        }
        Self::choose_from(asked_for)
    }

    fn choose_from(asked_for: Option<Self>) -> anyhow::Result<Self> {
        if let Some(backend) = asked_for {
            return Ok(backend);
        }
        if Addresses::given()?.is_some() {
            return Ok(Self::External);
        }
        let Err(no_local) = local::Programs::find() else {
            return Ok(Self::Local);
        };
        let Err(no_docker) = engine_answers() else {
            return Ok(Self::Docker);
        };
        bail!(
            "no servers to test with; local: {no_local}; docker: {no_docker}; external: \
             {POSTGRES_URL} and {AMQP_URL} are not set"
        )
    }
}

fn asked_for() -> anyhow::Result<Option<Backend>> {
    let Some(value) = variables::text(BACKEND)? else {
        return Ok(None);
    };
    match value.as_str() {
        "auto" => Ok(None),
        "docker" => Ok(Some(Backend::Docker)),
        "local" => Ok(Some(Backend::Local)),
        "external" => Ok(Some(Backend::External)),
        other => bail!("{BACKEND} is `{other}`, not auto, docker, local or external"),
    }
}

#[cfg(feature = "containers")]
fn engine_answers() -> anyhow::Result<()> {
    crate::containers::engine_answers()
}

#[cfg(not(feature = "containers"))]
fn engine_answers() -> anyhow::Result<()> {
    bail!("not built in (feature `containers`)")
}

#[cfg(feature = "containers")]
fn images_are_present() -> bool {
    crate::containers::images_are_present()
}

#[cfg(not(feature = "containers"))]
fn images_are_present() -> bool {
    false
}

//! Free ports on loopback that stay free while a server is down.
//!
//! Not here: who listens on them.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::Context;

use crate::server::lock;

/// Below the range that the system takes for outgoing connections: a client that retries the port of a dead server
/// could otherwise be given that very port as its own, and connect to itself.
fn range() -> std::ops::Range<u16> {
    let lowest_ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(32_768);
    15_000..lowest_ephemeral
}

/// A port that nobody listens on now and that this process has not been given before.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = lock(&GIVEN);
    let given = given.get_or_insert_default();
    let range = range();
    for _ in 0..200 {
        let Some(wide) = range.end.checked_sub(range.start).filter(|wide| *wide > 0) else {
            break;
        };
        let random = RandomState::new().build_hasher().finish() % u64::from(wide);
        let port = range.start + u16::try_from(random).unwrap_or(0);
        if is_free(port) && given.insert(port) {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

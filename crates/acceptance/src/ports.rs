//! Ports on loopback for the services of all stacks, which stay theirs while a service is down.
//!
//! Not here: who listens on them.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context;

/// Below what systems take for outgoing connections, and below what the servers of the sandbox take: neither can grab
/// the port of a service that was killed and is to start again.
const RANGE: Range<u16> = 10_000..15_000;

/// A port that nobody listens on and that this process has not given away lately.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time begin at different places.
    let begin = std::process::id() % 5_000;
    let begin = u16::try_from(begin).unwrap_or(0);
    (0..RANGE.end - RANGE.start)
        .map(|_| NEXT.fetch_add(1, Ordering::Relaxed) % 5_000)
        .map(|step| RANGE.start + (begin + step) % 5_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port is free")
}

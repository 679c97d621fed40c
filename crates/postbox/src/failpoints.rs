//! What a test does to a process from within: it dies or freezes at a named moment, dies of a piece
//! of work, or has a planted fault.
//!
//! Nothing of this is left without the feature `failpoints`, which only the acceptance suite
//! switches on: the functions are then empty, and no variable is read. A module of our own,
//! because a failpoint library for threads would block the runtime, and because a crash must run
//! no destructor: a process dies here as by `kill -9`.
//!
//! A test of the acceptance suite compares the moments in the sources with those that its
//! scenarios kill at.
//!
//! `PAIDONCE_DIES_AT=NAME[:N]`: dies when it comes to the moment for the Nth time (1 unless
//! said). `PAIDONCE_PANICS_AT=NAME[:N]`: the task panics the first N times (1 unless said) it comes
//! to the moment. `PAIDONCE_FREEZES_AT=NAME[:N]`: stops as by `kill -STOP` when it comes to the moment
//! for the Nth time. `PAIDONCE_DIES_OF=TEXT`: dies of each piece of work that reads so.
//! `PAIDONCE_PLANTED=NAME`: has that fault. `PAIDONCE_NEXT_VERSION=read` or `sent`: is the build to
//! come that reads, or that also sends, messages one version newer than today's.

use std::fmt::Display;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("a release has neither failpoints nor planted faults: build it with `-p paidonce`");

/// A moment at which the process may be told to die.
#[inline]
pub fn moment(name: &'static str) {
    #[cfg(feature = "failpoints")]
    told::fail_if_told(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Work that is about to be done together, one piece of which the process may be told to die of.
#[inline]
pub fn hazard<Work: Display>(works: impl ExactSizeIterator<Item = Work>) {
    #[cfg(feature = "failpoints")]
    told::die_if_told(works);
    #[cfg(not(feature = "failpoints"))]
    let _ = works;
}

/// Whether this fault is planted. Constantly false without the feature.
#[inline]
#[must_use]
pub fn planted(name: &'static str) -> bool {
    #[cfg(feature = "failpoints")]
    return told::is_planted(name);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = name;
        false
    }
}

/// The newest version of a message that this build reads, given the one it is written for. A newer
/// one is parked, and can be replayed after an upgrade.
#[inline]
#[must_use]
pub fn version_read(written_for: i16) -> i16 {
    #[cfg(feature = "failpoints")]
    return written_for + i16::from(told::next_version().is_some());
    #[cfg(not(feature = "failpoints"))]
    written_for
}

/// The version in which this build sends messages, given the one it is written for. A new version
/// is read by all before anybody sends it, so it is switched on one release later than it is read.
#[inline]
#[must_use]
pub fn version_sent(written_for: i16) -> i16 {
    #[cfg(feature = "failpoints")]
    return written_for + i16::from(told::next_version() == Some("sent"));
    #[cfg(not(feature = "failpoints"))]
    written_for
}

#[cfg(feature = "failpoints")]
mod told {
    use std::fmt::Display;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// The signal is taken by any thread, and within this time all stand still.
    const STANDS_STILL: Duration = Duration::from_millis(200);

    struct Told {
        dies_at: Option<(String, u32)>,
        dies_of: Option<String>,
        freezes_at: Option<(String, u32)>,
        panics_at: Option<(String, u32)>,
        next_version: Option<String>,
        planted: Option<String>,
    }

    static TOLD: OnceLock<Told> = OnceLock::new();
    static COME_TO: AtomicBool = AtomicBool::new(false);
    static PASSED: AtomicU32 = AtomicU32::new(0);

    #[expect(
        clippy::disallowed_methods,
        reason = "no setting of a service: a build that has settings of this kind is not released"
    )]
    fn told() -> &'static Told {
        TOLD.get_or_init(|| Told {
            dies_at: std::env::var("PAIDONCE_DIES_AT").ok().map(at),
            dies_of: std::env::var("PAIDONCE_DIES_OF").ok(),
            freezes_at: std::env::var("PAIDONCE_FREEZES_AT").ok().map(at),
            panics_at: std::env::var("PAIDONCE_PANICS_AT").ok().map(at),
            next_version: std::env::var("PAIDONCE_NEXT_VERSION").ok(),
            planted: std::env::var("PAIDONCE_PLANTED").ok(),
        })
    }

    fn at(told: String) -> (String, u32) {
        let (name, count) = told.split_once(':').unwrap_or((&told, "1"));
        (name.to_owned(), count.parse().unwrap_or(1))
    }

    pub(super) fn fail_if_told(name: &str) {
        let told = told();
        if let Some((at, count)) = &told.dies_at
            && at == name
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            eprintln!("dies at {name}, as told");
            std::process::abort();
        }
        if let Some((at, count)) = &told.freezes_at
            && at == name
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            freeze(name);
        }
        if let Some((at, count)) = &told.panics_at
            && at == name
            && PASSED.fetch_add(1, Ordering::Relaxed) < *count
        {
            // Once, whatever else tells of the panic.
            eprintln!("comes to {name} to panic, as told");
            panic!("at {name}, as told");
        }
    }

    /// Goes on after this moment when somebody thaws it, and not before.
    fn freeze(name: &str) {
        eprintln!("freezes at {name}, as told");
        if let Err(error) = kill_process(getpid(), Signal::STOP) {
            eprintln!("cannot freeze: {error}");
            std::process::abort();
        }
        std::thread::park_timeout(STANDS_STILL);
    }

    pub(super) fn die_if_told<Work: Display>(works: impl ExactSizeIterator<Item = Work>) {
        let Some(of) = &told().dies_of else {
            return;
        };
        let others = works.len() - 1;
        if works.into_iter().any(|work| work.to_string() == *of) {
            eprintln!("dies of {of}, with {others} others in hand, as told");
            std::process::abort();
        }
    }

    pub(super) fn next_version() -> Option<&'static str> {
        told().next_version.as_deref()
    }

    pub(super) fn is_planted(name: &str) -> bool {
        let is_planted = told().planted.as_deref() == Some(name);
        // The suite counts a fault as caught only where it was come to.
        if is_planted && !COME_TO.swap(true, Ordering::Relaxed) {
            eprintln!("has the fault {name}, as told");
        }
        is_planted
    }
}

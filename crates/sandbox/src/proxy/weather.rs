//! What the network does, as all connections see it.
//!
//! Not here: the connections.

use std::time::Duration;

use super::PORTION;

/// What the network between the clients and the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes flow.
    Up,
    /// Bytes are held back in both directions and connections stay open (a partition). New connections are accepted
    /// and get no answer.
    Stalled,
    /// As [`Stalled`](Self::Stalled), but only from the clients to the server: what the server says arrives.
    RequestsHeld,
    /// As [`Stalled`](Self::Stalled), but only from the server to the clients: it acts on what it is told, and nobody
    /// hears of it.
    AnswersHeld,
    /// Open connections are closed, and new ones are accepted and closed at once.
    Down,
    /// As [`Down`](Self::Down), by a reset: what was under way is thrown away.
    Reset,
}

impl Link {
    pub(super) fn ends_connections(self) -> bool {
        matches!(self, Self::Down | Self::Reset)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) link: Link,
    /// How often connections were ended so far: who looks now and then must not miss a cut that is mended at once.
    pub(super) cuts: u64,
    /// Whether the last time was a reset.
    pub(super) was_reset: bool,
    pub(super) delay: Duration,
    pub(super) slice: usize,
    /// Bytes that go on at a time.
    pub(super) portion: usize,
    /// One portion out of so many resets its connection; none if 0.
    pub(super) reset_each: usize,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

impl Weather {
    pub(super) const FAIR: Self = Self {
        link: Link::Up,
        cuts: 0,
        was_reset: false,
        delay: Duration::ZERO,
        slice: usize::MAX,
        portion: PORTION,
        reset_each: 0,
    };

    /// Whether a connection that began after so many cuts is over.
    pub(super) fn ends(self, born: u64) -> bool {
        self.link.ends_connections() || self.cuts != born
    }

    pub(super) fn holds(self, direction: Direction) -> bool {
        match self.link {
            Link::Stalled => true,
            Link::RequestsHeld => direction == Direction::ToServer,
            Link::AnswersHeld => direction == Direction::ToClient,
            Link::Up | Link::Down | Link::Reset => false,
        }
    }
}

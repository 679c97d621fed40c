//! A trap for one request on the way to a server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock;

/// What does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The server gets the request and answers it in vain.
    Answer,
    /// The server never gets it.
    Request,
}

/// Waits for bytes that a client sends on one connection, one sequence after the other.
#[derive(Debug, Default)]
pub(super) struct Trap {
    set: Mutex<Option<(Vec<Vec<u8>>, Lost)>>,
    sprung: AtomicUsize,
}

/// How far one connection has come.
#[derive(Debug, Default)]
pub(super) struct Spotted {
    sequences: usize,
    /// The end of what was sent before: a sequence may stand across two portions.
    tail: Vec<u8>,
}

impl Trap {
    pub(super) fn set(&self, sequences: &[&[u8]], lost: Lost) {
        let sequences = sequences.iter().filter(|bytes| !bytes.is_empty());
        let sequences = sequences.map(|bytes| bytes.to_vec()).collect();
        *lock(&self.set) = Some((sequences, lost));
    }

    pub(super) fn clear(&self) {
        *lock(&self.set) = None;
    }

    /// Whether this portion ends what is waited for; only the first connection of which that is true is told.
    pub(super) fn springs(&self, spotted: &mut Spotted, portion: &[u8]) -> Option<Lost> {
        let mut set = lock(&self.set);
        let Some((sequences, lost)) = &*set else {
            *spotted = Spotted::default();
            return None;
        };
        spotted.tail.extend_from_slice(portion);
        while let Some(wanted) = sequences.get(spotted.sequences) {
            let mut windows = spotted.tail.windows(wanted.len());
            let Some(at) = windows.position(|window| window == wanted) else {
                let kept = wanted.len().saturating_sub(1);
                let gone = spotted.tail.len().saturating_sub(kept);
                spotted.tail.drain(..gone);
                return None;
            };
            spotted.tail.drain(..at + wanted.len());
            spotted.sequences += 1;
        }
        let lost = *lost;
        *set = None;
        Some(lost)
    }

    pub(super) fn has_sprung(&self) {
        self.sprung.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn sprung(&self) -> usize {
        self.sprung.load(Ordering::SeqCst)
    }
}

//! How long a round waits for a broker that says nothing.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::broker::BrokerError;

/// Confirms silent for this long are shown as red, before they are given up.
const SILENT: Duration = Duration::from_secs(5);

/// Whether the broker takes what is published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flow {
    /// Since when.
    Free(Instant),
    /// By an alarm: nothing that is written arrives, and no confirm can come.
    Blocked,
}

/// Waits until the broker takes what is published.
pub(crate) async fn free(flow: &mut watch::Receiver<Flow>) {
    // An error means that the session is ending; whoever waits is told by its token.
    let _ = flow.wait_for(|flow| matches!(flow, Flow::Free(_))).await;
}

/// One round's: counts from the last sign of life, and not while the broker blocks us.
pub(crate) struct Patience<'a> {
    limit: Duration,
    flow: watch::Receiver<Flow>,
    over: &'a CancellationToken,
    board: &'a Board,
    last: Instant,
    shown: bool,
    // One for the whole round: each poll of a new one would register it with the timer.
    alarm: Pin<Box<Sleep>>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(
        limit: Duration,
        flow: watch::Receiver<Flow>,
        over: &'a CancellationToken,
        board: &'a Board,
    ) -> Self {
        let last = Instant::now();
        Self {
            limit,
            flow,
            over,
            board,
            last,
            shown: false,
            alarm: Box::pin(sleep_until(last + SILENT.min(limit))),
        }
    }

    /// A confirm came, or the socket took a message.
    pub(crate) fn seen(&mut self) {
        self.last = Instant::now();
        self.show(false);
    }

    /// Ends when there was no sign of life for too long, or when the session is to end while the
    /// broker blocks it. May be dropped and called again.
    pub(crate) async fn over(&mut self) -> BrokerError {
        loop {
            self.alarm.as_mut().await;
            let flow = *self.flow.borrow();
            match flow {
                Flow::Free(since) => self.last = self.last.max(since),
                Flow::Blocked => {
                    self.show(false);
                    tokio::select! {
                        () = free(&mut self.flow) => {}
                        () = self.over.cancelled() => return BrokerError::Blocked,
                    }
                    self.last = Instant::now();
                }
            }
            let silent = self.last.elapsed();
            if silent >= self.limit {
                return BrokerError::ConfirmsSilent(self.limit);
            }
            if silent >= SILENT {
                self.show(true);
            }
            let next = if silent >= SILENT {
                self.limit
            } else {
                SILENT.min(self.limit)
            };
            self.alarm.as_mut().reset(self.last + next);
        }
    }

    fn show(&mut self, silent: bool) {
        if self.shown != silent {
            self.shown = silent;
            self.board.silent(silent.then_some(SILENT));
        }
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.show(false);
    }
}

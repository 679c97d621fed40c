//! From the committed transaction to the relay, in memory: the fast way out of the outbox. The
//! table is the truth; what is dropped here is found by the poll once its lease ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::message::{OutboxRow, RowRef};
use crate::outbox::LEASE;

/// Whole rows held in memory. Beyond, only references are kept and the rows read back: a
/// channel bounded by batches overflowed in short stalls, and what it dropped waited for the
/// poll.
const ROWS_MAX: usize = 16_384;
/// References held beyond that. Later ones are left to the poll.
const REFERENCES_MAX: usize = 1_000_000;
/// A row handed over longer ago may belong to somebody else soon: it is left to the poll.
const USABLE: Duration = LEASE.saturating_sub(Duration::from_secs(3));

/// Where committed outbox rows are handed to this process's relay. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    handed: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: VecDeque<(Instant, OutboxRow)>,
    beyond: VecDeque<(Instant, RowRef)>,
}

/// What the relay takes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Rows(Vec<OutboxRow>),
    References(Vec<RowRef>),
    Nothing,
}

impl Outbox {
    /// An empty hand-over.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands rows of a committed transaction to the relay. Never blocks and never fails: what
    /// does not fit stays due in the table.
    pub fn hand_over(&self, rows: Vec<OutboxRow>) {
        if rows.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut waiting = self.lock();
        for row in rows {
            // Once some are kept by reference, later ones follow them: order is kept.
            if waiting.beyond.is_empty() && waiting.rows.len() < ROWS_MAX {
                waiting.rows.push_back((now, row));
            } else if waiting.beyond.len() < REFERENCES_MAX {
                waiting.beyond.push_back((now, row.row));
            }
        }
        drop(waiting);
        self.shared.handed.notify_one();
    }

    /// Rows waiting to be published.
    #[must_use]
    pub fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.rows.len() + waiting.beyond.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until fewer than `rows` wait, at most `limit` long: a writer that is faster than
    /// its relay slows down by this, and goes on when the relay cannot send at all.
    pub async fn room(&self, rows: usize, limit: Duration) {
        let wait = async {
            loop {
                let taken = self.shared.taken.notified();
                if self.len() < rows {
                    return;
                }
                taken.await;
            }
        };
        // A timeout is an answer too: the table holds what memory does not.
        let _ = tokio::time::timeout(limit, wait).await;
    }

    /// Resolves when something has been handed over since the last call.
    pub(crate) async fn handed(&self) {
        self.shared.handed.notified().await;
    }

    /// Up to `most` rows, oldest first, or references to such; those whose lease runs out are
    /// dropped on the way.
    pub(crate) fn take(&self, most: usize) -> Taken {
        let mut waiting = self.lock();
        let usable = |handed: &Instant| handed.elapsed() < USABLE;
        let mut rows = Vec::new();
        while rows.len() < most
            && let Some((handed, row)) = waiting.rows.pop_front()
        {
            if usable(&handed) {
                rows.push(row);
            }
        }
        let mut references = Vec::new();
        while rows.is_empty()
            && references.len() < most
            && let Some((handed, row)) = waiting.beyond.pop_front()
        {
            if usable(&handed) {
                references.push(row);
            }
        }
        let more = !waiting.rows.is_empty() || !waiting.beyond.is_empty();
        drop(waiting);
        self.shared.taken.notify_waiters();
        if more {
            // For the other lane, and for ourselves on the next round.
            self.shared.handed.notify_one();
        }
        if !rows.is_empty() {
            Taken::Rows(rows)
        } else if !references.is_empty() {
            Taken::References(references)
        } else {
            Taken::Nothing
        }
    }

    /// All that waits, as references: given back at shutdown.
    pub(crate) fn take_references(&self) -> Vec<RowRef> {
        let mut waiting = self.lock();
        let rows: Vec<RowRef> = waiting.rows.drain(..).map(|(_, row)| row.row).collect();
        rows.into_iter()
            .chain(waiting.beyond.drain(..).map(|(_, row)| row))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it, and a half-moved queue would be a second send only.
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn row(id: i64) -> OutboxRow {
        OutboxRow {
            row: RowRef {
                id,
                created_at: OffsetDateTime::UNIX_EPOCH,
                due_at: OffsetDateTime::UNIX_EPOCH,
            },
            message_id: Uuid::now_v7(),
            kind: "kind".into(),
            schema_version: 1,
            body: "{}".into(),
            traceparent: None,
            request_id: None,
        }
    }

    #[test]
    fn rows_leave_in_the_order_they_came_also_beyond_the_bound() {
        let outbox = Outbox::new();
        let count = i64::try_from(ROWS_MAX).expect("fits") + 3;
        outbox.hand_over((0..count).map(row).collect());
        let mut seen = Vec::new();
        let mut references = 0;
        loop {
            match outbox.take(500) {
                Taken::Rows(rows) => seen.extend(rows.iter().map(|row| row.row.id)),
                Taken::References(rows) => {
                    references += rows.len();
                    seen.extend(rows.iter().map(|row| row.id));
                }
                Taken::Nothing => break,
            }
        }
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
        assert_eq!(references, 3);
    }

    #[tokio::test]
    async fn a_writer_waits_for_room_but_not_for_ever() {
        let outbox = Outbox::new();
        outbox.hand_over((0..10).map(row).collect());
        let limit = Duration::from_millis(20);
        let started = Instant::now();
        outbox.room(5, limit).await;
        assert!(started.elapsed() >= limit, "ten rows are no room for five");
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.room(5, Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outbox.take(6);
        waiting.await.expect("room was made");
    }
}

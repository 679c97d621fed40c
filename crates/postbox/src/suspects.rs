//! Which message is it that makes the broker hang up? Found by halves, tried alone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::message::{OutboxRow, RowRef};

/// Sessions that a message may end while it is alone before it is parked.
const DEATHS: u32 = 3;

/// Messages that were under way together when the broker ended the session over one of them.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) rows: Vec<OutboxRow>,
    /// Sessions that ended while this group was alone under way.
    deaths: u32,
}

impl Group {
    /// Whether it is a message of its own: then what ends the session is its doing.
    pub(crate) fn is_alone(&self) -> bool {
        self.rows.len() == 1
    }
}

/// The groups still to be tried, kept over sessions. In memory only: after a death of the process
/// the rows fall due again, and the search begins anew.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    groups: Mutex<VecDeque<Group>>,
}

impl Suspects {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// These were under way, beside others perhaps.
    pub(crate) fn add(&self, rows: Vec<OutboxRow>) {
        if !rows.is_empty() {
            self.lock().push_back(Group { rows, deaths: 0 });
        }
    }

    /// The next to be tried with nothing else under way.
    pub(crate) fn next(&self) -> Option<Group> {
        self.lock().pop_front()
    }

    /// The session ended over this group: tried again in halves, a single message as often as it
    /// may. That message if it may not any more.
    pub(crate) fn blame(&self, mut group: Group) -> Option<OutboxRow> {
        let mut groups = self.lock();
        if group.rows.len() > 1 {
            let second = group.rows.split_off(group.rows.len() / 2);
            for rows in [second, group.rows] {
                groups.push_front(Group { rows, deaths: 0 });
            }
            return None;
        }
        group.deaths += 1;
        if group.deaths >= DEATHS {
            return group.rows.pop();
        }
        groups.push_front(group);
        None
    }

    /// All that is left, to be given back at a shutdown.
    pub(crate) fn take_references(&self) -> Vec<RowRef> {
        let groups = std::mem::take(&mut *self.lock());
        groups
            .iter()
            .flat_map(|group| group.rows.iter().map(|row| row.row))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of `rows` that `which` names. Only for what has gone wrong: it compares each with each.
pub(crate) fn pick(rows: Vec<OutboxRow>, which: &[RowRef]) -> Vec<OutboxRow> {
    rows.into_iter()
        .filter(|row| which.contains(&row.row))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    proptest! {
        /// Whichever are the culprits, they and nobody else are convicted, and the rest leaves.
        #[test]
        fn the_culprits_are_found_and_nobody_else(
            count in 1..200_i64,
            culprits in prop::collection::btree_set(0..200_i64, 0..4),
        ) {
            let suspects = Suspects::default();
            suspects.add((0..count).map(row).collect());
            let (mut convicted, mut sent, mut sessions) = (Vec::new(), 0, 0);
            while let Some(group) = suspects.next() {
                if group.rows.iter().any(|row| culprits.contains(&row.row.id)) {
                    sessions += 1;
                    convicted.extend(suspects.blame(group).map(|row| row.row.id));
                } else {
                    sent += group.rows.len();
                }
            }
            convicted.sort_unstable();
            let expected: Vec<i64> =
                culprits.iter().copied().filter(|id| *id < count).collect();
            prop_assert_eq!(sent + expected.len(), usize::try_from(count).expect("small"));
            // By halves: eight for 200, and three alone.
            prop_assert!(sessions <= expected.len() * 11);
            prop_assert_eq!(convicted, expected);
        }
    }
}

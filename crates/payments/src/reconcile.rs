//! Looking all the time whether this service's own database is as the guarantee says: each balance
//! is the sum of its ledger (S1), nothing fell below zero (S2), no order is debited twice (S3).
//! Constraints hold all of this; what is found here was done to the database and not through it.
//!
//! What is new is looked at first. Beside it a slow pass goes over all accounts, and another over
//! the whole ledger, a stretch per round. A round reads a bounded number of rows and rests for
//! much longer than it took, so that it takes the same little time from a large database as from a
//! small one. Nothing is locked or written.

mod account;
mod findings;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

use chassis::database::bounded;
use chassis::metrics::Gauges;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use account::{Judged, Position, judge};

pub(crate) use account::Rule;
pub(crate) use findings::Findings;

/// Most new entries in a round, and most in a round of the slow pass over the ledger.
const ENTRIES: i64 = 2000;
/// Most accounts in a round of the slow pass over them.
const ACCOUNTS: i64 = 500;
/// Most entries of each of these. An account with more is gone on with by itself.
const SHORT: i64 = 200;
/// Most such accounts in a round, and entries of each.
const LONG_ACCOUNTS: usize = 10;
const LONG: i64 = 20_000;
/// Most such accounts that wait. While there are so many, the slow pass waits too.
const UNFINISHED_MAX: usize = 1000;
/// Most accounts whose sum is remembered, so that only what is new needs to be added.
const REMEMBERED_MAX: usize = 10_000;
/// At least so long between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// And so many times longer than the last one took.
const REST: u32 = 19;
/// But no longer than this.
const REST_MAX: Duration = Duration::from_secs(30);
/// After a round that has failed: readiness is to tell soon that the database is back.
const AGAIN: Duration = Duration::from_secs(3);
/// Entries are given their numbers before they are committed, so that many before the newest one
/// are looked at once more.
const OVERLAP: i64 = 500;

/// Looks until `shutdown`, on a pool of its own.
pub(crate) async fn run(
    pool: &PgPool,
    findings: &Findings,
    breaches: &Gauges,
    shutdown: &CancellationToken,
) {
    let mut walk = Walk::default();
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let round = walk.round(pool, findings);
        let Some(round) = shutdown.run_until_cancelled(round).await else {
            return;
        };
        let pause = match round {
            Ok(()) => (began.elapsed() * REST).clamp(PAUSE, REST_MAX),
            Err(error) => {
                walk.start_over();
                if findings.failed(error.to_string()) {
                    tracing::warn!("cannot look at the accounts: {error}");
                }
                AGAIN
            }
        };
        for rule in Rule::ALL {
            let count = i64::try_from(findings.count(rule)).unwrap_or(i64::MAX);
            breaches.set(rule.as_str(), count);
        }
        let over = tokio::time::timeout(pause, shutdown.cancelled()).await;
        if over.is_ok() {
            return;
        }
    }
}

/// How far the passes are.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// What was new up to this entry has been looked at.
    newest: Option<i64>,
    /// Where the pass over all accounts is, and how often it came to the end.
    user: Option<i64>,
    passes: u64,
    /// Where the pass over the whole ledger is.
    entry: Option<i64>,
    /// Accounts with more entries than one look takes, and whose turn was the last.
    unfinished: BTreeMap<i64, Position>,
    turn: i64,
    /// What walks over the whole of such accounts have found.
    remembered: HashMap<i64, Position>,
}

impl Walk {
    /// One round of everything.
    ///
    /// # Errors
    /// The database does not answer; what was not looked at is looked at in the next round.
    pub(crate) async fn round(
        &mut self,
        pool: &PgPool,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        let mut connection = bounded(pool.acquire()).await?;
        // Each round plans anew: a plan made while the tables were empty would read all of them.
        bounded(connection.clear_cached_statements()).await?;
        let new = self.look_at_new(&mut connection, findings).await;
        let new = unless_gone(new)?;
        let accounts = self.look_at_some_accounts(&mut connection, findings).await;
        let accounts = unless_gone(accounts)?;
        let entries = self.look_at_some_entries(&mut connection, findings).await;
        let entries = unless_gone(entries)?;
        let again = self.look_again(&mut connection, findings).await;
        let again = unless_gone(again)?;
        let rest = self.go_on(&mut connection, findings).await;
        new.and(accounts).and(entries).and(again).and(rest)?;
        findings.looked(self.passes);
        Ok(())
    }

    /// What was summed up in parts may rest on entries that a database lost in between.
    fn start_over(&mut self) {
        for position in self.unfinished.values_mut() {
            *position = Position::first();
        }
    }

    /// Entries since the last round, and the accounts they belong to.
    async fn look_at_new(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        // The newest may be older than the last time, after a fail-over.
        let newest = bounded(store::newest_entry(connection)).await?;
        let after = self.newest.map_or(newest, |entry| entry.min(newest)) - OVERLAP;
        let new = bounded(store::stretch(connection, after, ENTRIES)).await?;
        if let Some(last) = new.last {
            let twice = bounded(store::debited_twice(connection, after, last)).await?;
            findings.debited_twice(twice);
            let from = |user: &i64| self.remembered.get(user).cloned();
            let accounts = new
                .users
                .iter()
                .filter(|user| !self.unfinished.contains_key(user))
                .map(|user| (*user, from(user).unwrap_or_else(Position::first)))
                .collect();
            self.look(connection, findings, accounts, SHORT).await?;
        }
        // What cannot be kept up with is left to the slow passes.
        let is_behind = new.entries >= ENTRIES;
        self.newest = Some(if is_behind {
            newest
        } else {
            new.last.unwrap_or(newest)
        });
        Ok(())
    }

    /// The next accounts of the slow pass, each from its first entry on.
    async fn look_at_some_accounts(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        if self.unfinished.len() >= UNFINISHED_MAX {
            return Ok(());
        }
        let after = self.user.unwrap_or(i64::MIN);
        let users = bounded(store::users_after(connection, after, ACCOUNTS)).await?;
        let last = users.last().copied();
        let accounts = users
            .into_iter()
            .filter(|user| !self.unfinished.contains_key(user))
            .map(|user| (user, Position::first()))
            .collect();
        self.look(connection, findings, accounts, SHORT).await?;
        self.user = last;
        if last.is_none() {
            self.passes += 1;
        }
        Ok(())
    }

    /// The next stretch of the slow pass over the ledger.
    async fn look_at_some_entries(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        let after = self.entry.unwrap_or(i64::MIN);
        let some = bounded(store::stretch(connection, after, ENTRIES)).await?;
        if let Some(last) = some.last {
            let twice = bounded(store::debited_twice(connection, after, last)).await?;
            findings.debited_twice(twice);
        }
        self.entry = some.last;
        Ok(())
    }

    /// What is in breach, until it is not.
    async fn look_again(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        let (users, orders) = findings.broken();
        for user in users {
            self.unfinished.entry(user).or_insert_with(Position::first);
        }
        if !orders.is_empty() {
            let still = bounded(store::still_debited_twice(connection, &orders)).await?;
            findings.still_debited_twice(&still);
        }
        Ok(())
    }

    /// Goes on with accounts that have many entries.
    async fn go_on(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
    ) -> Result<(), sqlx::Error> {
        let behind = (Bound::Excluded(self.turn), Bound::Unbounded);
        let in_turn = self.unfinished.range(behind);
        let in_turn = in_turn.chain(self.unfinished.range(..=self.turn));
        let accounts: Vec<_> = in_turn
            .take(LONG_ACCOUNTS)
            .map(|(user, from)| (*user, from.clone()))
            .collect();
        self.turn = accounts.last().map_or(self.turn, |(user, _)| *user);
        self.look(connection, findings, accounts, LONG).await
    }

    /// Looks at these accounts and keeps what follows.
    async fn look(
        &mut self,
        connection: &mut PgConnection,
        findings: &Findings,
        accounts: Vec<(i64, Position)>,
        most: i64,
    ) -> Result<(), sqlx::Error> {
        if accounts.is_empty() {
            return Ok(());
        }
        let looked = bounded(store::look_at(connection, &accounts, most)).await?;
        let begun: HashMap<i64, Position> = accounts.into_iter().collect();
        for looked in looked {
            let user = looked.user_id;
            let Some(began) = begun.get(&user) else {
                continue;
            };
            match judge(began, &looked, most) {
                Judged::Unfinished(position) => self.put_aside(user, position),
                Judged::Doubtful => {
                    self.remembered.remove(&user);
                    self.put_aside(user, Position::first());
                }
                Judged::Sound(position) => {
                    let is_long = self.unfinished.remove(&user).is_some();
                    if began.from_first {
                        findings.account(user, Vec::new());
                    }
                    if is_long || self.remembered.contains_key(&user) {
                        self.remember(user, position);
                    }
                }
                Judged::Broken(faults) => {
                    self.unfinished.remove(&user);
                    self.remembered.remove(&user);
                    findings.account(user, faults);
                }
            }
        }
        Ok(())
    }

    fn put_aside(&mut self, user: i64, position: Position) {
        let is_there = self.unfinished.contains_key(&user);
        if is_there || self.unfinished.len() < UNFINISHED_MAX {
            self.unfinished.insert(user, position);
        }
    }

    fn remember(&mut self, user: i64, position: Position) {
        if self.remembered.len() >= REMEMBERED_MAX && !self.remembered.contains_key(&user) {
            self.remembered.clear();
        }
        let position = Position {
            from_first: false,
            ..position
        };
        self.remembered.insert(user, position);
    }
}

/// One part of a round that the database refuses must not keep the others from being looked at;
/// without a connection none can.
fn unless_gone(part: Result<(), sqlx::Error>) -> Result<Result<(), sqlx::Error>, sqlx::Error> {
    match part {
        Ok(()) | Err(sqlx::Error::Database(_)) => Ok(part),
        Err(gone) => Err(gone),
    }
}

#[cfg(test)]
mod tests;

//! What the reconciliation has found: for readiness, the metric and the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::account::Rule;
use super::store::Twice;

/// Most breaches of accounts, and most of orders, that are told apart.
const BREACHES_MAX: usize = 1000;
/// Without a whole round for so long nothing is known any more. A slow one with its rest takes
/// most of that.
const BLIND_AFTER: Duration = Duration::from_secs(120);

/// All breaches that are there now.
#[derive(Debug)]
pub(crate) struct Findings {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    accounts: BTreeMap<(i64, Rule), String>,
    orders: BTreeMap<Uuid, String>,
    looked_at: Instant,
    trouble: String,
    rounds: u64,
    passes: u64,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                accounts: BTreeMap::new(),
                orders: BTreeMap::new(),
                looked_at: Instant::now(),
                trouble: "not started".to_owned(),
                rounds: 0,
                passes: 0,
            }),
        }
    }
}

impl Findings {
    /// All that is wrong with an account, after a walk over the whole of it.
    pub(super) fn account(&self, user: i64, faults: Vec<(Rule, String)>) {
        let state = &mut *self.lock();
        for rule in [Rule::S1, Rule::S2] {
            let is_broken = faults.iter().any(|(broken, _)| *broken == rule);
            if !is_broken && state.accounts.remove(&(user, rule)).is_some() {
                tracing::info!(%rule, user_id = user, "reconciliation: the breach is over");
            }
        }
        for (rule, what) in faults {
            let key = (user, rule);
            if !state.accounts.contains_key(&key) {
                if state.accounts.len() >= BREACHES_MAX {
                    continue;
                }
                tracing::error!(%rule, user_id = user, "reconciliation: {what}");
            }
            state.accounts.insert(key, what);
        }
    }

    /// Orders that are debited more often than once.
    pub(super) fn debited_twice(&self, orders: Vec<Twice>) {
        let state = &mut *self.lock();
        for Twice {
            order_uid,
            order_id,
            debits,
        } in orders
        {
            if state.orders.contains_key(&order_uid) || state.orders.len() >= BREACHES_MAX {
                continue;
            }
            let order = order_id.map_or_else(
                || format!("order_uid {order_uid}"),
                |order_id| format!("order {order_id} ({order_uid})"),
            );
            let what = format!("{order}: debited {debits} times");
            tracing::error!(rule = %Rule::S3, %order_uid, "reconciliation: {what}");
            state.orders.insert(order_uid, what);
        }
    }

    /// Of the orders in breach only these still are.
    pub(super) fn still_debited_twice(&self, still: &[Uuid]) {
        self.lock().orders.retain(|order_uid, _| {
            let is_broken = still.contains(order_uid);
            if !is_broken {
                tracing::info!(rule = %Rule::S3, %order_uid, "reconciliation: the breach is over");
            }
            is_broken
        });
    }

    /// Users and orders to be looked at again.
    pub(super) fn broken(&self) -> (Vec<i64>, Vec<Uuid>) {
        let state = self.lock();
        let mut users: Vec<i64> = state.accounts.keys().map(|(user, _)| *user).collect();
        users.dedup();
        (users, state.orders.keys().copied().collect())
    }

    /// A round is over, and maybe the pass over all accounts with it.
    pub(super) fn looked(&self, passes: u64) {
        let mut state = self.lock();
        state.looked_at = Instant::now();
        state.rounds += 1;
        state.trouble.clear();
        state.passes = passes;
    }

    /// A round could not be made; true if that is news.
    pub(super) fn failed(&self, why: String) -> bool {
        let mut state = self.lock();
        let is_news = state.trouble != why;
        state.trouble = why;
        is_news
    }

    #[cfg(test)]
    pub(super) fn looked_long_ago(&self) {
        let mut state = self.lock();
        state.looked_at -= BLIND_AFTER;
    }

    /// How many breaches of a rule there are.
    pub(crate) fn count(&self, rule: Rule) -> usize {
        let state = self.lock();
        match rule {
            Rule::S1 | Rule::S2 => state.accounts.keys().filter(|key| key.1 == rule).count(),
            Rule::S3 => state.orders.len(),
        }
    }

    /// For readiness: red over a breach, and when nothing was looked at for two minutes.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<String, String> {
        let state = self.lock();
        let accounts = state.accounts.iter().map(|((_, rule), what)| (*rule, what));
        let orders = state.orders.values().map(|what| (Rule::S3, what));
        let mut breaches = accounts.chain(orders);
        if let Some((rule, what)) = breaches.next() {
            let more = match breaches.count() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            return Err(format!("{rule}: {what}{more}"));
        }
        let blind = state.looked_at.elapsed();
        if blind >= BLIND_AFTER {
            let (seconds, why) = (blind.as_secs(), &state.trouble);
            return Err(format!("nothing was looked at for {seconds} s: {why}"));
        }
        let (rounds, passes) = (state.rounds, state.passes);
        Ok(format!(
            "no breach in {rounds} rounds and {passes} passes over all accounts"
        ))
    }

    /// A holder that panicked leaves plain values whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

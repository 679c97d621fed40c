//! All rules by name: what a report calls them, and what those that SQL cannot decide would need.

use crate::verdict::At;

/// A rule of the guarantee.
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What is needed to look at it, where the databases alone do not show it.
    pub(super) needs: &'static str,
}

const REST: &str = "needs a system at rest";
const HISTORY: &str = "needs a history of requests and answers";
const FAULT_TIMES: &str = "needs the times of faults and of progress";

const fn rule(id: &'static str, needs: &'static str, title: &'static str) -> Rule {
    Rule { id, title, needs }
}

/// In the order of a report. `rest` is no rule but the state that the others assume.
pub(super) const RULES: [Rule; 25] = [
    rule("rest", REST, "every order is final, every outbox is sent"),
    rule(
        "S1",
        REST,
        "each balance is the sum of its ledger, and deposits less FINISHED orders",
    ),
    rule("S2", REST, "no balance is or was below zero"),
    rule("S3", REST, "an order is debited at most once"),
    rule(
        "S4",
        REST,
        "a FINISHED order is debited: once, its amount, its user",
    ),
    rule("S5", REST, "a CANCELLED order is never debited"),
    rule(
        "S6",
        REST,
        "a debit has its order, of the same user and amount",
    ),
    rule("S7", HISTORY, "a final status never changes"),
    rule(
        "S8",
        HISTORY,
        "no acknowledged order is lost, nor one that anything names",
    ),
    rule(
        "S9",
        HISTORY,
        "no order stands twice, and each was asked for by a client",
    ),
    rule(
        "S10",
        HISTORY,
        "one key creates at most one order or credit",
    ),
    rule(
        "S11",
        HISTORY,
        "an acknowledged deposit is applied exactly once",
    ),
    rule("S12", HISTORY, "no unjust CANCELLED"),
    rule("S13", HISTORY, "no unjust FINISHED"),
    rule(
        "S14",
        HISTORY,
        "what was acknowledged is seen by every later read",
    ),
    rule("S15", HISTORY, "a user has one account"),
    rule("S16", HISTORY, "no user sees or changes what is another's"),
    rule("S17", HISTORY, "the facts of an order never change"),
    rule(
        "S18",
        REST,
        "every amount has two decimals and is within its bounds",
    ),
    rule("L1", FAULT_TIMES, "every accepted order leaves NEW"),
    rule("L2", FAULT_TIMES, "the outbox drains"),
    rule("L3", FAULT_TIMES, "services reconnect by themselves"),
    rule(
        "L4",
        FAULT_TIMES,
        "a poison message does not delay good ones",
    ),
    rule(
        "L5",
        FAULT_TIMES,
        "a hot account does not stall other users",
    ),
    rule("L6", FAULT_TIMES, "readiness tells the truth in time"),
];

impl Rule {
    /// Promises no more than what is looked at in this state and with this knowledge.
    pub(super) fn title(&self, at: At, with_history: bool) -> &'static str {
        match (self.id, at, with_history) {
            ("S1", At::Live, _) => "each balance is the sum of its ledger",
            ("S8", _, false) => {
                "an order that messages, decisions or debits name exists (one lost without a \
                 trace shows only with a client's history)"
            }
            ("S9", _, false) => {
                "no order stands twice (that each was asked for shows only with a client's history)"
            }
            _ => self.title,
        }
    }
}

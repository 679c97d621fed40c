//! Faults of PostgreSQL.

use super::{Fault, not_here, scenarios, tests};

pub(super) const FAULTS: &[Fault] = &[
    scenarios(
        "D1",
        "Restarted in good order",
        "503 meanwhile; consumers wait in place",
    ),
    scenarios(
        "D2",
        "Killed and started again",
        "What was committed stays, the rest is rolled back",
    ),
    scenarios(
        "D3",
        "One session is ended by an operator",
        "The connection is dropped, the work done again",
    ),
    scenarios(
        "D4",
        "The answer to a commit is lost",
        "Unknown: looked up, or told as unknown (a repetition under a key comes with Idempotency-Key)",
    ),
    scenarios(
        "D5",
        "A fail-over loses commits (their rows are taken away; no standby server is part of the tests)",
        "Outside of what can be kept; `paidonce verify --watch` names the orders within a minute",
    ),
    scenarios(
        "D6",
        "The pool is used up",
        "503 with Retry-After; relay and consumer have their own",
    ),
    scenarios(
        "D7",
        "Deadlock",
        "Locks are taken in one order; what the server ends is tried again",
    ),
    scenarios(
        "D8",
        "Every transaction is serializable",
        "What cannot be serialized is tried again",
    ),
    scenarios(
        "D9",
        "An account is locked by somebody else",
        "Its orders are set aside and wait; nobody else does",
    ),
    scenarios(
        "D10",
        "A session idle in its transaction is ended",
        "The connection is dropped, not used again",
    ),
    scenarios(
        "D11",
        "The disk is full",
        "503, no partial effect, well by itself afterwards",
    ),
    scenarios(
        "D12",
        "Too many connections",
        "Red, tried again, well by itself afterwards",
    ),
    scenarios(
        "D13",
        "Read-only for a while",
        "Reads go on, writes get 503, no message is lost",
    ),
    scenarios(
        "D14",
        "Frozen, or a connection into nothing",
        "Every wait for it has an end",
    ),
    not_here(
        "D15",
        "A notification is lost",
        "Nothing depends on one",
        "there is no NOTIFY in the design: the hand-over is in the process, the poll is the floor",
    ),
    tests(
        "D16",
        "Several processes migrate at once; behind a long query; the schema is of a version to come",
        "One does, the others wait; nobody waits behind the migration for long; the old version works on",
        "`crates/chassis/src/database/server_tests.rs`",
    ),
    scenarios(
        "D17",
        "A table changes under prepared statements",
        "Tried again with a new plan",
    ),
    not_here(
        "D18",
        "A pooler hands out another session for each transaction",
        "Not supported",
        "no pooler is part of the tests",
    ),
    tests(
        "D19",
        "An old snapshot keeps dead rows",
        "Nothing waits for it; whole days and weeks of rows are dropped, for which no vacuum is needed",
        "`crates/postbox/tests/post_office/partitions.rs`",
    ),
    scenarios(
        "D20",
        "NaN, written by SQL (a fraction of a cent never comes that far: no amount with one is read)",
        "Refused by constraints",
    ),
    scenarios(
        "D21",
        "A balance beyond its limit",
        "409 `balance_limit`, no effect",
    ),
    not_here(
        "D22",
        "Money is read from a replica",
        "Every read goes to the primary",
        "there is no replica",
    ),
    scenarios(
        "D23",
        "A restored sequence hands out an old number",
        "Paid is what has the same UUID; a number is for people",
    ),
    tests(
        "D24",
        "Balance, ledger or constraints are changed behind the service's back",
        "Payments compares them all the time; its readiness and its metric name account or order",
        "`crates/payments/src/reconcile/tests.rs`",
    ),
];

//! Faults on an order's way, from the request to the final status.

use super::{Fault, by_type, scenarios, tests};

pub(super) const FAULTS: &[Fault] = &[
    scenarios(
        "A1",
        "Orders dies before order and message are committed",
        "Neither is stored; the client got no answer (a repetition under a key comes with Idempotency-Key)",
    ),
    scenarios(
        "A2",
        "Orders dies after the commit, before the 201",
        "The order is paid; the client may find it in the list (a repetition under a key comes with Idempotency-Key)",
    ),
    tests(
        "A3",
        "A client hangs up while a transaction begins",
        "Nobody else's write is lost: the pool's guard closes the connection",
        "`crates/chassis/src/database/server_tests.rs`. In the whole system no client can: no answer waits for a \
         transaction that begins, each write is one statement in a task of its own (A4)",
    ),
    tests(
        "A4",
        "A client hangs up between begin and commit",
        "The write runs to its end in a task of its own, and is one statement",
        "`crates/chassis/src/tasks.rs`",
    ),
    scenarios(
        "A5",
        "The relay dies with rows claimed",
        "They fall due, and any relay sends them",
    ),
    scenarios(
        "A6",
        "The relay dies after the publish, before the confirm",
        "Sent again; the inbox absorbs the copy",
    ),
    scenarios(
        "A7",
        "The relay dies after the confirm, before the mark",
        "Sent again; the inbox absorbs the copy",
    ),
    by_type(
        "A8",
        "A row is marked before its confirm",
        "Does not compile: marking takes a `Confirmed`, which only a confirm makes",
    ),
    scenarios(
        "A9",
        "The connection is lost with confirms open",
        "All that is open counts as unknown and is sent again",
    ),
    scenarios(
        "A10",
        "A message cannot be routed",
        "It stays unsent, with a pause of its own, until it can",
    ),
    tests(
        "A11",
        "A return is handed out with another message's confirm",
        "Returns are matched by `message_id`",
        "`crates/postbox/tests/post_office/scripted.rs`",
    ),
    scenarios(
        "A12",
        "A confirmed message vanishes in the broker",
        "The order is asked for again until its result is there",
    ),
    scenarios(
        "A13",
        "Payments dies with a message delivered",
        "Rolled back, delivered again",
    ),
    scenarios(
        "A14",
        "Payments dies between inbox row and commit",
        "Rolled back, delivered again",
    ),
    scenarios(
        "A15",
        "Payments dies after the commit, before the acknowledgement",
        "Delivered again, known, answered again",
    ),
    by_type(
        "A16",
        "A delivery is acknowledged before the commit",
        "Does not compile: acknowledging takes a `Committed`, which only a commit makes",
    ),
    scenarios(
        "A17",
        "The connection is lost during a commit",
        "The outcome is unknown: not acknowledged, delivered again, and the tables decide",
    ),
    scenarios(
        "A18",
        "The result is lost after the money was taken",
        "The repeated request is answered from the stored decision",
    ),
    scenarios(
        "A19",
        "Orders dies between status and acknowledgement",
        "Delivered again; the final status is not touched twice",
    ),
    scenarios(
        "A20",
        "A result contradicts a final status",
        "The status stands; the message is parked",
    ),
    scenarios(
        "A21",
        "Two relays work on one outbox",
        "Rows are leased; a second send is harmless",
    ),
    scenarios(
        "A22",
        "One message is with two consumers at once",
        "The second waits for the first, then sees a duplicate",
    ),
    scenarios(
        "A23",
        "Many orders of one user at once",
        "As many are finished as the balance pays for",
    ),
    scenarios(
        "A24",
        "Deposit and charge at once",
        "One row lock orders them; nothing is lost",
    ),
    scenarios(
        "A25",
        "A message comes again after its inbox row was cleaned away",
        "The decision is kept for ever, and answers",
    ),
    scenarios(
        "A26",
        "The same order is asked for under a new id",
        "The first decision stands",
    ),
    scenarios(
        "A27",
        "The result is in before the 201 is out",
        "The 201 says NEW all the same; a read may say FINISHED",
    ),
    scenarios(
        "A28",
        "An account is opened after its order was declined",
        "The order stays cancelled",
    ),
];

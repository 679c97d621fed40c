//! Faults of processes, time and network, and those found by trying the design out.

use super::{Fault, scenarios, tests};

pub(super) const FAULTS: &[Fault] = &[
    scenarios(
        "E1",
        "Asked to stop under load",
        "Finishes what is under way and ends with 0 within 10 s",
    ),
    tests(
        "E2",
        "Ended by the system, or a task panics",
        "The task is started again; the third time within a minute ends the service",
        "`crates/chassis/src/tasks.rs`",
    ),
    scenarios(
        "E3",
        "Clocks that jump or stand still: of a service; jumps of the database's, as its leases show them",
        "Leases go by the database's clock; one absurdly far ahead counts as due",
    ),
    scenarios(
        "E4",
        "Old and new version side by side",
        "Each takes in the other's messages; what is too new is set aside, and replayed after the upgrade",
    ),
    scenarios(
        "E5",
        "No way between service and broker or database",
        "Every wait has an end; well by itself afterwards",
    ),
    scenarios(
        "E6",
        "A connection that swallows one direction",
        "Noticed by heartbeat and deadline",
    ),
    scenarios(
        "E7",
        "A slow line in small pieces, with resets in between",
        "Slower, still correct",
    ),
    tests(
        "E8",
        "The service behind the gateway is down or slow",
        "502 or 504 within 10 s",
        "`crates/gateway/src/tests/faults.rs`",
    ),
    tests(
        "E9",
        "A gateway that repeats a write",
        "It never does (a client's own repetition comes with Idempotency-Key, which is not there yet)",
        "`crates/gateway/src/tests/faults.rs`",
    ),
    tests(
        "E10",
        "A kept connection is closed just now",
        "A read is asked once more, a write is not",
        "`crates/gateway/src/tests/faults.rs`",
    ),
    tests(
        "E11",
        "The service behind dies within its answer",
        "The connection breaks; never a short 200",
        "`crates/gateway/src/tests/faults.rs`",
    ),
    tests(
        "E12",
        "Senders that send nothing",
        "Cut off; others are not kept waiting",
        "`crates/chassis/src/serve/tests.rs`",
    ),
    scenarios(
        "E13",
        "No file descriptors left",
        "The listener survives it",
    ),
    scenarios(
        "E14",
        "The gateway is killed",
        "What was under way is unknown to the client, and consistent (telling by a repetition comes with Idempotency-Key)",
    ),
    tests(
        "E15",
        "A container comes back under another address",
        "Names are asked again for each connection",
        "`deploy/compose-check.sh`",
    ),
    scenarios(
        "F1",
        "The commit of many accepted orders is applied, its answer lost",
        "The orders are looked up; each client hears what is true",
    ),
    tests(
        "F2",
        "A row that makes the broker close the connection",
        "Found by halving and parked; the others leave",
        "`crates/postbox/tests/post_office/scripted.rs`",
    ),
    tests(
        "F3",
        "A message that kills the process, in a batch of 200",
        "Handled alone, parked after three deaths; the others are finished",
        "`crates/postbox/tests/post_office/alone.rs`",
    ),
    scenarios(
        "F4",
        "Payments is away for several re-drives under load",
        "The queue drains: no more than the window is asked for again",
    ),
    scenarios(
        "F5",
        "One order twice in one batch",
        "One charge, two answers",
    ),
    tests(
        "F6",
        "A confirm for a part, then silence",
        "The part is marked, the rest goes again in smaller rounds",
        "`crates/postbox/tests/post_office/scripted.rs`",
    ),
    scenarios(
        "F7",
        "Nothing can be routed",
        "Each row has a pause of its own; new ones are not held up",
    ),
    scenarios(
        "F8",
        "A service frozen beyond its lease, then thawed",
        "Its late sends are copies, nothing else",
    ),
    scenarios(
        "F9",
        "A host is gone without a word, and its sessions are left",
        "The server notices in bounded time and ends them, with the locks that they hold",
    ),
    scenarios("F10", "A parked result comes again", "Judged anew"),
    scenarios(
        "F11",
        "Two operators replay one parked message",
        "It is sent once",
    ),
    scenarios(
        "F12",
        "A password is changed",
        "Red, tried again, well when it fits again",
    ),
    tests(
        "F13",
        "A broker that takes connections and says nothing",
        "Given up after a deadline; the next address is tried",
        "`crates/postbox/tests/post_office/scripted.rs`",
    ),
    tests(
        "F14",
        "A message of a version to come",
        "Parked as such, and replayable by a reader that knows it",
        "`crates/postbox/tests/post_office/parked.rs`",
    ),
    scenarios(
        "F15",
        "The same messages with two consumers, in opposite order",
        "No deadlock: rows are inserted sorted",
    ),
];

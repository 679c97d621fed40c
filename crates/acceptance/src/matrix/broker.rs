//! Faults of the broker.

use super::{Fault, not_here, scenarios, tests};

pub(super) const FAULTS: &[Fault] = &[
    scenarios(
        "B1",
        "Restarted in good order",
        "Services come back by themselves; nothing is lost",
    ),
    scenarios(
        "B2",
        "Killed and started again",
        "Unknown confirms are sent again; copies are absorbed",
    ),
    tests(
        "B3",
        "Killed right after a queue was declared: the queue swallows everything",
        "Readiness says which queue to delete, or it is replaced where `RABBITMQ__HEAL_WEDGED` is on; orders are asked for again",
        "`crates/postbox/tests/post_office/wedged.rs`",
    ),
    scenarios("B4", "Frozen", "The heartbeat cuts it; nothing is lost"),
    scenarios(
        "B5",
        "Memory or disk alarm",
        "Orders are accepted, the relay pauses, readiness is red, consumers go on; drained afterwards",
    ),
    scenarios("B6", "An operator closes the connections", "Opened again"),
    scenarios(
        "B7",
        "The server closes a channel",
        "The session is built anew",
    ),
    scenarios(
        "B8",
        "A queue is deleted under its consumer",
        "Declared anew; orders are asked for again",
    ),
    scenarios(
        "B9",
        "Deliveries held longer than the broker's patience",
        "The channel is built anew and counts on",
    ),
    scenarios(
        "B10",
        "A policy lets a full queue drop its oldest",
        "What was dropped is asked for again",
    ),
    scenarios(
        "B11",
        "A message is delivered up to the delivery limit",
        "Nothing goes back to the queue as a way of trying again; what the broker gives up is parked",
    ),
    not_here(
        "B12",
        "RabbitMQ 4.3 counts rejections otherwise",
        "Attempts are counted in our own table",
        "4.3 could not be had; 3.10 and 4.0 are tried",
    ),
    scenarios(
        "B13",
        "The dead-letter queue is full or missing",
        "Dead-lettering is at-least-once: nothing is lost",
    ),
    scenarios(
        "B14",
        "A queue exists with other arguments",
        "Readiness names it and the mend; it is never deleted",
    ),
    scenarios(
        "B15",
        "Permissions are taken away, or a stranger has a queue of ours for itself (an exclusive consumer is not refused by RabbitMQ 3.10 on a quorum queue, so it cannot be tried)",
        "Red, tried again, and well by itself afterwards",
    ),
    scenarios(
        "B16",
        "The broker comes back empty",
        "Declared anew; orders are asked for again",
    ),
    scenarios(
        "B17",
        "Three nodes: the leader killed, cut off or paused, all restarted in turn; a queue that is on one node only",
        "Confirms wait, then go on; services move to the next address; readiness names the queue",
    ),
    scenarios(
        "B18",
        "Absent at the start",
        "Waited for, for ever; requests are served meanwhile",
    ),
];

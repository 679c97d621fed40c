//! Messages that cannot be meant.

use super::{Fault, scenarios, tests};

const PARKED: &str = "Parked at first sight with its reason; its neighbours go on";

pub(super) const FAULTS: &[Fault] = &[
    scenarios("C1", "Empty", PARKED),
    scenarios("C2", "Broken JSON", PARKED),
    scenarios("C3", "Not UTF-8", PARKED),
    scenarios("C4", "Of an unknown type", PARKED),
    scenarios(
        "C5",
        "Of a newer major version",
        "Parked, and replayable after the upgrade",
    ),
    scenarios("C6", "With fields nobody knows", "Processed"),
    scenarios("C7", "Without an id", "Parked: an id is never invented"),
    scenarios("C8", "With an id that is empty, long or none", PARKED),
    scenarios(
        "C9",
        "A known id with another content",
        "The first effect stands; parked as a conflict",
    ),
    scenarios(
        "C10",
        "An amount that is none: NaN, negative, nothing, a thousandth, 1e400, a bare number",
        PARKED,
    ),
    scenarios(
        "C11",
        "An unknown user; a user id out of range",
        "Cancelled; parked",
    ),
    scenarios("C12", "A result for an order that nobody placed", PARKED),
    tests(
        "C13",
        "Large bodies",
        "Bounded by the broker and again by the consumer; parked",
        "`crates/postbox/src/delivery.rs`",
    ),
    scenarios(
        "C14",
        "Nested a hundred thousand deep; thousands of headers; forged counts",
        PARKED,
    ),
    scenarios("C15", "Compressed", PARKED),
    scenarios(
        "C16",
        "A result that is well-formed and that Payments never sent",
        "Believed: whoever may send it is trusted. `paidonce verify --watch` names the order within a minute",
    ),
];

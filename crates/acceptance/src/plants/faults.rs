//! The planted faults, in the order of a message's way.

use super::Plant;
use crate::process::Service;

/// All of them.
pub(crate) const PLANTS: &[Plant] = &[
    // Orders accepts
    plant(
        "the_event_apart_from_the_order",
        "Orders dies at orders.stored",
        OPEN,
    ),
    plant(
        "answered_by_position",
        "Customers with and without money order side by side",
        "│ S8   ┆ ✗",
    ),
    plant(
        "stored_again_after_an_unknown_commit",
        "Orders are stored, and the database's answer is lost",
        " are finished and 0 cancelled",
    ),
    // the relay
    plant(
        "what_is_due_is_not_polled",
        "Orders dies at relay.taken",
        OPEN,
    ),
    plant(
        "leases_are_not_minded",
        "What one Orders has in its hands, the other leaves alone",
        "requests were delivered twice",
    ),
    plant("confirms_off", SWALLOWED, OPEN),
    plant("marked_before_the_confirm", SWALLOWED, OPEN),
    plant("silence_is_a_confirm", SWALLOWED, OPEN),
    plant(
        "a_refusal_is_a_confirm",
        "The queue of requests is full",
        OPEN,
    ),
    plant(
        "mandatory_off",
        "A request finds no queue",
        "order 1 is NEW",
    ),
    plant(
        "returned_by_position",
        "Messages that find no queue leave among others that do",
        "those without a queue are kept: not within",
    ),
    plant(
        "an_id_made_when_it_is_sent",
        "Orders dies at relay.confirmed, and does again what it cannot know to be done",
        "under two ids",
    ),
    // the consumer
    plant(
        "one_connection_for_both",
        "The broker runs out of memory, and what it holds is worked off all the same",
        "the queue is empty: not within",
    ),
    plant(
        "acknowledged_before_the_commit",
        "Payments dies at consumer.begun",
        OPEN,
    ),
    plant(
        "acknowledged_after_an_unknown_commit",
        "A commit of Payments does not arrive",
        OPEN,
    ),
    plant(
        "the_end_of_the_stream_is_nothing",
        "A queue is deleted while nobody has anything in it",
        "order 1 is NEW",
    ),
    plant(
        "a_server_s_fault_is_an_attempt",
        "All accounts are locked by somebody else",
        OPEN,
    ),
    plant(
        "a_failure_goes_back_to_the_queue",
        "The databases can only be read for two minutes",
        "requests were delivered again",
    ),
    plant(
        "poison_goes_back_once",
        "Payments is sent a message that is cut short",
        "messages were delivered again",
    ),
    plant(
        "attempts_of_the_whole_batch",
        "Payments dies three times over the same requests, none of which is to blame",
        "payments has parked [Parked",
    ),
    plant(
        "dead_letters_at_most_once",
        "The broker gives a request up while there is no queue for dead ones",
        "the message is listed: not within",
    ),
    // the inbox
    plant(
        "the_inbox_apart_from_the_effect",
        "Payments dies at consumer.marked",
        OPEN,
    ),
    plant(
        "parking_is_processing",
        "A result for an order that is not there comes again when it is",
        "order 1 is NEW",
    ),
    plant(
        "duplicates_are_not_answered",
        "The results are stolen after the money was taken",
        "order 1 is NEW",
    ),
    plant(
        "inserts_in_no_order",
        "Two Payments processes take the same requests in, one of which is held up in the middle",
        "deadlock",
    ),
    // Payments decides
    hidden(
        "no_decision_is_remembered",
        &[ONE_DECISION, ONE_CHARGE],
        "A payment is asked for again after it was made",
        "the balance is 40.00 and must be 70.00",
    ),
    // Whoever finds an account held sets the request aside, and looks the decision up later: that hides it as well,
    // so with this fault an account is waited for.
    hidden(
        "looked_up_before_the_lock",
        &[ONE_DECISION, ONE_CHARGE],
        "Two Payments processes take a request and its copy in at once",
        "the balance is 40.00 and must be 70.00",
    ),
    plant(
        "a_decline_is_not_stored",
        "A declined order stays declined when money comes in",
        "the balance is 80.00 and must be 110.00",
    ),
    plant(
        "an_order_s_number_is_its_identity",
        "A new order with the number of an old one is paid for itself",
        "\"status\":\"NEW\"}",
    ),
    plant(
        "balances_read_and_written_back",
        "A customer orders and pays in at the same time, and the database is far away",
        "and must be 40.00",
    ),
    plant(
        "locks_in_no_order",
        "Orders come in the opposite order of the accounts, one of which somebody has locked",
        "deadlock",
    ),
    plant(
        "a_held_account_is_waited_for",
        "Ana's account is locked by somebody else",
        OPEN,
    ),
    // Orders settles, and asks again
    plant(
        "settled_in_no_order",
        "Results come in the opposite order of the orders, one of which somebody has locked",
        "deadlock",
    ),
    hidden(
        "a_final_status_is_overwritten",
        &[(
            Service::Orders,
            "drop trigger if exists orders_final_status_stays on orders",
        )],
        "A late result says the opposite",
        "is CANCELLED and must be FINISHED",
    ),
    plant("nothing_is_asked_again", LOST, OPEN),
    plant("asked_again_under_a_new_id", LOST, "under two ids"),
    plant(
        "asked_again_without_a_window",
        "Payments is away for longer than Orders has patience",
        "orders were asked for again at a time",
    ),
];

/// Some orders stay NEW.
const OPEN: &str = "no order is open: not within";

const SWALLOWED: &str = "What Orders has sent is lost on its way to the broker";
const LOST: &str = "All requests are lost from the queue";

const ONE_DECISION: (Service, &str) = (
    Service::Payments,
    "alter table payments drop constraint if exists payments_pkey",
);
const ONE_CHARGE: (Service, &str) = (
    Service::Payments,
    "drop index if exists ledger_entries_one_charge",
);

const fn plant(name: &'static str, scenario: &'static str, says: &'static str) -> Plant {
    hidden(name, &[], scenario, says)
}

const fn hidden(
    name: &'static str,
    hidden_by: &'static [(Service, &'static str)],
    scenario: &'static str,
    says: &'static str,
) -> Plant {
    Plant {
        name,
        hidden_by,
        scenario,
        says,
    }
}

//! Names of the exchange and the queues, and which message goes where. How they are declared
//! (quorum, limits, dead letters) is the post office's matter.

use crate::{PaymentRequested, PaymentSettled};

/// Topic exchange that both services publish to.
pub const EXCHANGE: &str = "paidonce";
/// Topic exchange that receives what a queue gives up on.
pub const DEAD_EXCHANGE: &str = "paidonce.dead";

/// A queue and the one routing key it is bound by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the queue.
    pub queue: &'static str,
    /// AMQP `type` and routing key of the messages in it.
    pub kind: &'static str,
}

/// Orders → Payments.
pub const PAYMENT_REQUESTS: Route = Route {
    queue: "payments.requests",
    kind: PaymentRequested::KIND,
};

/// Payments → Orders.
pub const ORDER_RESULTS: Route = Route {
    queue: "orders.results",
    kind: PaymentSettled::KIND,
};

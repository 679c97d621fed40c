//! The wire between Orders and Payments: ids, money, the two messages, and the names of the
//! queues they travel through.
//!
//! Pure data: nothing here does input or output, and nothing here knows a database or a broker.
//! Every byte of a message body is fixed by these types and pinned by `golden/*.json`.

mod ids;
mod messages;
mod money;
pub mod topology;

pub use ids::{MessageId, OrderId, OrderUid, UserId};
pub use messages::{DeclineReason, Outcome, PaymentRequested, PaymentSettled, SCHEMA_VERSION};
pub use money::{Money, MoneyError};

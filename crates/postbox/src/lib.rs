//! The post office between a PostgreSQL service and RabbitMQ: transactional outbox, relay,
//! inbox and consumer. Messages are delivered at least once and applied exactly once.
//!
//! A service appends [`NewMessage`]s to its outbox in the transaction of its own change and
//! hands the stored rows to the [`Outbox`]; a [`Relay`] publishes them with confirms. On the
//! other side a [`Consumer`] takes batches in, and for each opens one transaction that holds
//! the inbox rows, the [`Handler`]'s effect and the answers' outbox rows; only a commit yields
//! what an acknowledgement needs.
//!
//! Two mistakes do not compile. A row cannot be marked as sent without its own confirm:
//!
//! ```compile_fail
//! # async fn f(pool: &sqlx::PgPool, row: postbox::RowRef) {
//! // error: `Confirmed` has no public constructor
//! postbox::mark_published(pool, &[postbox::Confirmed(row)]).await;
//! # }
//! ```
//!
//! and a delivery cannot be acknowledged before its transaction is committed:
//!
//! ```compile_fail
//! # async fn f(channel: &lapin::Channel, last_tag: u64) {
//! // error: `Committed` comes only out of a committed transaction
//! postbox::acknowledge(channel, postbox::Committed { last_tag }).await;
//! # }
//! ```
//!
//! Nothing here knows an order or money, and no transaction is open across the network.

mod attempts;
mod backoff;
mod board;
mod broker;
mod config;
mod consumer;
mod dead_letters;
mod deadline;
mod delivery;
mod failpoints;
mod fault;
mod hand_over;
mod inbox;
mod message;
mod office;
mod operator;
mod outbox;
mod pace;
mod parked;
mod partitions;
mod patience;
mod publisher;
mod read_back;
mod relay;
mod session;
mod status;
mod suspects;
mod topology;
mod wedge;

pub use broker::BrokerError;
pub use config::{BrokerConfig, ConsumerConfig, RelayConfig, Turns};
pub use consumer::{Consumer, acknowledge};
pub use dead_letters::DeadLetters;
pub use failpoints::{hazard, moment, planted, version_read, version_sent};
pub use fault::{is_collision, is_transient, is_transient_code};
pub use hand_over::Outbox;
pub use inbox::{Committed, HandleError, Handled, Handler, Incoming, Verdict};
pub use message::{Envelope, NewMessage, OutboxRow, RowRef};
pub use office::Office;
pub use operator::{
    ParkedError, ParkedMessage, ParkedRow, drop_parked, list_parked, replay_parked, show_parked,
};
pub use outbox::{Confirmed, LEASE, Stored, append, find_unsent, mark_published, pair};
pub use parked::{
    ParkReason, ParkedCount, Unreadable, close_parked, count_parked, find_parked_keys, park_later,
};
pub use partitions::{Retention, drop_partitions, keep_partitions, make_partitions};
pub use relay::Relay;
pub use status::TaskStatus;
pub use topology::{Route, Topology};

/// The tables of the post office; a service's own migrations begin with these bytes.
pub const MIGRATION: &str = include_str!("../migrations/0001_postbox.sql");

//! A private PostgreSQL and RabbitMQ for a demo or a test, and what can be done to them.
//!
//! The servers are child processes, containers or given ones ([`Backend`]); clients reach them through a [`Proxy`] in
//! this process, so their address stays the same when a server is killed and started again, and the network can be
//! cut. Each call that breaks something returns when it is broken, or fails.
//!
//! Nothing is left behind when this process ends, however it ends: a small shell outlives it for that (`reaper.rs`).
//!
//! Not here: any table, message, queue or service of the system.

mod backend;
mod cluster;
#[cfg(feature = "containers")]
mod containers;
mod given;
mod local;
mod management;
mod postgres;
mod proxy;
mod rabbitmq;
mod reaper;
mod sandbox;
mod server;
mod shared;
mod variables;

pub use backend::Backend;
pub use cluster::{Cluster, Members};
pub use management::QueueDepth;
pub use postgres::Postgres;
pub use proxy::{Link, Proxy};
pub use rabbitmq::{Alarm, Rabbitmq};
pub use sandbox::{Data, Options, Sandbox, Unreachable};
pub use shared::{Database, Shared, Vhost, shared};

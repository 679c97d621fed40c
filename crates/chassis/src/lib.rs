//! The shell of a process: environment, telemetry, tasks, serving, errors, extractors, health,
//! metrics.
//!
//! Everything a service needs that is not its business lives here, once. Nothing here knows an
//! order, an account or a message, and nothing here depends on another room of the house.

pub mod coalesce;
#[cfg(feature = "postgres")]
pub mod database;
pub mod door;
pub mod env;
pub mod error;
pub mod extract;
pub mod health;
pub mod http;
pub mod metrics;
pub mod ports;
pub mod serve;
pub mod tasks;
pub mod telemetry;

//! The Payments service: accounts, deposits, and the one decision on each order.
//!
//! `account` holds the rules (pure), `open_account`, `deposit`, `charge_orders`,
//! `work_off_waiting` and `close_parked` one transaction each, `reconcile` looks whether the database is as they left
//! it, `store` all SQL, `http` the API. Nothing here knows an
//! order's status.

mod account;
mod app;
mod charge_orders;
mod close_parked;
pub mod config;
mod deposit;
mod http;
mod open_account;
mod planted;
mod reconcile;
mod store;
mod work_off_waiting;

pub use app::Payments;
pub use http::openapi;

/// The migrations of this service's database, in `migrations/payments`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/payments");

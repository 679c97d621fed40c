//! The Orders service: accepts orders, asks for their payment, and settles them on the result.
//!
//! `order` holds the rules (pure), `place_order`, `settle_orders`, `redrive_orders` and
//! `close_parked` one transaction each, `store` all SQL, `http` the API. Nothing here knows accounts or balances.

mod app;
mod close_parked;
pub mod config;
mod http;
mod order;
mod place_order;
mod planted;
mod redrive_orders;
mod settle_orders;
mod store;
#[cfg(test)]
mod store_tests;

pub use app::Orders;
pub use http::openapi;

/// The migrations of this service's database, in `migrations/orders`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/orders");

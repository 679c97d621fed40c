//! The one door for clients: routes, proxy, documentation, health.
//!
//! What is not in the table of routes does not exist from outside. Nothing here knows an order or
//! an account, a database or a broker: requests are handed on, and answers come back as they are.

pub mod config;
mod docs;
mod forwarding;
mod health;
mod proxy;
mod routes;
mod server;

pub use server::Gateway;

#[cfg(test)]
mod tests;

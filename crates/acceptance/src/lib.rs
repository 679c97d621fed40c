//! The executable specification: `features/*.feature` run against real services, databases and a broker.
//!
//! Each scenario has a stack of its own ([`stack`]): two fresh databases and a fresh virtual host on servers that
//! all scenarios share, and the three services as child processes that can be stopped and killed one by one. After
//! its last step the invariants of `prover` are checked over both databases, so no scenario can forget to.
//! Scenarios that harm a shared server are tagged `@serial` and run alone.
//!
//! Not here: what the system promises (that is in the features), and how it keeps it.

mod arguments;
mod audit;
mod check;
mod eventually;
mod failed;
mod matrix;
mod parameters;
mod plants;
mod ports;
mod process;
mod run;
mod rush;
mod seed;
mod stack;
mod steps;
mod watcher;
mod ways;
mod world;

pub use arguments::is_service;
pub use process::end_with_parent;
pub use run::run;

//! Judges an implementation of the contract from the outside: through HTTP, AMQP and the audit
//! views of its two databases, and through nothing else. No crate of the services is known here,
//! so any other implementation can be judged with the same code.
//!
//! What it needs of the implementation under test:
//!
//! - the public HTTP API ([`client`]), to place load and to follow orders ([`load`]);
//! - the exchange, the two queues and their routing keys ([`amqp`], [`duplicator`]);
//! - the views `audit.*` in both databases and a login that may `set role audit_ro`
//!   ([`Databases`]).
//!
//! A judgement has three steps: do something to the system (for instance [`load::run`] while a
//! [`duplicator::Duplicator`] sends every message twice), wait until nothing is under way any more
//! ([`quiescence::until_at_rest`]), and ask [`judge`] for a [`Report`]. A rule that was not looked
//! at says so in its [`Verdict`]; it is never counted as held.
//!
//! ```no_run
//! # async fn judged() -> anyhow::Result<()> {
//! use prover::{At, Databases, client::Client, judge, load, quiescence};
//! use std::time::Duration;
//!
//! let databases = Databases::parse(
//!     "postgres://auditor@localhost/orders_db",
//!     "postgres://auditor@localhost/payments_db",
//! )?;
//! let client = Client::new("http://localhost:8000")?;
//! let load = load::run(&client, &load::Plan::default(), None, &load::Progress::default()).await?;
//! quiescence::until_at_rest(&databases, Duration::from_secs(60)).await?;
//! let report = judge(&databases, At::Rest, Some(&load.seen)).await?;
//! println!("{}", report.to_table());
//! assert!(report.holds());
//! # Ok(()) }
//! ```

pub mod amqp;
mod audit;
pub mod client;
pub mod duplicator;
pub mod eventually;
mod history;
mod invariants;
pub mod load;
mod merge;
pub mod quiescence;
mod report;
mod seen;
mod verdict;
pub mod watch;

pub use audit::{AuditError, Databases, Side};
pub use history::history;
pub use invariants::judge;
pub use report::Report;
pub use seen::Seen;
pub use verdict::{At, EXAMPLES_MAX, Finding, Verdict};

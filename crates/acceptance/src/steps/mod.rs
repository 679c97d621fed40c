//! The features' sentences, one file per subject.
//!
//! Not here: waiting (`eventually`), and what must hold after every scenario (`check`).

mod accounts;
mod api;
mod broker;
mod broker_faults;
mod crashes;
mod database_faults;
mod databases;
mod documentation;
mod faults;
mod health;
mod messages;
mod orders;
mod parked;
mod poison;
mod rush;
mod services;
mod settings;
mod tampering;
mod ways;

//! The features' sentences, one file per subject.
//!
//! Not here: waiting (`eventually`), and what must hold after every scenario (`check`).

mod accounts;
mod api;
mod broker;
mod broker_faults;
mod clocks;
mod cluster;
mod contention;
mod crashes;
mod database_faults;
mod databases;
mod dead_letters;
mod deposits;
mod documentation;
mod fatal;
mod faults;
mod full_disk;
mod gateway;
mod health;
mod messages;
mod orders;
mod parked;
mod poison;
mod reconciliation;
mod rush;
mod schemas;
mod services;
mod settings;
mod strangers;
mod tampering;
mod ways;

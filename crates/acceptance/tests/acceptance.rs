//! The acceptance suite's binary: it runs the features, and it is the services under test as well.
//!
//! Not here: anything but that choice. The services are child processes of this very binary, so that a stale or
//! missing one cannot be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    if acceptance::is_service(std::env::args_os()) {
        acceptance::end_with_parent();
        return paidonce::main(std::env::args_os());
    }
    acceptance::run(std::env::args_os())
}

//! The command `paidonce`: the services, the whole system on one machine, and what proves it.
//!
//! The composition root: the only crate that sees all three services. One file for each
//! subcommand; what a service does is in its own crate, what is proved is in `prover`.

mod cli;
mod demo;
mod healthcheck;
mod load;
mod openapi;
mod parked;
mod services;
mod system;
mod tell;
mod up;
mod verify;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

pub use openapi::document;

/// Stack of a worker thread, in bytes.
const STACK: usize = 8 * 1024 * 1024;

/// How long threads that cannot be interrupted may hold up the end.
const LAST_THREADS: Duration = Duration::from_millis(500);

/// Runs the command line and returns the process's exit code: 0 when it did what was asked, 1
/// when it did not, 2 when it was asked wrongly.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match cli::parse(args) {
        Ok(command) => command,
        Err(error) => {
            // A closed standard output is no reason to fail differently.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Unoptimized futures are large, and the default of 2 MiB leaves little room for them.
        .thread_stack_size(STACK)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("paidonce: cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli::run(command));
    // A name that is being looked up cannot be interrupted, and must not keep the process.
    runtime.shutdown_timeout(LAST_THREADS);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("paidonce: {error:#}");
            ExitCode::FAILURE
        }
    }
}

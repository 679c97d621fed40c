//! The binary: everything is in the library, so that tests start the very same services.

use std::process::ExitCode;

fn main() -> ExitCode {
    paidonce::main(std::env::args_os())
}

//! The wallet's daemon and command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    wallet::hubwallet_main(std::env::args_os())
}

//! The wallet's daemon and command line.

use std::process::ExitCode;

const _: () = assert!(!channel::bug::COMPILED_IN, "a program that people use has no faults made on purpose");

fn main() -> ExitCode {
    wallet::hubwallet_main(std::env::args_os())
}

//! `hubctl`: the operator's command line, a thin client of the operator's service.

mod cli;
mod client;
mod commands;
mod events;
mod json;
mod show;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

/// Runs `hubctl` with these arguments, the program's name first.
pub fn hubctl_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hubctl: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubctl: {error}");
            if let Some(advice) = error.advice() {
                eprintln!("  {advice}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

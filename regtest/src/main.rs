//! The command line of everything that runs on a regtest chain.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cli;

/// Runs the payment hub on a real bitcoind in regtest.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Finds bitcoind, or builds it, and prints where it is.
    Bitcoind(cli::bitcoind::Arguments),
    /// Tells the main job as a story: a hub and wallets on a chain of their own, payments, streams, a crash, closes.
    Demo(cli::demo::Arguments),
    /// Measures, and prints the machine's raw costs beside.
    Bench(cli::bench::Arguments),
    /// Runs an empty chain of its own in the foreground until Ctrl-C, for trying things out.
    Chain(cli::chain::Arguments),
    /// Pays coins of such a chain's miner to an address.
    Fund(cli::fund::Arguments),
}

fn main() -> ExitCode {
    if let Some(exit) = regtest::programs::become_program(std::env::args_os()) {
        return exit;
    }
    let outcome = match Arguments::parse().command {
        Command::Bitcoind(arguments) => cli::bitcoind::run(&arguments),
        Command::Demo(arguments) => cli::demo::run(&arguments),
        Command::Bench(arguments) => cli::bench::run(&arguments),
        Command::Chain(arguments) => cli::chain::run(arguments),
        Command::Fund(arguments) => cli::fund::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

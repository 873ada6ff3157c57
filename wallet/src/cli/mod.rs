//! The command line `hubwallet`.
//!
//! Every command but `daemon`, `init` and `restore` is a thin client of the daemon (`wallet.v1`): parse, call, show. Results go to
//! standard output and nothing else does; failures go to standard error with an exit code of their kind.

pub mod args;
mod channels;
mod daemon;
mod events;
pub mod failure;
mod init;
mod json;
mod node;
mod onchain;
mod payments;
mod session;
mod streams;
pub mod terminal;
mod text;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;
use session::Session;
use terminal::{Terminal, with_process};

/// The program `hubwallet`: its arguments, the program's name first, to its exit code.
pub fn hubwallet_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    with_process(cli.json, |terminal| match run(&cli, terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.fail(&failure);
            ExitCode::from(failure.exit.code())
        }
    })
}

/// Does what the command line says, on this terminal.
///
/// # Errors
/// [`Failure`], not yet shown.
pub fn run(cli: &Cli, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let root = data_dir(cli)?;
    match &cli.command {
        Command::Daemon(args) => daemon::run(args, &root, cli.json),
        Command::Init(args) => init::init(args, &root, terminal),
        Command::Restore(args) => init::restore(args, &root, terminal),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(command, &root, terminal))
        }
    }
}

fn data_dir(cli: &Cli) -> Result<PathBuf, Failure> {
    let given = cli.data_dir.clone();
    let usual = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".payment-hub/wallet"));
    let chosen = given.or_else(usual).ok_or_else(|| Failure::usage("give --data-dir: HOME is not set"))?;
    Ok(std::path::absolute(chosen)?)
}

/// The commands that ask the daemon.
async fn ask(command: &Command, root: &Path, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let mut session = Session::open(root, terminal).await?;
    let session = &mut session;
    match command {
        // Done without a daemon, in `run`.
        Command::Daemon(_) | Command::Init(_) | Command::Restore(_) => Ok(()),
        Command::Scan => onchain::scan(session).await,
        Command::Info => node::info(session).await,
        Command::Address => node::address(session).await,
        Command::Open(args) => channels::open(session, args).await,
        Command::Invoice(args) => payments::invoice(session, args).await,
        Command::Settle(args) => payments::settle(session, args).await,
        Command::Cancel(args) => payments::cancel(session, args).await,
        Command::Held => payments::held(session).await,
        Command::Decode { invoice } => payments::decode(session, invoice).await,
        Command::Pay(args) => payments::pay(session, args).await,
        Command::Send(args) => payments::send(session, args).await,
        Command::Stream(args) => streams::stream(session, args).await,
        Command::Channels { closed } => channels::list(session, *closed).await,
        Command::Balance => node::balance(session).await,
        Command::Payments(args) => payments::list(session, args).await,
        Command::Streams { limit } => streams::list(session, *limit).await,
        Command::Events(args) => events::events(session, args).await,
        Command::Close(args) => channels::close(session, args).await,
        Command::Bump(args) => onchain::bump(session, args).await,
        Command::Release => onchain::release(session).await,
        Command::ResumePublishing { .. } => onchain::resume_publishing(session).await,
        Command::Stop => node::stop(session).await,
    }
}

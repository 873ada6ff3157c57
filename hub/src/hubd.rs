//! `hubd`'s main function: flags, data folder, recovery, then serving or the checkpoint.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::world::World;
use tokio::sync::mpsc;
use tracing::info;

use crate::checkpoint::checkpoint;
use crate::cli::{Cli, Subcommands, parse};
use crate::config::{Config, default_file};
use crate::data_dir::DataDir;
use crate::recover::recover;
use crate::serve::unexpected_end;
use crate::stop::{Exit, Failed};
use crate::threads::journal_fault;
use crate::{logging, seed, serve};

/// Runs `hubd` with these arguments, the program's name first. Returns when it has stopped.
pub fn hubd_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and successes to people.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Clean.code() });
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::from(Exit::Clean.code()),
        Err(failed) => {
            eprintln!("hubd: {failed}");
            ExitCode::from(failed.exit.code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failed> {
    if cli.print_config {
        print!("{}", default_file());
        return Ok(());
    }
    let config = cli.config(std::env::vars().collect()).map_err(Failed::with(Exit::Usage))?;
    logging::start(&config.log)?;
    let data_dir = DataDir::open(&config.data_dir).map_err(Failed::with(Exit::CannotStart))?;
    let (seed, origin) = seed::load_or_create(data_dir.layout()).map_err(Failed::with(Exit::CannotStart))?;
    let signer = Arc::new(SeedSigner::new(&seed.bytes()));
    if origin == seed::Origin::Created {
        let path = data_dir.layout().seed();
        info!(path = %path.display(), "a new seed was made: keep a copy of this file where no disk failure reaches it");
    }
    info!(node = %signer.node_id(), data_dir = %config.data_dir.display(), "recovering");
    let (ends_sender, mut ends) = mpsc::unbounded_channel();
    let recovered = recover(&config, &data_dir, signer, World::real(), &ends_sender);
    let (recovered, journal) = recovered.map_err(|failed| {
        // Only the journal's own fault says what a closed journal means.
        let journal = if failed.exit == Exit::Fault { journal_fault(&mut ends) } else { None };
        journal.map_or(failed, |ended| unexpected_end(Some(ended), &mut ends))
    })?;
    match cli.command {
        Some(Subcommands::Checkpoint) => {
            let rows = checkpoint(recovered, journal, &ends_sender, &mut ends)?;
            if rows > 0 {
                let text = format!(
                    "{rows} rows are left that no snapshot covers; the journal is whole, nothing is lost"
                );
                return Err(Failed::new(Exit::Fault, text));
            }
            println!("the journal holds snapshots only");
            Ok(())
        }
        None => serve_until_stopped(config, data_dir, recovered, ends_sender, ends),
    }
}

fn serve_until_stopped(
    config: Config,
    data_dir: DataDir,
    recovered: crate::recover::Recovered,
    ends_sender: mpsc::UnboundedSender<crate::threads::Ended>,
    ends: mpsc::UnboundedReceiver<crate::threads::Ended>,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tokio")
        .build()
        .map_err(Failed::with(Exit::CannotStart))?;
    let result = runtime.block_on(serve::serve(config, data_dir, recovered, ends_sender, ends));
    // Tasks that wait for wallets or bitcoind hold nothing that must be finished.
    runtime.shutdown_background();
    result
}

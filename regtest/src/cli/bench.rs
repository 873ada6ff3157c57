//! `regtest bench`

use regtest::bench::payments::{Load, measure};
use regtest::demo::Progress;
use regtest::lab::{LabOptions, Program};

use super::{Failure, runtime};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Micropayments settled end to end, through the hub, by wallets in processes of their own.
    Payments(Payments),
}

#[derive(clap::Args)]
struct Payments {
    /// Channels at the hub: half of them pay, half are paid, each of a wallet of its own.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=200))]
    channels: u16,
    /// Payments in flight in each channel that pays.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    in_flight: u32,
    /// What each payment is worth, in msat.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    amount_msat: u64,
    /// How long is measured, after a warm-up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Print one JSON object to standard output instead of the table.
    #[arg(long)]
    json: bool,
    /// Keep data and logs, also when all went well.
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Payments(arguments) => payments(arguments),
    }
}

fn payments(arguments: &Payments) -> Result<(), Failure> {
    if arguments.channels % 2 == 1 {
        return Err(format!(
            "--channels {}: an even number is needed, half pay and half are paid",
            arguments.channels
        )
        .into());
    }
    regtest::bitcoind::locate()?;
    let load = Load {
        channels: usize::from(arguments.channels),
        in_flight: arguments.in_flight,
        amount_msat: arguments.amount_msat,
        seconds: arguments.seconds,
    };
    let folder = tempfile::Builder::new().prefix("payment-hub-bench-").tempdir()?;
    let options = LabOptions { folder: Some(folder.path().join("lab")), ..LabOptions::new(Program::this()?) };
    let progress = Progress::shown();
    let measured = runtime()?.block_on(async {
        tokio::select! {
            measured = measure(options, &load, &progress) => measured.map_err(Failure::from),
            _ = tokio::signal::ctrl_c() => Err("interrupted; the processes are stopped".into()),
        }
    });
    if arguments.keep || measured.is_err() {
        eprintln!("data and logs: {}", folder.keep().display());
    }
    let figures = measured?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("\n{}", figures.table());
    }
    Ok(())
}

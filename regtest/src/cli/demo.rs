//! `regtest demo`

use regtest::demo::{Progress, Story, Summary, tell};
use regtest::lab::{LabOptions, Program};

use super::{Failure, runtime};

#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON object to standard output instead of the table.
    #[arg(long)]
    json: bool,
    /// Keep data and logs, also when all went well.
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Found or built before anything else begins: that may take minutes, and shows progress of its own.
    regtest::bitcoind::locate()?;
    let folder = tempfile::Builder::new().prefix("payment-hub-demo-").tempdir()?;
    let options = LabOptions { folder: Some(folder.path().join("lab")), ..LabOptions::new(Program::this()?) };
    let (story, progress) = (Story::default(), Progress::shown());
    let told = runtime()?.block_on(async {
        tokio::select! {
            told = tell(options, &story, &progress) => told.map_err(Failure::from),
            _ = tokio::signal::ctrl_c() => Err("interrupted; the processes are stopped".into()),
        }
    });
    if arguments.keep || told.is_err() {
        eprintln!("data and logs: {}", folder.keep().display());
    }
    show(&told?, arguments.json)
}

fn show(summary: &Summary, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(summary)?);
    } else {
        print!("\n{}", summary.table());
    }
    Ok(())
}

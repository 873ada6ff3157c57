//! `regtest chain`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use regtest::{Bitcoind, Miner, Options};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the chain is kept; without it, in a folder that is removed in the end.
    #[arg(long)]
    datadir: Option<PathBuf>,
    /// Where bitcoind answers calls; without it, on a free port of 127.0.0.1.
    #[arg(long)]
    rpc: Option<SocketAddr>,
    /// Mine a block every so many seconds; without it, only those that bring the first coins.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    block_every: Option<u64>,
    /// Print the addresses as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Coinbases that can be spent from the start: 500 bitcoins.
const COINS: u32 = 10;

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let options = Options { datadir: arguments.datadir, rpc_address: arguments.rpc, ..Options::default() };
    let mut node = Bitcoind::start(options)?;
    let mut miner = Miner::with_coins(node.rpc(), COINS)?;
    if arguments.json {
        println!(
            "{}",
            json!({
                "rpc_url": node.url(),
                "cookie_file": node.cookie_file(),
                "datadir": node.datadir(),
                "bitcoind": node.program(),
                "height": node.rpc().height()?,
            })
        );
    } else {
        println!("bitcoind  {}", node.program().display());
        println!("rpc       {}", node.url());
        println!("cookie    {}", node.cookie_file().display());
        println!("height    {}", node.rpc().height()?);
        println!("Ctrl-C stops it.");
    }
    let period = arguments.block_every.map_or(Duration::MAX, Duration::from_secs);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(mine_until_stopped(&mut miner, period))?;
    node.stop()?;
    Ok(())
}

/// The signals are listened for from the first to the last block, so that none is missed between two.
async fn mine_until_stopped(miner: &mut Miner, period: Duration) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(period) => drop(miner.confirm(1)?),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

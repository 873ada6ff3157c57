//! `regtest fund`

use std::net::SocketAddr;
use std::path::PathBuf;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network};
use regtest::{Miner, Rpc};
use serde_json::json;

use super::Failure;

#[derive(clap::Args)]
pub struct Arguments {
    /// The address to pay to.
    address: Address<NetworkUnchecked>,
    /// How much, in satoshis.
    amount_sat: u64,
    /// Where bitcoind answers calls, as `regtest chain` prints it.
    #[arg(long)]
    rpc: SocketAddr,
    /// bitcoind's cookie file, as `regtest chain` prints it.
    #[arg(long)]
    cookie: PathBuf,
    /// Mine so many blocks on top.
    #[arg(long, default_value_t = 1)]
    confirm: u32,
    /// Print one JSON object: txid and vout.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = arguments.address.clone().require_network(Network::Regtest);
    let address =
        address.map_err(|_| "the address is of another network; expected one of regtest, bcrt1…")?;
    let mut miner = Miner::open(&Rpc::new(arguments.rpc, &arguments.cookie))?;
    let outpoint = miner.fund(&address, Amount::from_sat(arguments.amount_sat))?;
    if arguments.confirm > 0 {
        miner.confirm(arguments.confirm)?;
    }
    if arguments.json {
        println!("{}", json!({ "txid": outpoint.txid, "vout": outpoint.vout }));
    } else {
        println!("{outpoint}");
    }
    Ok(())
}

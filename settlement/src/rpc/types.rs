//! What bitcoind's methods answer: only the fields this project reads.

use std::collections::BTreeMap;

use bitcoin::{Amount, BlockHash, ScriptBuf, Txid};
use serde::{Deserialize, Deserializer};

/// `getblockchaininfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockchainInfo {
    /// `main`, `test`, `testnet4`, `signet` or `regtest`.
    pub chain: String,
    /// Height of the best block.
    pub blocks: u32,
    /// Hash of the best block.
    pub bestblockhash: BlockHash,
    /// True while the node is far behind the network.
    pub initialblockdownload: bool,
    /// True if old blocks are deleted.
    pub pruned: bool,
    /// Lowest height kept, on a pruned node.
    #[serde(default)]
    pub pruneheight: Option<u64>,
}

/// `getnetworkinfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeInfo {
    /// 300000 is 30.0.
    pub version: u64,
    /// The name it tells its peers.
    pub subversion: String,
    /// Minimum feerate of a replacement's increment, in BTC per 1000 virtual bytes.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub incrementalfee: Amount,
    /// Minimum feerate relayed, in BTC per 1000 virtual bytes.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub relayfee: Amount,
}

/// `getblockheader` with verbosity.
#[derive(Debug, Clone, Deserialize)]
pub struct HeaderInfo {
    /// The block's hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// 1 for the tip; -1 if the block is not in the best chain.
    pub confirmations: i64,
    /// The block before it; absent for the genesis block.
    #[serde(default)]
    pub previousblockhash: Option<BlockHash>,
    /// The header's time, seconds since 1970.
    pub time: u32,
}

/// One transaction of `testmempoolaccept`.
#[derive(Debug, Clone, Deserialize)]
pub struct AcceptResult {
    /// The transaction asked about.
    pub txid: Txid,
    /// Absent if an earlier transaction of the call failed and this one was not looked at.
    #[serde(default)]
    pub allowed: Option<bool>,
    /// bitcoind's word for the rule broken.
    #[serde(default, rename = "reject-reason")]
    pub reject_reason: Option<String>,
    /// Virtual size, if accepted.
    #[serde(default)]
    pub vsize: Option<u64>,
}

/// `submitpackage`.
#[derive(Debug, Clone, Deserialize)]
pub struct PackageResult {
    /// `success`, or what is wrong with the package as a whole.
    pub package_msg: String,
    /// One entry a transaction, by wtxid.
    #[serde(rename = "tx-results")]
    pub tx_results: BTreeMap<String, PackageTxResult>,
    /// Transactions that left the mempool for this package.
    #[serde(default, rename = "replaced-transactions")]
    pub replaced_transactions: Vec<Txid>,
}

/// One transaction of a package.
#[derive(Debug, Clone, Deserialize)]
pub struct PackageTxResult {
    /// The transaction.
    pub txid: Txid,
    /// Why it was refused, if it was.
    #[serde(default)]
    pub error: Option<String>,
}

/// `gettxout`: an output that nothing spends.
#[derive(Debug, Clone, Deserialize)]
pub struct UnspentOutput {
    /// 0 if the output is in the mempool only.
    pub confirmations: u32,
    /// The tip at which this was read.
    pub bestblock: BlockHash,
    /// Amount of the output.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub value: Amount,
    /// Script of the output.
    #[serde(rename = "scriptPubKey", deserialize_with = "script_hex")]
    pub script_pubkey: ScriptBuf,
    /// True for an output of a coinbase transaction.
    pub coinbase: bool,
}

/// `getmempoolinfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolInfo {
    /// Number of transactions.
    pub size: u64,
    /// Lowest feerate accepted now, per 1000 virtual bytes.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub mempoolminfee: Amount,
    /// Lowest feerate ever relayed, per 1000 virtual bytes.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub minrelaytxfee: Amount,
    /// What a replacement must add, per 1000 virtual bytes of its own size.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub incrementalrelayfee: Amount,
}

/// `getmempoolentry`.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolEntry {
    /// Virtual size of the transaction.
    pub vsize: u64,
    /// Virtual size of it and all its descendants.
    #[serde(rename = "descendantsize")]
    pub descendant_vsize: u64,
    /// What they pay.
    pub fees: MempoolFees,
}

/// The fees of a [`MempoolEntry`].
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolFees {
    /// Its own.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub base: Amount,
    /// Its own and its descendants'.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub descendant: Amount,
}

/// `scantxoutset`.
#[derive(Debug, Clone, Deserialize)]
pub struct UtxoScan {
    /// True unless the scan was aborted.
    pub success: bool,
    /// Height of the set scanned.
    pub height: u32,
    /// Tip of the set scanned.
    pub bestblock: BlockHash,
    /// The outputs found.
    pub unspents: Vec<ScannedCoin>,
    /// Their sum.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub total_amount: Amount,
}

/// One output of the UTXO set.
#[derive(Debug, Clone, Deserialize)]
pub struct ScannedCoin {
    /// Its transaction.
    pub txid: Txid,
    /// Its index there.
    pub vout: u32,
    /// Its script.
    #[serde(rename = "scriptPubKey")]
    pub script_pubkey: ScriptBuf,
    /// Its amount.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub amount: Amount,
    /// Height of the block that holds it.
    pub height: u32,
}

/// One output of `gettxspendingprevout`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SpendingPrevout {
    #[serde(default)]
    pub spendingtxid: Option<Txid>,
}

/// `estimatesmartfee`, before it is made a feerate.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Estimate {
    #[serde(default, with = "bitcoin::amount::serde::as_btc::opt")]
    pub feerate: Option<Amount>,
}

fn script_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScriptBuf, D::Error> {
    #[derive(Deserialize)]
    struct ScriptObject {
        hex: ScriptBuf,
    }
    ScriptObject::deserialize(deserializer).map(|object| object.hex)
}

//! bitcoind and its miner, for asynchronous callers: every call runs on a thread that may block.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::{Address, Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::error::LabError;
use crate::bitcoind::{Bitcoind, Coin, Options, Rpc, RpcError, View};
use crate::miner::Miner;

/// The chain under test. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chain {
    inner: Arc<Mutex<Inner>>,
    rpc: Rpc,
    url: String,
    cookie_file: std::path::PathBuf,
}

/// The node and its miner: one caller at a time changes them.
#[derive(Debug)]
pub struct Inner {
    /// The node.
    pub node: Bitcoind,
    /// Who mines and pays.
    pub miner: Miner,
}

impl Chain {
    /// Starts a node of its own and mines until `coins` coinbases can be spent, 50 bitcoins each.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start(options: Options, coins: u32) -> Result<Chain, LabError> {
        blocking(move || {
            let node = Bitcoind::start(options)?;
            let miner = Miner::with_coins(node.rpc(), coins)?;
            let (rpc, url) = (node.rpc().clone(), node.url());
            let cookie_file = node.cookie_file().to_owned();
            let inner = Arc::new(Mutex::new(Inner { node, miner }));
            Ok(Chain { inner, rpc, url, cookie_file })
        })
        .await
    }

    /// Where bitcoind answers calls.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file with user and password for calls.
    pub fn cookie_file(&self) -> &std::path::Path {
        &self.cookie_file
    }

    /// Does anything with the node and the miner.
    ///
    /// # Errors
    /// What `work` gives.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, LabError> + Send + 'static,
    ) -> Result<T, LabError> {
        let inner = Arc::clone(&self.inner);
        // A panic elsewhere leaves both as they were after their last call.
        blocking(move || work(&mut inner.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Calls the node.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Rpc) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, LabError> {
        let rpc = self.rpc.clone();
        blocking(move || Ok(work(&rpc)?)).await
    }

    /// Mines blocks with what the mempool holds.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn mine(&self, blocks: u32) -> Result<Vec<BlockHash>, LabError> {
        self.with(move |inner| Ok(inner.miner.confirm(blocks)?)).await
    }

    /// Replaces the last `depth` blocks by one more without transactions: what they held is unconfirmed again.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn reorganise(&self, depth: u32) -> Result<(), LabError> {
        self.with(move |inner| Ok(inner.miner.reorganise(depth).map(|_| ())?)).await
    }

    /// Stops bitcoind and starts it again with other arguments (see [`Options::arguments`]) than before.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn restart_with(&self, arguments: &[&str]) -> Result<(), LabError> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.with(move |inner| Ok(inner.node.restart_with(arguments)?)).await
    }

    /// Mines `blocks` blocks while nobody else can reach bitcoind: it answers on another port meanwhile.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn mine_out_of_reach(&self, blocks: u32) -> Result<(), LabError> {
        self.with(move |inner| {
            inner.node.stop()?;
            let options = Options {
                program: Some(inner.node.program().to_owned()),
                datadir: Some(inner.node.datadir().to_owned()),
                ..Options::default()
            };
            let mut hidden = Bitcoind::start(options)?;
            hidden.rpc().mine(blocks, inner.miner.address())?;
            hidden.stop()?;
            inner.node.start_again()?;
            Ok(inner.miner.rescan()?)
        })
        .await
    }

    /// Pays outputs and gives their outpoints, unconfirmed.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn pay(&self, payments: Vec<(Address, Amount)>) -> Result<Vec<OutPoint>, LabError> {
        let outputs: Vec<TxOut> = payments
            .into_iter()
            .map(|(address, value)| TxOut { value, script_pubkey: address.script_pubkey() })
            .collect();
        self.with(move |inner| Ok(inner.miner.fan_out(&outputs)?)).await
    }

    /// The height of the best block.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn height(&self) -> Result<u32, LabError> {
        self.call(Rpc::height).await
    }

    /// The mempool's transactions.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn mempool(&self) -> Result<Vec<Txid>, LabError> {
        self.call(Rpc::mempool).await
    }

    /// An output of the chain's own set of unspent outputs.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn unspent(&self, outpoint: OutPoint) -> Result<Option<TxOut>, LabError> {
        self.call(move |rpc| rpc.unspent(outpoint, View::Chain)).await
    }

    /// The chain's unspent outputs that pay one of these scripts.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn coins_of(&self, scripts: Vec<ScriptBuf>) -> Result<Vec<Coin>, LabError> {
        self.call(move |rpc| rpc.coins_of(&scripts)).await
    }

    /// A transaction of the chain; every block is looked through, since this bitcoind keeps no index.
    ///
    /// # Errors
    /// [`LabError::Rpc`]; [`LabError::Nonsense`] when no block has it.
    pub async fn transaction(&self, txid: Txid) -> Result<Transaction, LabError> {
        let all = self.transactions_since(0).await?;
        let found = all.into_iter().map(|(_, found)| found).find(|found| found.compute_txid() == txid);
        found.ok_or_else(|| LabError::Nonsense { name: "bitcoind".to_owned(), what: format!("no {txid}") })
    }

    /// A transaction that waits for a block.
    ///
    /// # Errors
    /// [`LabError::Rpc`]; [`LabError::Nonsense`] for one that cannot be read.
    pub async fn waiting(&self, txid: Txid) -> Result<Transaction, LabError> {
        let raw: String =
            self.call(move |rpc| rpc.call("getrawtransaction", serde_json::json!([txid]))).await?;
        bitcoin::consensus::encode::deserialize_hex(&raw)
            .map_err(|error| LabError::Nonsense { name: "bitcoind".to_owned(), what: error.to_string() })
    }

    /// All transactions of the blocks from a height up to the tip, with the height of each.
    ///
    /// # Errors
    /// [`LabError::Rpc`].
    pub async fn transactions_since(&self, first: u32) -> Result<Vec<(u32, Transaction)>, LabError> {
        self.call(move |rpc| {
            let mut found = Vec::new();
            for height in first..=rpc.height()? {
                let block = rpc.block(rpc.block_hash(height)?)?;
                found.extend(block.txdata.into_iter().map(|transaction| (height, transaction)));
            }
            Ok(found)
        })
        .await
    }
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LabError> + Send + 'static,
) -> Result<T, LabError> {
    tokio::task::spawn_blocking(work).await.expect("what the lab runs on such threads does not panic")
}

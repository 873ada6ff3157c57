//! The calls that tests and scripts make, with types.

use std::time::Instant;

use bitcoin::consensus::encode;
use bitcoin::{Address, Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rpc::{Rpc, RpcError};
use crate::limits::{CALL_WITHIN, POLL_EVERY};

/// An output in the chain's own set of unspent outputs; the mempool plays no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Which output.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub output: TxOut,
    /// The height of its block.
    pub height: u32,
    /// Whether a block's coinbase made it, so that it can be spent only 100 blocks later.
    pub coinbase: bool,
}

/// The chain's set of unspent outputs in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinsSummary {
    /// The height it holds for.
    pub height: u32,
    /// How many outputs are unspent.
    pub outputs: u64,
    /// Their sum.
    pub total: Amount,
}

#[derive(Deserialize)]
struct ScanAnswer {
    unspents: Vec<ScannedCoin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScannedCoin {
    txid: Txid,
    vout: u32,
    script_pub_key: ScriptBuf,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    amount: Amount,
    height: u32,
    coinbase: bool,
}

#[derive(Deserialize)]
struct SummaryAnswer {
    height: u32,
    txouts: u64,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    total_amount: Amount,
}

#[derive(Deserialize)]
struct OutputAnswer {
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    value: Amount,
    #[serde(rename = "scriptPubKey")]
    script: OutputScript,
}

#[derive(Deserialize)]
struct OutputScript {
    hex: ScriptBuf,
}

/// Whether outputs that only the mempool makes or spends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What the blocks say.
    Chain,
    /// What the blocks and the mempool say.
    ChainAndMempool,
}

impl Rpc {
    /// The height of the best block; the genesis block has height 0.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn height(&self) -> Result<u32, RpcError> {
        self.call("getblockcount", json!([]))
    }

    /// The best block's hash.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn tip(&self) -> Result<BlockHash, RpcError> {
        self.call("getbestblockhash", json!([]))
    }

    /// The hash of the block at a height of the best chain.
    ///
    /// # Errors
    /// [`RpcError`]; refused above the tip.
    pub fn block_hash(&self, height: u32) -> Result<BlockHash, RpcError> {
        self.call("getblockhash", json!([height]))
    }

    /// A whole block.
    ///
    /// # Errors
    /// [`RpcError`]; refused for an unknown hash.
    pub fn block(&self, hash: BlockHash) -> Result<Block, RpcError> {
        let hex: String = self.call("getblock", json!([hash, 0]))?;
        encode::deserialize_hex(&hex)
            .map_err(|error| RpcError::Malformed { method: "getblock".to_owned(), what: error.to_string() })
    }

    /// Mines `blocks` blocks of what the mempool holds and gives their hashes, the oldest first.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn mine(&self, blocks: u32, pay_to: &Address) -> Result<Vec<BlockHash>, RpcError> {
        self.call("generatetoaddress", json!([blocks, pay_to]))
    }

    /// Mines one block of exactly these transactions, whether the mempool would take them or not; what the mempool
    /// holds stays there unless it conflicts.
    ///
    /// # Errors
    /// [`RpcError`]; refused when the block would be invalid.
    pub fn mine_exactly(
        &self,
        pay_to: &Address,
        transactions: &[Transaction],
    ) -> Result<BlockHash, RpcError> {
        #[derive(Deserialize)]
        struct Mined {
            hash: BlockHash,
        }
        let raw: Vec<String> = transactions.iter().map(encode::serialize_hex).collect();
        let mined: Mined = self.call("generateblock", json!([pay_to.to_string(), raw]))?;
        Ok(mined.hash)
    }

    /// Offers a transaction to the mempool.
    ///
    /// # Errors
    /// [`RpcError`]; refused with bitcoind's reason when consensus or policy forbids it.
    pub fn send_raw(&self, transaction: &Transaction) -> Result<Txid, RpcError> {
        // No limit on the fee rate: a test may pay what it likes.
        self.call("sendrawtransaction", json!([encode::serialize_hex(transaction), 0]))
    }

    /// The transactions in the mempool, in no order.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn mempool(&self) -> Result<Vec<Txid>, RpcError> {
        self.call("getrawmempool", json!([]))
    }

    /// An output if it is unspent.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn unspent(&self, outpoint: OutPoint, view: View) -> Result<Option<TxOut>, RpcError> {
        let params = json!([outpoint.txid, outpoint.vout, view == View::ChainAndMempool]);
        let answer: Option<OutputAnswer> = self.call("gettxout", params)?;
        Ok(answer.map(|output| TxOut { value: output.value, script_pubkey: output.script.hex }))
    }

    /// Every unspent output of the chain that pays one of `scripts`. Takes time in proportion to all unspent outputs.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn coins_of(&self, scripts: &[ScriptBuf]) -> Result<Vec<Coin>, RpcError> {
        let wanted: Vec<String> =
            scripts.iter().map(|script| format!("raw({})", script.to_hex_string())).collect();
        let answer: ScanAnswer = self.one_scan_at_a_time("scantxoutset", &json!(["start", wanted]))?;
        let coin = |found: ScannedCoin| Coin {
            outpoint: OutPoint { txid: found.txid, vout: found.vout },
            output: TxOut { value: found.amount, script_pubkey: found.script_pub_key },
            height: found.height,
            coinbase: found.coinbase,
        };
        Ok(answer.unspents.into_iter().map(coin).collect())
    }

    /// What all unspent outputs of the chain that pay `script` are worth together.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn balance_of(&self, script: &ScriptBuf) -> Result<Amount, RpcError> {
        let coins = self.coins_of(std::slice::from_ref(script))?;
        // The sum of outputs of one chain is at most 21 million bitcoins.
        Ok(coins.iter().map(|coin| coin.output.value).sum())
    }

    /// Number and sum of all unspent outputs of the chain.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn coins_summary(&self) -> Result<CoinsSummary, RpcError> {
        let answer: SummaryAnswer = self.call("gettxoutsetinfo", json!(["none"]))?;
        Ok(CoinsSummary { height: answer.height, outputs: answer.txouts, total: answer.total_amount })
    }

    /// Takes a block and all after it out of the best chain; their transactions return to the mempool.
    ///
    /// # Errors
    /// [`RpcError`]; refused for an unknown hash.
    pub fn invalidate_block(&self, hash: BlockHash) -> Result<(), RpcError> {
        self.rpc("invalidateblock", json!([hash])).map(drop)
    }

    /// Undoes [`Rpc::invalidate_block`]: the block and those after it count again.
    ///
    /// # Errors
    /// [`RpcError`]; refused for an unknown hash.
    pub fn reconsider_block(&self, hash: BlockHash) -> Result<(), RpcError> {
        self.rpc("reconsiderblock", json!([hash])).map(drop)
    }

    /// bitcoind scans for one caller at a time and refuses the others, who therefore ask again.
    fn one_scan_at_a_time<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        params: &Value,
    ) -> Result<T, RpcError> {
        let taken = |error: &RpcError| matches!(error, RpcError::Refused { message, .. } if message.contains("Scan already in progress"));
        let deadline = Instant::now() + CALL_WITHIN;
        loop {
            match self.call(method, params.clone()) {
                Err(error) if taken(&error) && Instant::now() < deadline => std::thread::sleep(POLL_EVERY),
                outcome => return outcome,
            }
        }
    }
}

//! bitcoind's methods, one function each. "Not found" is `None`, never an error.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, FeeRate, OutPoint, Script, Transaction, Txid};
use serde_json::{Value, json};

use super::types::{Estimate, SpendingPrevout};
use super::{
    AcceptResult, BlockchainInfo, HeaderInfo, MempoolEntry, MempoolInfo, NodeInfo, PackageResult,
    RPC_INVALID_ADDRESS_OR_KEY, RPC_INVALID_PARAMETER, RpcClient, RpcError, UnspentOutput, UtxoScan,
};
use crate::limits;

impl RpcClient {
    /// `getblockchaininfo`.
    pub async fn get_blockchain_info(&self) -> Result<BlockchainInfo, RpcError> {
        self.call("getblockchaininfo", json!([])).await
    }

    /// `getnetworkinfo`.
    pub async fn get_network_info(&self) -> Result<NodeInfo, RpcError> {
        self.call("getnetworkinfo", json!([])).await
    }

    /// `getbestblockhash`: the cheapest question that tells whether there is a new block.
    pub async fn get_best_block_hash(&self) -> Result<BlockHash, RpcError> {
        self.call("getbestblockhash", json!([])).await
    }

    /// `getblockhash`: the block at `height` in the best chain, `None` above its tip.
    pub async fn get_block_hash(&self, height: u32) -> Result<Option<BlockHash>, RpcError> {
        found(self.call("getblockhash", json!([height])).await)
    }

    /// `getblockhash` for each height of `heights`, up to the first that is above the tip, in one batch. A
    /// reorganisation in between may mix two chains; whoever uses the hashes checks that the blocks connect.
    pub async fn get_block_hashes(&self, heights: std::ops::Range<u32>) -> Result<Vec<BlockHash>, RpcError> {
        let params: Vec<Value> = heights.map(|height| json!([height])).collect();
        let mut hashes = Vec::with_capacity(params.len());
        for result in self.batch("getblockhash", params).await? {
            match found(result)? {
                Some(hash) => hashes.push(hash),
                None => break,
            }
        }
        Ok(hashes)
    }

    /// `getblockheader`, verbose.
    pub async fn get_block_header(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, RpcError> {
        found(self.call("getblockheader", json!([hash, true])).await)
    }

    /// `getblock` with verbosity 0, decoded and checked to be the block asked for.
    pub async fn get_block(&self, hash: BlockHash) -> Result<Arc<Block>, RpcError> {
        const METHOD: &str = "getblock";
        let raw: String = self.call(METHOD, json!([hash, 0])).await?;
        let block: Block = decode(METHOD, &raw)?;
        let got = block.block_hash();
        if got != hash {
            return Err(RpcError::Malformed {
                method: METHOD,
                reason: format!("block {got} instead of {hash}"),
            });
        }
        Ok(Arc::new(block))
    }

    /// `waitfornewblock`: returns when the tip is not `current_tip` any more, or after `wait`; the tip then. It uses
    /// a connection of its own. bitcoind serves 16 calls at a time by default, so only few clients may use it.
    pub async fn wait_for_new_block(
        &self,
        current_tip: BlockHash,
        wait: Duration,
    ) -> Result<BlockHash, RpcError> {
        #[derive(serde::Deserialize)]
        struct Tip {
            hash: BlockHash,
        }
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let params = json!([milliseconds, current_tip]);
        let timeout = wait.saturating_add(self.timeout);
        let tip: Tip = self.call_on(&self.polls, "waitfornewblock", params, timeout).await?;
        Ok(tip.hash)
    }

    /// `sendrawtransaction` with bitcoind's own ceiling on the feerate left in place.
    pub async fn send_raw_transaction(&self, transaction: &Transaction) -> Result<Txid, RpcError> {
        self.call("sendrawtransaction", json!([serialize_hex(transaction)])).await
    }

    /// `sendrawtransaction` for each, in batches over one connection. Results come in order.
    pub async fn send_raw_transactions(
        &self,
        transactions: &[&Transaction],
    ) -> Result<Vec<Result<Txid, RpcError>>, RpcError> {
        let params = transactions.iter().map(|transaction| json!([serialize_hex(*transaction)])).collect();
        self.batch("sendrawtransaction", params).await
    }

    /// `testmempoolaccept`, at most [`limits::TEST_ACCEPT_MAX`] transactions. Any replacement of transactions in the
    /// mempool reads as refused, whatever it pays.
    pub async fn test_mempool_accept(
        &self,
        transactions: &[&Transaction],
    ) -> Result<Vec<AcceptResult>, RpcError> {
        debug_assert!(transactions.len() <= limits::TEST_ACCEPT_MAX);
        let raw: Vec<String> = transactions.iter().map(|transaction| serialize_hex(*transaction)).collect();
        self.call("testmempoolaccept", json!([raw])).await
    }

    /// `submitpackage`: parents first, the child last.
    pub async fn submit_package(&self, transactions: &[&Transaction]) -> Result<PackageResult, RpcError> {
        let raw: Vec<String> = transactions.iter().map(|transaction| serialize_hex(*transaction)).collect();
        self.call("submitpackage", json!([raw])).await
    }

    /// `getrawtransaction`: finds a transaction in the mempool, or in `block` if given.
    pub async fn get_raw_transaction(
        &self,
        txid: Txid,
        block: Option<BlockHash>,
    ) -> Result<Option<Transaction>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let params = match block {
            Some(block) => json!([txid, 0, block]),
            None => json!([txid, 0]),
        };
        match found(self.call::<String>(METHOD, params).await)? {
            Some(raw) => Ok(Some(decode(METHOD, &raw)?)),
            None => Ok(None),
        }
    }

    /// `getrawtransaction` for each, in batches: those that the mempool holds, in the order asked for.
    pub async fn get_mempool_transactions(&self, txids: &[Txid]) -> Result<Vec<Transaction>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let params = txids.iter().map(|txid| json!([txid, 0])).collect();
        let mut transactions = Vec::with_capacity(txids.len());
        for result in self.batch::<String>(METHOD, params).await? {
            if let Some(raw) = found(result)? {
                transactions.push(decode(METHOD, &raw)?);
            }
        }
        Ok(transactions)
    }

    /// `gettxspendingprevout`: the mempool's spender of each output, in order; `None` where it holds none.
    pub async fn get_mempool_spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Txid>>, RpcError> {
        const METHOD: &str = "gettxspendingprevout";
        let mut spenders = Vec::with_capacity(outpoints.len());
        for chunk in outpoints.chunks(limits::PREVOUTS_PER_CALL) {
            let outputs: Vec<Value> =
                chunk.iter().map(|outpoint| json!({"txid": outpoint.txid, "vout": outpoint.vout})).collect();
            let answers: Vec<SpendingPrevout> = self.call(METHOD, json!([outputs])).await?;
            if answers.len() != chunk.len() {
                let reason = format!("{} answers for {} outputs", answers.len(), chunk.len());
                return Err(RpcError::Malformed { method: METHOD, reason });
            }
            spenders.extend(answers.into_iter().map(|answer| answer.spendingtxid));
        }
        Ok(spenders)
    }

    /// `gettxout`: the output if nothing spends it, the mempool counted or not.
    pub async fn get_tx_out(
        &self,
        outpoint: OutPoint,
        mempool: MempoolCounts,
    ) -> Result<Option<UnspentOutput>, RpcError> {
        let include = match mempool {
            MempoolCounts::Yes => true,
            MempoolCounts::No => false,
        };
        self.call("gettxout", json!([outpoint.txid, outpoint.vout, include])).await
    }

    /// True if at least one of the first `outputs` outputs of a transaction is in the chain and unspent there, which proves
    /// that the transaction is. `false` proves nothing: all may be spent.
    pub async fn has_output_in_chain(&self, txid: Txid, outputs: u32) -> Result<bool, RpcError> {
        let indices: Vec<u32> = (0..outputs).collect();
        for chunk in indices.chunks(limits::RPC_MAX_BATCH) {
            let params = chunk.iter().map(|vout| json!([txid, vout, false])).collect();
            let found: Vec<Result<Option<UnspentOutput>, RpcError>> = self.batch("gettxout", params).await?;
            for output in found {
                if output?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// `estimatesmartfee`: `None` while bitcoind has seen too few blocks to tell.
    pub async fn estimate_smart_fee(&self, target_blocks: u16) -> Result<Option<FeeRate>, RpcError> {
        let estimate: Estimate = self.call("estimatesmartfee", json!([target_blocks])).await?;
        Ok(estimate.feerate.map(feerate_from_per_kvb))
    }

    /// `getmempoolinfo`.
    pub async fn get_mempool_info(&self) -> Result<MempoolInfo, RpcError> {
        self.call("getmempoolinfo", json!([])).await
    }

    /// `getmempoolentry`: `None` if the transaction is not in the mempool.
    pub async fn get_mempool_entry(&self, txid: Txid) -> Result<Option<MempoolEntry>, RpcError> {
        found(self.call("getmempoolentry", json!([txid])).await)
    }

    /// `scantxoutset` for the given scripts. Slow on a large set; one scan at a time a node.
    pub async fn scan_tx_out_set(&self, scripts: &[&Script]) -> Result<UtxoScan, RpcError> {
        let descriptors: Vec<String> =
            scripts.iter().map(|script| format!("raw({})", script.to_hex_string())).collect();
        let params = json!(["start", descriptors]);
        self.call_on(&self.polls, "scantxoutset", params, limits::RPC_SCAN_TIMEOUT).await
    }

    /// `generatetoaddress`, on regtest: mines `count` blocks that pay to `address`.
    pub async fn generate_to_address(
        &self,
        count: u32,
        address: &bitcoin::Address,
    ) -> Result<Vec<BlockHash>, RpcError> {
        self.call("generatetoaddress", json!([count, address.to_string()])).await
    }
}

/// Whether an output spent in the mempool counts as spent, and one made there as existing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MempoolCounts {
    /// The chain and the mempool.
    Yes,
    /// The chain alone.
    No,
}

/// A feerate from an amount per 1000 virtual bytes, rounded up so that a floor stays a floor.
pub(crate) fn feerate_from_per_kvb(per_kvb: Amount) -> FeeRate {
    FeeRate::from_sat_per_kwu(per_kvb.to_sat().div_ceil(4))
}

fn found<T>(result: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(RpcError::Rpc { code: RPC_INVALID_PARAMETER | RPC_INVALID_ADDRESS_OR_KEY, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode<T: bitcoin::consensus::Decodable>(method: &'static str, raw: &str) -> Result<T, RpcError> {
    let malformed = |reason: String| RpcError::Malformed { method, reason };
    let bytes = hex::decode(raw).map_err(|error| malformed(error.to_string()))?;
    deserialize(&bytes).map_err(|error| malformed(error.to_string()))
}

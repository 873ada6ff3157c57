//! Making blocks, and making others in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::Params;
use bitcoin::hashes::Hash;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, FeeRate, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Weight, Witness,
};

use super::accept::{Intent, Way};
use super::consensus::{self, Spent};
use super::linear::Chunk;
use super::reject::Reject;
use super::state::State;
use super::{faucet, policy};

/// The heaviest block, less what its header and coinbase weigh.
const BLOCK_WEIGHT: Weight = Weight::from_wu(3_992_000);
/// Regtest halves its subsidy every so many blocks.
const HALVING: u32 = 150;
/// The first subsidy, 50 bitcoin.
const SUBSIDY: Amount = Amount::from_sat(5_000_000_000);

/// How a miner makes its block. The default takes everything that pays anything.
#[derive(Clone)]
pub struct Mine<'a> {
    /// Room for transactions.
    pub weight_limit: Weight,
    /// What pays less waits. What pays nothing waits in any case.
    pub minimum: FeeRate,
    /// What this names is left out, with all that depends on it.
    pub censor: Option<&'a dyn Fn(&Transaction) -> bool>,
    /// Taken first and in this order, whatever the mempool thinks of them; left out if no block may hold them.
    pub include: Vec<Transaction>,
    /// Who gets subsidy and fees; otherwise the faucet.
    pub pays: Option<ScriptBuf>,
}

impl Default for Mine<'_> {
    fn default() -> Self {
        Mine {
            weight_limit: BLOCK_WEIGHT,
            minimum: FeeRate::ZERO,
            censor: None,
            include: Vec::new(),
            pays: None,
        }
    }
}

impl Mine<'_> {
    /// A block that takes nothing from the mempool.
    pub fn nothing() -> Self {
        Mine { weight_limit: Weight::ZERO, ..Mine::default() }
    }

    fn takes(&self, transaction: &Transaction) -> bool {
        !self.censor.is_some_and(|censor| censor(transaction))
    }
}

/// What becomes of the transactions of blocks that a reorganisation undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They wait in the mempool again.
    Return,
    /// The first of the new blocks holds them again, as far as it may.
    Again,
    /// They are lost, with what depends on them, unless somebody sends them again.
    Drop,
}

/// A block in the making.
struct Draft {
    transactions: Vec<Arc<Transaction>>,
    made: BTreeMap<OutPoint, TxOut>,
    spent: BTreeSet<OutPoint>,
    fees: Amount,
}

impl State {
    /// Makes the next block.
    pub(super) fn mine(&mut self, how: &Mine<'_>) -> BlockHash {
        self.mine_after(how, &[])
    }

    /// Undoes `depth` blocks and makes one more in their place, the first as `how` says and the others empty. The depth is at
    /// most what leaves the first `floor` blocks alone.
    pub(super) fn reorganise(
        &mut self,
        depth: u32,
        floor: u32,
        keep: Keep,
        how: &Mine<'_>,
    ) -> Vec<BlockHash> {
        let depth = depth.min(self.chain.height().saturating_sub(floor));
        let mut undone: Vec<Arc<Transaction>> = Vec::new();
        for _ in 0..depth {
            let Some(block) = self.chain.disconnect() else { break };
            // Blocks come from the tip down, so the order is turned once more in the end.
            let without_coinbase = block.txdata.iter().skip(1).rev();
            undone.extend(without_coinbase.map(|transaction| Arc::new(transaction.clone())));
        }
        undone.reverse();
        let again: &[Arc<Transaction>] = match keep {
            Keep::Again => &undone,
            Keep::Return | Keep::Drop => &[],
        };
        let mut hashes = vec![self.mine_after(how, again)];
        for _ in 0..depth {
            hashes.push(self.mine_after(&Mine { pays: how.pays.clone(), ..Mine::nothing() }, &[]));
        }
        for transaction in &undone {
            let txid = transaction.compute_txid();
            if self.chain.height_of(txid).is_some() {
                continue;
            }
            let returned = match keep {
                Keep::Return | Keep::Again => self.accept(transaction, Way::FromBlock, Intent::Take).is_ok(),
                Keep::Drop => false,
            };
            if !returned {
                self.pool.remove_with_descendants([txid]);
            }
        }
        self.drop_unfit();
        hashes
    }

    /// What the mempool held may not fit onto another chain: inputs are gone, locks not yet reached again.
    fn drop_unfit(&mut self) {
        let unfit = |state: &State, txid: Txid, transaction: &Transaction| -> Result<(), Reject> {
            let spent = state.find_spent(transaction, txid, &[])?;
            consensus::check_final(&state.chain, transaction)?;
            consensus::check_sequences(&state.chain, transaction, &spent)?;
            consensus::check_values(&state.chain, transaction, &spent).map(|_| ())
        };
        let gone: Vec<Txid> = self
            .pool
            .entries()
            .filter(|(txid, entry)| unfit(self, **txid, &entry.transaction).is_err())
            .map(|(txid, _)| *txid)
            .collect();
        self.pool.remove_with_descendants(gone);
        self.trim();
    }

    /// `again` comes before everything but the faucet's payouts.
    fn mine_after(&mut self, how: &Mine<'_>, again: &[Arc<Transaction>]) -> BlockHash {
        let mut draft = Draft {
            transactions: Vec::new(),
            made: BTreeMap::new(),
            spent: BTreeSet::new(),
            fees: Amount::ZERO,
        };
        let undone = self.faucet.undone(&self.chain);
        // A new payout could take coins that an undone one needs: those must be in the chain first.
        let payout = if undone.is_empty() { self.faucet.pay(&self.chain) } else { None };
        let mut waiting = BTreeSet::new();
        for payout in undone.into_iter().chain(payout) {
            let Err(reject) = self.add(&mut draft, &payout) else { continue };
            let rests_on_another =
                payout.input.iter().any(|input| waiting.contains(&input.previous_output.txid));
            // On this chain its coins may not be ripe yet. A payout made anew would be another.
            if rests_on_another || reject == Reject::ImmatureCoinbase {
                waiting.insert(payout.compute_txid());
            } else {
                self.faucet.ask_again(&payout);
            }
        }
        let include: Vec<Arc<Transaction>> = how.include.iter().cloned().map(Arc::new).collect();
        let again = again.iter().filter(|transaction| how.takes(transaction)).cloned();
        for transaction in include.into_iter().chain(again).chain(self.choose(how)) {
            // What no block may hold is left out; nobody waits for it.
            let _ = self.add(&mut draft, &transaction);
        }
        let block = self.seal(draft, how.pays.clone());
        let transactions: Vec<Arc<Transaction>> =
            block.txdata.iter().map(|transaction| Arc::new(transaction.clone())).collect();
        self.note_minimum();
        let hash = self.chain.connect(block);
        for transaction in &transactions {
            self.pool.remove(transaction.compute_txid());
            let rivals =
                transaction.input.iter().filter_map(|input| self.pool.spender(&input.previous_output));
            let rivals: Vec<Txid> = rivals.collect();
            self.pool.remove_with_descendants(rivals);
        }
        hash
    }

    /// What the miner takes of the mempool, in order: the best paying chunks that there is room for.
    fn choose(&self, how: &Mine<'_>) -> Vec<Arc<Transaction>> {
        if how.weight_limit == Weight::ZERO {
            return Vec::new();
        }
        let censored = self.pool.entries().filter(|(_, entry)| !how.takes(&entry.transaction));
        let censored: Vec<Txid> = censored.map(|(txid, _)| *txid).collect();
        let left_out = self.pool.descendants(censored);
        let minimum = how.minimum.to_sat_per_kwu().saturating_mul(4);
        let mut chunks: Vec<Chunk> = Vec::new();
        for mut cluster in self.pool.clusters() {
            cluster.retain(|txid| !left_out.contains(txid));
            chunks.extend(self.pool.chunks(&cluster));
        }
        chunks.retain(|chunk| chunk.fee > 0 && chunk.pays(minimum));
        // The sort is stable: chunks of one cluster stay in their order.
        chunks.sort_by(|a, b| b.compare(a));
        let mut room = how.weight_limit.to_wu();
        let mut chosen = Vec::new();
        for chunk in chunks {
            let entries = chunk.txids.iter().filter_map(|txid| self.pool.get(txid));
            let Some(left) = room.checked_sub(chunk.weight) else { continue };
            room = left;
            chosen.extend(entries.map(|entry| Arc::clone(&entry.transaction)));
        }
        chosen
    }

    /// Adds a transaction to the block if consensus allows it there.
    fn add(&mut self, draft: &mut Draft, transaction: &Arc<Transaction>) -> Result<(), Reject> {
        policy::check_form(transaction)?;
        consensus::check_final(&self.chain, transaction)?;
        let mut spent = Vec::with_capacity(transaction.input.len());
        for input in &transaction.input {
            let outpoint = &input.previous_output;
            if draft.spent.contains(outpoint) {
                return Err(Reject::MissingInputs);
            }
            if let Some(output) = draft.made.get(outpoint) {
                spent.push(Spent::unconfirmed(&self.chain, output.clone()));
            } else if let Some(coin) = self.chain.coin(outpoint) {
                let (output, height, coinbase) = (coin.output.clone(), coin.height, coin.coinbase);
                spent.push(Spent { output, height, coinbase });
            } else {
                return Err(Reject::MissingInputs);
            }
        }
        consensus::check_sequences(&self.chain, transaction, &spent)?;
        let fee = consensus::check_values(&self.chain, transaction, &spent)?;
        self.verified.check(transaction, &consensus::outputs(&spent))?;
        let txid = transaction.compute_txid();
        draft.spent.extend(transaction.input.iter().map(|input| input.previous_output));
        for (vout, output) in (0..).zip(&transaction.output) {
            draft.made.insert(OutPoint::new(txid, vout), output.clone());
        }
        draft.fees = draft.fees.checked_add(fee).unwrap_or(Amount::MAX_MONEY);
        draft.transactions.push(Arc::clone(transaction));
        Ok(())
    }

    /// Puts the coinbase before and the header above. Regtest's proof of work takes two attempts, and with it a real node
    /// takes these blocks too.
    fn seal(&mut self, draft: Draft, pays: Option<ScriptBuf>) -> Block {
        let height = self.chain.height().saturating_add(1);
        self.made = self.made.saturating_add(1);
        let now =
            u32::try_from(self.clock.now_ms().saturating_sub(self.behind_ms) / 1_000).unwrap_or(u32::MAX);
        let earliest = self.chain.median_time_past(self.chain.height()).saturating_add(1);
        let mut txdata = vec![self.coinbase(height, draft.fees, pays)];
        txdata.extend(draft.transactions.iter().map(|transaction| transaction.as_ref().clone()));
        let header = Header {
            version: BlockVersion::from_consensus(0x2000_0000),
            prev_blockhash: self.chain.tip(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: now.max(earliest),
            bits: Params::new(Network::Regtest).max_attainable_target.to_compact_lossy(),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        let commitment = block
            .witness_root()
            .map(|root| Block::compute_witness_commitment(&root, &[0; 32]).to_byte_array());
        if let (Some(commitment), Some(coinbase)) = (commitment, block.txdata.first_mut()) {
            let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
            script.extend_from_slice(&commitment);
            coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: script.into() });
        }
        block.header.merkle_root = block.compute_merkle_root().unwrap_or_else(TxMerkleNode::all_zeros);
        let target = block.header.target();
        while block.header.validate_pow(target).is_err() {
            block.header.nonce = block.header.nonce.wrapping_add(1);
        }
        block
    }

    fn coinbase(&self, height: u32, fees: Amount, pays: Option<ScriptBuf>) -> Transaction {
        let subsidy = SUBSIDY.to_sat().checked_shr(height / HALVING).unwrap_or(0);
        let mut unlike = PushBytesBuf::new();
        let bytes = [self.seed.0.to_be_bytes(), self.made.to_be_bytes()].concat();
        unlike.extend_from_slice(&bytes).expect("16 bytes can be pushed");
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::builder().push_int(i64::from(height)).push_slice(unlike).into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0_u8; 32]]),
            }],
            output: vec![TxOut {
                value: Amount::from_sat(subsidy).checked_add(fees).unwrap_or(Amount::MAX_MONEY),
                script_pubkey: pays.unwrap_or_else(faucet::script),
            }],
        }
    }
}

//! Coins for tests and scripts: mines them to a key of its own and pays them out.
//!
//! The bitcoind we build has no wallet, so the key is here: always the same one, since regtest coins need no secret. Which
//! coins there are is read from the chain whenever it may have changed, and each is looked up in the mempool before it
//! is spent; so a miner opened later, in another process or after a reorganisation, goes on where another stopped.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::{Keypair, TapTweak, TweakedKeypair};
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    WScriptHash, Witness, absolute, taproot,
};

use crate::bitcoind::{Coin, Rpc, RpcError, View};
use crate::limits::FAN_OUT_OUTPUTS;

/// Blocks between a coinbase and the first block that may spend it.
const COINBASE_MATURITY: u32 = 100;

/// What the miner pays for its transactions, in satoshis a virtual byte: twenty times bitcoind's floor, so that it is
/// mined first under load.
const FEERATE_SAT_PER_VB: u64 = 2;

/// Change below this stays with the fee: the dust limit of a P2TR output.
const DUST: Amount = Amount::from_sat(330);

/// Why the miner cannot pay or mine.
#[derive(Debug, thiserror::Error)]
pub enum MinerError {
    /// bitcoind said no.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// All mature coins together are too few.
    #[error(
        "the miner can spend {available}, and {wanted} with the fee is asked for; mine more blocks first"
    )]
    TooFewCoins {
        /// The sum of the coins that can be spent now.
        available: Amount,
        /// The sum of the payments and the fee.
        wanted: Amount,
    },
    /// The payments add up to more than all bitcoins.
    #[error("the payments add up to more than an amount can hold")]
    Overflow,
}

/// Owns the coins that its blocks brought, and pays with them.
#[derive(Debug)]
pub struct Miner {
    rpc: Rpc,
    key: TweakedKeypair,
    address: Address,
    /// Unspent outputs of ours in the chain, coinbases first and the oldest first; some may be spent in the mempool.
    coins: Vec<Coin>,
    /// Change of ours that was in the mempool when last looked for.
    change: Vec<OutPoint>,
}

impl Miner {
    /// Opens the coins that are there; a fresh chain has none.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn open(rpc: &Rpc) -> Result<Miner, MinerError> {
        let key = key().tap_tweak(SECP256K1, None);
        let (output_key, _parity) = key.public_parts();
        let address = Address::p2tr_tweaked(output_key, Network::Regtest);
        let mut miner = Miner { rpc: rpc.clone(), key, address, coins: Vec::new(), change: Vec::new() };
        miner.rescan()?;
        Ok(miner)
    }

    /// Opens the coins that are there and mines until at least `coins` coinbases can be spent: on a fresh chain up to
    /// height 99 + `coins`, each worth 50 bitcoins up to height 149.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn with_coins(rpc: &Rpc, coins: u32) -> Result<Miner, MinerError> {
        let mut miner = Miner::open(rpc)?;
        loop {
            let mature = u32::try_from(miner.mature()?.count()).unwrap_or(u32::MAX);
            if mature >= coins {
                return Ok(miner);
            }
            let height = rpc.height()?;
            let first = COINBASE_MATURITY.saturating_sub(height.saturating_add(1));
            miner.confirm(first.max(coins - mature))?;
        }
    }

    /// Where the coins lie, and where blocks pay to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The node that this miner mines with.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Mines `blocks` blocks with what the mempool holds; gives their hashes, the oldest first.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn confirm(&mut self, blocks: u32) -> Result<Vec<BlockHash>, MinerError> {
        let hashes = self.rpc.mine(blocks, &self.address)?;
        self.rescan()?;
        Ok(hashes)
    }

    /// Mines `blocks` blocks without any transaction of the mempool.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn mine_empty(&mut self, blocks: u32) -> Result<Vec<BlockHash>, MinerError> {
        let mined: Result<Vec<_>, _> =
            (0..blocks).map(|_| self.rpc.mine_exactly(&self.address, &[])).collect();
        self.rescan()?;
        Ok(mined?)
    }

    /// Replaces the last `depth` blocks by `depth + 1` blocks without transactions: what they confirmed is unconfirmed again
    /// and back in the mempool. Gives the new blocks' hashes, the oldest first. Nobody can spend the first one's coinbase.
    ///
    /// # Errors
    /// [`MinerError::Rpc`]; refused if the chain has fewer blocks.
    pub fn reorganise(&mut self, depth: u32) -> Result<Vec<BlockHash>, MinerError> {
        if depth > 0 {
            let first = self.rpc.height()?.saturating_sub(depth - 1);
            self.rpc.invalidate_block(self.rpc.block_hash(first)?)?;
        }
        // Were the replaced block empty too and of the same second, the same coinbase would make the very block that was
        // just declared invalid.
        let mut mined = vec![self.rpc.mine_exactly(&nobody(), &[])?];
        mined.extend(self.mine_empty(depth)?);
        Ok(mined)
    }

    /// Sends `amount` to `address`, unconfirmed until the next block; gives the output that pays.
    ///
    /// # Errors
    /// [`MinerError`].
    pub fn fund(&mut self, address: &Address, amount: Amount) -> Result<OutPoint, MinerError> {
        let output = TxOut { value: amount, script_pubkey: address.script_pubkey() };
        let txid = self.send(vec![output])?.compute_txid();
        Ok(OutPoint { txid, vout: 0 })
    }

    /// Pays any number of outputs in as few transactions as policy allows, unconfirmed until the next block; gives the
    /// outputs that pay, in the order asked for. Needs a confirmed coin for each 1,000 outputs.
    ///
    /// # Errors
    /// [`MinerError`]; the first transactions may have been sent then.
    pub fn fan_out(&mut self, outputs: &[TxOut]) -> Result<Vec<OutPoint>, MinerError> {
        let mut outpoints = Vec::with_capacity(outputs.len());
        for outputs in outputs.chunks(FAN_OUT_OUTPUTS) {
            let txid = self.send(outputs.to_vec())?.compute_txid();
            outpoints.extend((0..).zip(outputs).map(|(vout, _)| OutPoint { txid, vout }));
        }
        Ok(outpoints)
    }

    /// Builds, signs and sends a transaction with these outputs first and the change, if any, last.
    ///
    /// # Errors
    /// [`MinerError`].
    pub fn send(&mut self, outputs: Vec<TxOut>) -> Result<Transaction, MinerError> {
        let transaction = self.build(outputs)?;
        let txid = self.rpc.send_raw(&transaction)?;
        let change = transaction.output.iter().rposition(|output| output.script_pubkey == self.script());
        self.change
            .extend(change.and_then(|vout| u32::try_from(vout).ok()).map(|vout| OutPoint { txid, vout }));
        Ok(transaction)
    }

    /// Builds and signs such a transaction and does not send it.
    ///
    /// # Errors
    /// [`MinerError`].
    pub fn build(&mut self, outputs: Vec<TxOut>) -> Result<Transaction, MinerError> {
        let payments = outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
        let payments = payments.ok_or(MinerError::Overflow)?;
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![],
            output: outputs,
        };
        let mut spent: Vec<TxOut> = Vec::new();
        let mut available = Amount::ZERO;
        let mut wanted = payments;
        for outpoint in self.candidates()? {
            let Some(output) = self.rpc.unspent(outpoint, View::ChainAndMempool)? else {
                self.forget(outpoint);
                continue;
            };
            available += output.value;
            transaction.input.push(input(outpoint));
            spent.push(output);
            wanted = payments.checked_add(fee(&transaction)).ok_or(MinerError::Overflow)?;
            if available >= wanted {
                break;
            }
        }
        let change = available.checked_sub(wanted).ok_or(MinerError::TooFewCoins { available, wanted })?;
        if change >= DUST {
            transaction.output.push(TxOut { value: change, script_pubkey: self.script() });
        }
        self.sign(&mut transaction, &spent);
        Ok(transaction)
    }

    /// Reads the coins from the chain again, after something else than this miner changed it.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn rescan(&mut self) -> Result<(), MinerError> {
        self.coins = self.rpc.coins_of(&[self.script()])?;
        self.coins.sort_by_key(|coin| (!coin.coinbase, coin.height, coin.outpoint));
        self.change.retain(|change| self.coins.iter().all(|coin| coin.outpoint != *change));
        Ok(())
    }

    /// What could be spent at once: the mature coins that no transaction in the mempool spends.
    ///
    /// # Errors
    /// [`MinerError::Rpc`].
    pub fn spendable(&self) -> Result<Amount, MinerError> {
        let mut sum = Amount::ZERO;
        for coin in self.mature()? {
            let unspent = self.rpc.unspent(coin.outpoint, View::ChainAndMempool)?;
            // Outputs of one chain add up to at most 21 million bitcoins.
            sum += unspent.map_or(Amount::ZERO, |output| output.value);
        }
        Ok(sum)
    }

    fn script(&self) -> ScriptBuf {
        self.address.script_pubkey()
    }

    fn mature(&self) -> Result<impl Iterator<Item = &Coin>, MinerError> {
        let next = self.rpc.height()?.saturating_add(1);
        let mature =
            move |coin: &&Coin| !coin.coinbase || next >= coin.height.saturating_add(COINBASE_MATURITY);
        Ok(self.coins.iter().filter(mature))
    }

    /// What may be spent, in the order to try: confirmed coins, then change that is not, since a mempool takes only so
    /// many transactions that hang together.
    fn candidates(&self) -> Result<Vec<OutPoint>, MinerError> {
        let coins = self.mature()?.map(|coin| coin.outpoint);
        Ok(coins.chain(self.change.iter().copied()).collect())
    }

    /// A transaction in the mempool spends it; should that transaction vanish, a rescan brings it back.
    fn forget(&mut self, spent: OutPoint) {
        self.coins.retain(|coin| coin.outpoint != spent);
        self.change.retain(|change| *change != spent);
    }

    fn sign(&self, transaction: &mut Transaction, spent: &[TxOut]) {
        let mut cache = SighashCache::new(&mut *transaction);
        for index in 0..spent.len() {
            let sighash = cache
                .taproot_key_spend_signature_hash(index, &Prevouts::All(spent), TapSighashType::Default)
                .expect("there is an output spent for each input");
            let message = Message::from_digest(sighash.to_byte_array());
            let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &self.key.to_keypair());
            let signature = taproot::Signature { signature, sighash_type: TapSighashType::Default };
            if let Some(witness) = cache.witness_mut(index) {
                *witness = Witness::p2tr_key_spend(&signature);
            }
        }
    }
}

/// The same key for everybody, so that any process can spend what another has mined.
fn key() -> Keypair {
    let secret = sha256::Hash::hash(b"the miner of a regtest chain").to_byte_array();
    let secret = SecretKey::from_slice(&secret).expect("this constant is below the order of the curve");
    Keypair::from_secret_key(SECP256K1, &secret)
}

/// An address that was never used, whose script nobody knows.
fn nobody() -> Address {
    let script = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(rand::random()));
    Address::from_script(&script, Network::Regtest).expect("a witness program has an address")
}

/// An input with room for its signature, so that it can be weighed before it is signed.
fn input(outpoint: OutPoint) -> TxIn {
    TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[[0; 64]]),
    }
}

/// For the transaction with one more output for the change.
fn fee(transaction: &Transaction) -> Amount {
    const P2TR_OUTPUT_VB: u64 = 43;
    let size = u64::try_from(transaction.vsize()).unwrap_or(u64::MAX).saturating_add(P2TR_OUTPUT_VB);
    Amount::from_sat(size.saturating_mul(FEERATE_SAT_PER_VB))
}

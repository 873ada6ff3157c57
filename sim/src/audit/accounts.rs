//! What transactions and the ends of channels cost each party, to the satoshi, as the chain holds it.
//!
//! Nothing here asks a party but for the fee that a wallet signed with its ticket. What is no party's fault has a [`Cause`]
//! and an exact amount; whatever else a party misses was taken from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::Party;
use super::chain::{LEFT_LYING, Ledger, is_commitment};
use super::coins::Coins;
use crate::chain::SimNode;

/// A balance below this has no output in an agreed close (`dust_limit_satoshis` of everybody).
pub const DUST: Amount = Amount::from_sat(354);

/// What openings leave for a channel, if nobody says otherwise: with less, claims wait for fees to fall.
const RESERVE: Amount = Amount::from_sat(10_000);

/// Why a party has less, or more, than payments and gifts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The fee of a transaction of its own.
    Fee,
    /// The value of an anchor that its child spent.
    Anchor,
    /// A coin that the funding of a channel made for the other side.
    Coin,
    /// What a commitment holds in no output: HTLCs and balances below the dust limit, parts of satoshi.
    NoOutput,
    /// An output that nobody took, worth less than its claim.
    LeftLying,
    /// An HTLC worth less than its claim, which the other side took back.
    TooSmall,
    /// An HTLC that the other side took back while this one had hardly a coin to pay for its claim: less than openings leave.
    NoCoin,
    /// What the wallet agreed to pay of an agreed close.
    AgreedFee,
    /// A balance below the dust limit in an agreed close, or a part of a satoshi.
    Dust,
}

/// What one transaction was to one party, in satoshi: less than 0 is a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub party: Party,
    pub cause: Cause,
    pub txid: Txid,
    pub sat: i128,
}

/// A channel by its funding, as whoever asks knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub wallet: usize,
    /// What its wallet agreed to pay of an agreed close.
    pub agreed_fee: Option<Amount>,
}

/// All that the best chain holds, and who spends what.
pub struct Chain {
    transactions: BTreeMap<Txid, Arc<Transaction>>,
    heights: BTreeMap<Txid, u32>,
    spenders: BTreeMap<OutPoint, (Txid, usize)>,
}

impl Chain {
    pub fn new(node: &SimNode) -> Self {
        let mut chain = Chain::empty();
        for (height, block) in node.blocks_from(0) {
            chain.add(height, &block);
        }
        chain
    }

    fn empty() -> Self {
        Chain { transactions: BTreeMap::new(), heights: BTreeMap::new(), spenders: BTreeMap::new() }
    }

    fn add(&mut self, height: u32, block: &Block) {
        for transaction in &block.txdata {
            let txid = transaction.compute_txid();
            let inputs = transaction.input.iter().enumerate();
            self.spenders.extend(inputs.map(|(index, input)| (input.previous_output, (txid, index))));
            self.transactions.insert(txid, Arc::new(transaction.clone()));
            self.heights.insert(txid, height);
        }
    }

    fn height(&self, txid: Txid) -> u32 {
        self.heights.get(&txid).copied().unwrap_or(u32::MAX)
    }

    /// Every script that an output ever had.
    pub fn scripts(&self) -> BTreeSet<ScriptBuf> {
        let outputs = self.transactions.values().flat_map(|transaction| &transaction.output);
        outputs.map(|output| output.script_pubkey.clone()).collect()
    }

    fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        self.transactions.get(&outpoint.txid)?.output.get(usize::try_from(outpoint.vout).ok()?)
    }

    /// What spends it, and at which input.
    fn spender(&self, outpoint: OutPoint) -> Option<(Txid, &Transaction, usize)> {
        let (txid, index) = *self.spenders.get(&outpoint)?;
        Some((txid, self.transactions.get(&txid)?, index))
    }

    /// None for a coinbase.
    fn fee(&self, transaction: &Transaction) -> Option<Amount> {
        let mut spent = Amount::ZERO;
        for input in &transaction.input {
            spent = spent.checked_add(self.output(&input.previous_output)?.value)?;
        }
        spent.checked_sub(total(transaction.output.iter()))
    }
}

/// Everybody's accounts.
pub struct Accounts<'a> {
    chain: &'a Chain,
    ledger: &'a Ledger,
    coins: &'a Coins,
    /// By the party, its name on the chain.
    names: &'a BTreeMap<Party, String>,
    entries: Vec<Entry>,
}

impl<'a> Accounts<'a> {
    /// `channels`: by their fundings.
    pub fn new(
        chain: &'a Chain,
        ledger: &'a Ledger,
        coins: &'a Coins,
        names: &'a BTreeMap<Party, String>,
        channels: &BTreeMap<OutPoint, Known>,
    ) -> Self {
        let mut accounts = Accounts { chain, ledger, coins, names, entries: Vec::new() };
        for (txid, transaction) in &chain.transactions {
            match closed_by(transaction).as_slice() {
                [] => accounts.add_ordinary(*txid, transaction),
                [funding] if is_commitment(transaction) => {
                    accounts.add_commitment(*txid, transaction, *funding, channels.get(funding));
                }
                _ => accounts.add_agreed(*txid, transaction, channels),
            }
        }
        accounts
    }

    pub fn of(&self, party: Party) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.party == party)
    }

    /// What this party has more, or less, for all causes together.
    pub fn total_sat(&self, party: Party) -> i128 {
        self.of(party).map(|entry| entry.sat).sum()
    }

    /// What the chain holds of this party's coins.
    pub fn held(&self, party: Party) -> Amount {
        let outputs = self.chain.transactions.iter().flat_map(|(txid, transaction)| {
            let outpoints = (0_u32..).map(move |vout| OutPoint { txid: *txid, vout });
            outpoints.zip(&transaction.output)
        });
        let unspent = outputs.filter(|(outpoint, _)| !self.chain.spenders.contains_key(outpoint));
        let own = unspent.filter(|(_, output)| self.coins.owner(&output.script_pubkey) == Some(party));
        total(own.map(|(_, output)| output))
    }

    /// What this party could pay for a claim with before this height: coins in blocks that nothing in a block spends, nor
    /// anything that it has given to its node.
    fn free_coins(&self, party: Party, height: u32) -> Amount {
        let spent = self.names.get(&party).map(|name| self.ledger.spent_by(name, height)).unwrap_or_default();
        let before = self.chain.transactions.iter().filter(|(txid, _)| self.chain.height(**txid) < height);
        let outputs = before.flat_map(|(txid, transaction)| {
            let outpoints = (0_u32..).map(move |vout| OutPoint { txid: *txid, vout });
            outpoints.zip(&transaction.output)
        });
        let own = outputs.filter(|(_, output)| self.coins.owner(&output.script_pubkey) == Some(party));
        let free = own.filter(|(outpoint, _)| {
            let spender = self.chain.spenders.get(outpoint);
            !spent.contains(outpoint) && spender.is_none_or(|(txid, _)| self.chain.height(*txid) >= height)
        });
        total(free.map(|(_, output)| output))
    }

    fn enter(&mut self, party: Party, cause: Cause, txid: Txid, sat: i128) {
        if sat != 0 {
            self.entries.push(Entry { party, cause, txid, sat });
        }
    }

    fn pays(&mut self, party: Party, cause: Cause, txid: Txid, amount: Amount) {
        self.enter(party, cause, txid, -i128::from(amount.to_sat()));
    }

    fn gets(&mut self, party: Party, cause: Cause, txid: Txid, amount: Amount) {
        self.enter(party, cause, txid, i128::from(amount.to_sat()));
    }

    /// Whose transaction it is: whose coins it spends, or who sent it to take something.
    fn payer(&self, txid: Txid, transaction: &Transaction) -> Option<Party> {
        let inputs = transaction.input.iter().filter_map(|input| self.chain.output(&input.previous_output));
        let spent = inputs.filter_map(|output| self.coins.owner(&output.script_pubkey)).next();
        let paid = || transaction.output.iter().find_map(|output| self.coins.owner(&output.script_pubkey));
        let sent = |party: &Party| self.names.get(party).is_some_and(|name| self.ledger.sent_by(txid, name));
        spent.or_else(|| paid().filter(sent))
    }

    /// One that ends no channel.
    fn add_ordinary(&mut self, txid: Txid, transaction: &Transaction) {
        let Some(payer) = self.payer(txid, transaction) else { return };
        self.pays(payer, Cause::Fee, txid, self.chain.fee(transaction).unwrap_or_default());
        let anchor = ScriptBuf::new_p2a();
        let spent = transaction.input.iter().filter_map(|input| self.chain.output(&input.previous_output));
        let anchors = total(spent.filter(|output| output.script_pubkey == anchor));
        self.gets(payer, Cause::Anchor, txid, anchors);
        for output in &transaction.output {
            if let Some(other) = self.coins.owner(&output.script_pubkey).filter(|owner| *owner != payer) {
                self.pays(payer, Cause::Coin, txid, output.value);
                self.gets(other, Cause::Coin, txid, output.value);
            }
        }
    }

    /// One that both agreed on: of any number of channels, the hub's to pay for, with each wallet's part of that.
    fn add_agreed(&mut self, txid: Txid, transaction: &Transaction, channels: &BTreeMap<OutPoint, Known>) {
        self.pays(Party::Hub, Cause::Fee, txid, self.chain.fee(transaction).unwrap_or_default());
        for (index, input) in transaction.input.iter().enumerate() {
            let Some(known) = channels.get(&input.previous_output) else { continue };
            let wallet = Party::Wallet(known.wallet);
            // What a ticket pays stands where the ticket's input does.
            let output = transaction.output.get(index);
            match output.filter(|output| self.coins.owner(&output.script_pubkey) == Some(wallet)) {
                Some(output) => {
                    let fee = known.agreed_fee.unwrap_or_default();
                    self.pays(wallet, Cause::AgreedFee, txid, fee);
                    self.pays(wallet, Cause::Dust, txid, Amount::ONE_SAT);
                    if output.value > DUST {
                        self.gets(Party::Hub, Cause::AgreedFee, txid, fee);
                    }
                }
                // What was left of its balance after the fee was below the dust limit.
                None => {
                    self.pays(wallet, Cause::AgreedFee, txid, known.agreed_fee.unwrap_or_default());
                    self.pays(wallet, Cause::Dust, txid, DUST);
                }
            }
        }
    }

    /// One side's end of a channel.
    fn add_commitment(
        &mut self,
        txid: Txid,
        transaction: &Transaction,
        funding: OutPoint,
        known: Option<&Known>,
    ) {
        let wallet = known.map(|known| Party::Wallet(known.wallet));
        let both: Vec<Party> = wallet.into_iter().chain([Party::Hub]).collect();
        let anchor = ScriptBuf::new_p2a();
        let outputs = || transaction.output.iter().filter(|output| output.script_pubkey != anchor);
        let capacity = self.chain.output(&funding).map_or(Amount::ZERO, |output| output.value);
        let no_output = capacity.checked_sub(total(outputs())).unwrap_or(Amount::ZERO);
        for party in &both {
            self.pays(*party, Cause::NoOutput, txid, no_output);
        }
        for (vout, output) in (0_u32..).zip(&transaction.output) {
            if output.script_pubkey != anchor {
                self.add_output(OutPoint { txid, vout }, output, &both);
            }
        }
    }

    /// Whether an HTLC could not be claimed for what that may cost, from the commitment's block until this took it back: it may be
    /// taken with a preimage from then on, and by the other side from its expiry on.
    fn was_too_dear(&self, party: Party, commitment: Txid, value: Amount, taken_back: &Transaction) -> bool {
        let Some(name) = self.names.get(&party) else { return false };
        let (since, expiry) = (self.chain.height(commitment), taken_back.lock_time.to_consensus_u32());
        self.ledger.was_too_dear(value, commitment, name, since.saturating_add(1), expiry)
    }

    /// An output of a commitment, or what an HTLC transaction made of it. `concerned`: whose it may be.
    fn add_output(&mut self, outpoint: OutPoint, output: &TxOut, concerned: &[Party]) {
        let Some((txid, spender, index)) = self.chain.spender(outpoint) else {
            if output.value < LEFT_LYING {
                for party in concerned {
                    self.pays(*party, Cause::LeftLying, outpoint.txid, output.value);
                }
            }
            return;
        };
        let Some(input) = spender.input.get(index) else { return };
        let taker = self.payer(txid, spender);
        if is_taken_back(&input.witness) {
            for party in concerned.iter().filter(|party| Some(**party) != taker) {
                if output.value < LEFT_LYING
                    || self.was_too_dear(*party, outpoint.txid, output.value, spender)
                {
                    self.pays(*party, Cause::TooSmall, outpoint.txid, output.value);
                } else if self.free_coins(*party, self.chain.height(txid)) < RESERVE {
                    self.pays(*party, Cause::NoCoin, outpoint.txid, output.value);
                }
            }
        }
        // HTLC transactions pair inputs and outputs; their delayed outputs are their sender's.
        let vout = u32::try_from(index).ok();
        if spender.version == bitcoin::transaction::Version::non_standard(3)
            && let Some((vout, next)) = vout.zip(spender.output.get(index))
            && self.coins.owner(&next.script_pubkey).is_none()
        {
            let concerned: Vec<Party> = taker.into_iter().collect();
            self.add_output(OutPoint { txid, vout }, next, &concerned);
        }
    }
}

fn total<'a>(outputs: impl Iterator<Item = &'a TxOut>) -> Amount {
    let sum = outputs.map(|output| output.value).try_fold(Amount::ZERO, Amount::checked_add);
    sum.unwrap_or(Amount::MAX_MONEY)
}

/// The fundings that it spends: their witness script is a 2-of-2 (BOLT 3, "Funding Transaction Output").
fn closed_by(transaction: &Transaction) -> Vec<OutPoint> {
    /// `OP_2 <33 bytes> <33 bytes> OP_2 OP_CHECKMULTISIG`.
    const LENGTH: usize = 71;
    let inputs = transaction.input.iter().filter(|input| {
        let script = input.witness.last().unwrap_or_default();
        script.len() == LENGTH && script.starts_with(&[0x52, 0x21]) && script.ends_with(&[0x52, 0xae])
    });
    inputs.map(|input| input.previous_output).collect()
}

/// Whether an HTLC's offerer took it back: no preimage stands before the script (BOLT 3, "HTLC-Timeout and HTLC-Success").
fn is_taken_back(witness: &bitcoin::Witness) -> bool {
    /// `OP_SIZE 32 OP_EQUAL`, which every HTLC's script holds.
    const OF_HTLC: [u8; 4] = [0x82, 0x01, 0x20, 0x87];
    let script = witness.last().unwrap_or_default();
    let is_htlc = script.windows(OF_HTLC.len()).any(|window| window == OF_HTLC);
    let before = witness.len().checked_sub(2).and_then(|index| witness.nth(index));
    is_htlc && before.is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{Sequence, TxIn, WPubkeyHash, Witness};
    use settlement::onchain::AddressKind;

    use super::*;
    use crate::clock::Clock;
    use crate::seed::Seed;

    fn two_of_two() -> Vec<u8> {
        [vec![0x52, 0x21], vec![2; 33], vec![0x21], vec![3; 33], vec![0x52, 0xae]].concat()
    }

    fn input(previous_output: OutPoint, witness: &[Vec<u8>]) -> TxIn {
        let witness = Witness::from_slice(witness);
        TxIn { previous_output, script_sig: ScriptBuf::new(), sequence: Sequence(0x8000_0000), witness }
    }

    fn transaction(version: Version, input: Vec<TxIn>, output: &[(u64, &ScriptBuf)]) -> Transaction {
        let output = output
            .iter()
            .map(|(sat, script)| TxOut { value: Amount::from_sat(*sat), script_pubkey: (*script).clone() });
        let lock_time = LockTime::from_consensus(0x2000_0000);
        Transaction { version, lock_time, input, output: output.collect() }
    }

    /// A chain of these transactions, whatever bitcoin would say of them.
    fn chain(transactions: Vec<Transaction>) -> Chain {
        let mut chain = Chain::empty();
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        block.txdata = transactions;
        chain.add(1, &block);
        chain
    }

    fn master(byte: u8) -> bitcoin::bip32::Xpriv {
        channel::seed_signer::SeedSigner::new(&[byte; 64]).onchain_master(bitcoin::Network::Regtest)
    }

    /// What the end of one channel of 100,000 sat cost hub and wallet.
    fn costs(version: Version, outputs: &[(u64, &ScriptBuf)], agreed_fee: Option<u64>) -> (i128, i128) {
        let p2wsh = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
        let funding = transaction(Version::TWO, vec![], &[(100_000, &p2wsh)]);
        let outpoint = OutPoint { txid: funding.compute_txid(), vout: 0 };
        let end = transaction(version, vec![input(outpoint, &[two_of_two()])], outputs);
        let chain = chain(vec![funding, end]);
        let node = SimNode::new(Seed(1), Clock::default());
        let (ledger, coins) = (Ledger::new(&node), coins());
        let known = Known { wallet: 0, agreed_fee: agreed_fee.map(Amount::from_sat) };
        let (names, channels) = (BTreeMap::new(), BTreeMap::from([(outpoint, known)]));
        let accounts = Accounts::new(&chain, &ledger, &coins, &names, &channels);
        (accounts.total_sat(Party::Hub), accounts.total_sat(Party::Wallet(0)))
    }

    fn coins() -> Coins {
        let mut coins = Coins::default();
        coins.add(Party::Wallet(0), &master(1), AddressKind::P2wpkh, &BTreeSet::new());
        coins.add(Party::Hub, &master(2), AddressKind::P2tr, &BTreeSet::new());
        coins
    }

    fn script_of(party: Party) -> ScriptBuf {
        let coins = coins();
        let mut owned = coins.scripts_of(party);
        owned.next().cloned().unwrap()
    }

    #[test]
    fn of_an_agreed_close_the_wallet_pays_what_it_signed_and_the_hub_the_rest() {
        let (wallet, hub) = (script_of(Party::Wallet(0)), script_of(Party::Hub));
        let outputs = [(59_250, &wallet), (40_000, &hub)];
        // The hub pays 750 to miners, and the wallet that to the hub; a part of a satoshi is the wallet's loss.
        assert_eq!(costs(Version::TWO, &outputs, Some(750)), (0, -751));
        assert_eq!(costs(Version::TWO, &[(99_500, &hub)], None), (-500, -354));
        // A fee that leaves no output may take all that was there.
        assert_eq!(costs(Version::TWO, &[(99_500, &hub)], Some(750)), (-500, -1_104));
    }

    #[test]
    fn what_a_commitment_holds_in_no_output_is_all_that_its_end_costs() {
        let lock = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::hash(&[1]));
        let key = ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros());
        let outputs = [(200, &ScriptBuf::new_p2a()), (39_800, &key), (60_000, &lock)];
        assert_eq!(costs(Version::non_standard(3), &outputs, None), (-200, -200));
        // Nobody took an output that is worth less than its claim.
        let outputs = [(1_499, &key), (98_501, &lock)];
        assert_eq!(costs(Version::non_standard(3), &outputs, None), (-1_499, -1_499));
    }

    #[test]
    fn an_htlc_without_preimage_was_taken_back() {
        let script = vec![0x76, 0x82, 0x01, 0x20, 0x87, 0x63];
        let before =
            |last: Vec<u8>| is_taken_back(&Witness::from_slice(&[vec![1; 71], last, script.clone()]));
        assert!(before(vec![]));
        assert!(!before(vec![7; 32]), "a preimage");
        assert!(!before(vec![2; 33]), "a revocation key");
        assert!(!is_taken_back(&Witness::from_slice(&[vec![1; 71], vec![], vec![0x63]])), "no HTLC");
    }
}

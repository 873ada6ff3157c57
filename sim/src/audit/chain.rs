//! What the chain says of channels: how each was closed, who took what, and what nobody could take.
//!
//! Nothing here asks a party. Transactions are told apart by their form, and whose they are by who sent them first: whoever
//! holds the keys of an output sends what spends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Weight};
use settlement::limits;

use super::Broken;
use crate::chain::{SimNode, Submission, Whereabouts};

/// The upper bytes of a commitment's sequence and lock time (BOLT 3, "Commitment Transaction").
const SEQUENCE_BYTE: u32 = 0x80;
const LOCK_TIME_BYTE: u32 = 0x20;
/// What is worth less may be left where it is: the claim of an HTLC, its coin and the claim of its delayed output cost as
/// much when blocks are full.
pub const LEFT_LYING: Amount = Amount::from_sat(1_500);

/// The lightest claim of an HTLC: out of the other side's commitment, and with no coin to pay for it.
const CLAIM_WEIGHT: Weight = Weight::from_wu(560);
/// The lightest out of one's own: a transaction that both signed, a coin to pay for it, and change.
const OWN_CLAIM_WEIGHT: Weight = Weight::from_wu(1_050);

/// How a channel was closed, as the chain holds it.
#[derive(Clone, Debug)]
pub struct Closing {
    pub txid: Txid,
    pub transaction: Arc<Transaction>,
}

/// Whether a transaction has the form of a commitment.
pub fn is_commitment(transaction: &Transaction) -> bool {
    let [input] = transaction.input.as_slice() else { return false };
    transaction.version == Version::non_standard(3)
        && input.sequence.to_consensus_u32() >> 24 == SEQUENCE_BYTE
        && transaction.lock_time.to_consensus_u32() >> 24 == LOCK_TIME_BYTE
}

/// Where an output went.
enum Went {
    /// Nowhere.
    Nowhere,
    /// One who sent this transaction took it.
    To(Txid, Arc<Transaction>),
}

/// The chain, and who sent what.
pub struct Ledger {
    node: SimNode,
    senders: BTreeMap<Txid, BTreeSet<Arc<str>>>,
    /// All that anybody sent, whatever became of it.
    sent: BTreeMap<Txid, Arc<Transaction>>,
}

impl Ledger {
    pub fn new(node: &SimNode) -> Self {
        let mut senders: BTreeMap<Txid, BTreeSet<Arc<str>>> = BTreeMap::new();
        let mut transactions = BTreeMap::new();
        for sent in node.submissions(0) {
            senders.entry(sent.txid).or_default().insert(sent.label);
            transactions.insert(sent.txid, sent.transaction);
        }
        Ledger { node: node.clone(), senders, sent: transactions }
    }

    /// Whether something in the chain has taken what this transaction spends, or what that was to be made of.
    pub fn can_never_be(&self, txid: Txid) -> bool {
        let mut waiting = vec![txid];
        while let Some(txid) = waiting.pop() {
            let Some(transaction) = self.sent.get(&txid).filter(|_| !self.is_confirmed(txid)) else {
                continue;
            };
            for input in &transaction.input {
                match self.went(input.previous_output) {
                    Went::To(..) => return true,
                    Went::Nowhere => waiting.push(input.previous_output.txid),
                }
            }
        }
        false
    }

    /// Whether whoever has this name could claim no HTLC of this value out of the commitment, from one height to another, for what
    /// that may cost: blocks were too full.
    pub fn was_too_dear(&self, value: Amount, commitment: Txid, label: &str, from: u32, to: u32) -> bool {
        let weight = if self.sent_by(commitment, label) { OWN_CLAIM_WEIGHT } else { CLAIM_WEIGHT };
        let cost = self.node.least_minimum(from..=to.max(from)).fee_wu(weight).unwrap_or(Amount::MAX);
        cost > value / limits::BUDGET_DIVISOR
    }

    /// Whether the party with this name sent it.
    pub fn sent_by(&self, txid: Txid, label: &str) -> bool {
        self.senders.get(&txid).is_some_and(|labels| labels.contains(label))
    }

    /// Who sent it, by their names.
    pub fn senders(&self, txid: Txid) -> String {
        let Some(senders) = self.senders.get(&txid) else { return "nobody".to_owned() };
        senders.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" and ")
    }

    /// Whether it is an HTLC transaction, which a delayed claim follows: their version is 3, like that of all that concerns
    /// commitments, and each output answers an input.
    pub fn is_second_stage(&self, txid: Txid) -> bool {
        self.node.find(txid).is_some_and(|transaction| transaction.version == Version::non_standard(3))
    }

    /// What this party's transactions spent that it gave to its node below this height.
    pub fn spent_by(&self, label: &str, height: u32) -> BTreeSet<OutPoint> {
        let sent = self.node.submissions(0).into_iter();
        let own = sent.filter(|sent| *sent.label == *label && sent.height < height);
        own.flat_map(|sent| {
            sent.transaction.input.iter().map(|input| input.previous_output).collect::<Vec<_>>()
        })
        .collect()
    }

    fn is_confirmed(&self, txid: Txid) -> bool {
        matches!(self.node.transaction(txid), Whereabouts::Confirmed { .. })
    }

    fn went(&self, outpoint: OutPoint) -> Went {
        let spender = self.node.spender_of(outpoint).filter(|txid| self.is_confirmed(*txid));
        match spender.and_then(|txid| Some((txid, self.node.find(txid)?))) {
            Some((txid, transaction)) => Went::To(txid, transaction),
            None => Went::Nowhere,
        }
    }

    /// What closed the channel with this funding.
    pub fn closing(&self, funding: OutPoint) -> Option<Closing> {
        let Went::To(txid, transaction) = self.went(funding) else { return None };
        Some(Closing { txid, transaction })
    }

    fn outputs<'a>(&self, closing: &'a Closing) -> impl Iterator<Item = (OutPoint, &'a TxOut)> + 'a {
        let (txid, anchor) = (closing.txid, ScriptBuf::new_p2a());
        let outputs = (0_u32..).zip(&closing.transaction.output);
        outputs
            .filter(move |(_, output)| output.script_pubkey != anchor)
            .map(move |(vout, output)| (OutPoint { txid, vout }, output))
    }

    /// Of a revoked commitment everything is the victim's: each output, or the delayed output of what the cheater made of it.
    pub fn check_cheated(&self, closing: &Closing, victim: &str) -> Result<(), Broken> {
        for (outpoint, output) in self.outputs(closing) {
            self.check_taken(outpoint, output, victim, true)?;
        }
        Ok(())
    }

    fn check_taken(
        &self,
        outpoint: OutPoint,
        output: &TxOut,
        victim: &str,
        second_stage: bool,
    ) -> Result<(), Broken> {
        let broken = |what: String| {
            let what = format!("{} of {outpoint}, revoked, {what}; {victim} is the victim", output.value);
            Err(Broken::new("a cheater loses everything", what))
        };
        match self.went(outpoint) {
            // Not worth its penalty, whoever took it.
            Went::Nowhere | Went::To(..) if output.value < LEFT_LYING => Ok(()),
            Went::Nowhere => broken("lies there".to_owned()),
            Went::To(txid, _) if self.sent_by(txid, victim) => Ok(()),
            Went::To(txid, by) => match behind(outpoint, &by) {
                Some((next, output)) if second_stage && by.version == Version::non_standard(3) => {
                    self.check_taken(next, output, victim, false)
                }
                Some(_) | None => broken(format!("went into {txid}")),
            },
        }
    }
}

/// The output that an HTLC transaction makes of this one: at the same place (`SINGLE|ANYONECANPAY` pairs them).
fn behind(outpoint: OutPoint, by: &Transaction) -> Option<(OutPoint, &TxOut)> {
    let index = by.input.iter().position(|input| input.previous_output == outpoint)?;
    let vout = u32::try_from(index).ok()?;
    Some((OutPoint { txid: by.compute_txid(), vout }, by.output.get(index)?))
}

/// Looks at what honest parties send, as they send it.
#[derive(Debug, Default)]
pub struct Watchman {
    seen: usize,
    /// The commitment that each published, by its label and the funding.
    published: BTreeMap<(Arc<str>, OutPoint), Txid>,
}

impl Watchman {
    /// What was sent since the last look. `honest`: whose it is to keep to the rules.
    pub fn look(&mut self, node: &SimNode, honest: impl Fn(&str) -> bool) -> Result<(), Broken> {
        for sent in node.submissions(self.seen) {
            self.seen += 1;
            if honest(&sent.label) {
                self.check(&sent)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, sent: &Submission) -> Result<(), Broken> {
        let Submission { label, transaction, txid, answer, .. } = sent;
        if let Err(words) = answer
            && words.contains("script-verify")
        {
            let what = format!("{label} sends {txid}: {words}");
            return Err(Broken::new("nothing unverified is published", what));
        }
        if !is_commitment(transaction) {
            return Ok(());
        }
        // Whoever publishes a commitment makes no further state: another one would be older, so revoked.
        let Some(funding) = transaction.input.first().map(|input| input.previous_output) else {
            return Ok(());
        };
        let before = *self.published.entry((Arc::clone(label), funding)).or_insert(*txid);
        if before != *txid {
            let what = format!("{label} sends {before} and {txid} for {funding}");
            return Err(Broken::new("nothing revoked is published", what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::{FeeRate, Sequence, TxIn, WScriptHash, Witness};

    use super::*;
    use crate::chain::{Mine, Pressure};
    use crate::clock::Clock;
    use crate::seed::Seed;

    fn commitment(number: u32) -> Transaction {
        Transaction {
            version: Version::non_standard(3),
            lock_time: LockTime::from_consensus(0x2000_0000 | number),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::new(),
                sequence: Sequence(0x8000_0000),
                witness: Witness::new(),
            }],
            output: vec![],
        }
    }

    fn sent(label: &str, transaction: Transaction, answer: Result<(), String>) -> Submission {
        let txid = transaction.compute_txid();
        Submission { label: label.into(), transaction: Arc::new(transaction), txid, height: 1, answer }
    }

    #[test]
    fn a_party_that_publishes_two_states_of_a_channel_is_found_out() {
        let mut watchman = Watchman::default();
        watchman.check(&sent("hub", commitment(1), Ok(()))).unwrap();
        watchman.check(&sent("hub", commitment(1), Err("min relay fee not met".to_owned()))).unwrap();
        watchman.check(&sent("wallet 0", commitment(2), Ok(()))).unwrap();
        let broken = watchman.check(&sent("hub", commitment(2), Ok(()))).unwrap_err();
        assert_eq!(broken.rule, "nothing revoked is published");
    }

    #[test]
    fn a_transaction_whose_script_fails_was_not_verified() {
        let words = "mempool-script-verify-flag-failed (Invalid Schnorr signature)".to_owned();
        let broken = Watchman::default().check(&sent("hub", commitment(1), Err(words))).unwrap_err();
        assert_eq!(broken.rule, "nothing unverified is published");
    }

    /// `OP_1`: anybody may spend it.
    const TRUE: [u8; 1] = [0x51];

    fn anybodys() -> ScriptBuf {
        ScriptBuf::new_p2wsh(&WScriptHash::hash(&TRUE))
    }

    fn spend(coin: OutPoint, sat: u64) -> Transaction {
        let witness = Witness::from_slice(&[TRUE]);
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: coin, witness, ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey: anybodys() }],
        }
    }

    #[test]
    fn what_rests_on_a_coin_that_something_else_took_can_never_be() {
        let node = SimNode::new(Seed(1), Clock::default());
        node.fund(&anybodys(), Amount::from_sat(10_000));
        node.mine_blocks(1);
        // The faucet's own are as free to take.
        let coins = node.unspent(|script| *script == *anybodys());
        let coin = coins.iter().find(|coin| coin.output.value == Amount::from_sat(10_000)).unwrap().outpoint;
        let (parent, rival) = (spend(coin, 9_000), spend(coin, 8_000));
        let child = spend(OutPoint { txid: parent.compute_txid(), vout: 0 }, 7_000);
        let sent = [&parent, &child].map(|one| (one.compute_txid(), Arc::new(one.clone())));
        let ledger = Ledger { sent: sent.into(), ..Ledger::new(&node) };
        assert!(!ledger.can_never_be(parent.compute_txid()) && !ledger.can_never_be(child.compute_txid()));
        node.mine(&Mine { include: vec![rival], ..Mine::nothing() });
        assert!(ledger.can_never_be(parent.compute_txid()) && ledger.can_never_be(child.compute_txid()));
    }

    #[test]
    fn a_claim_was_too_dear_only_if_it_was_so_in_every_block() {
        let node = SimNode::new(Seed(1), Clock::default());
        let at =
            |sat_per_kwu| Pressure { minimum: FeeRate::from_sat_per_kwu(sat_per_kwu), ..Pressure::default() };
        let start = node.height();
        node.set_pressure(at(5_000));
        node.mine_blocks(3);
        node.set_pressure(at(1_000));
        node.mine_blocks(1);
        let commitment = spend(OutPoint::null(), 1).compute_txid();
        let senders = BTreeMap::from([(commitment, BTreeSet::from([Arc::from("hub")]))]);
        let ledger = Ledger { senders, ..Ledger::new(&node) };
        let too_dear = |sat, label, last| {
            ledger.was_too_dear(Amount::from_sat(sat), commitment, label, start + 2, start + last)
        };
        // Half of it may be spent, and one's own takes more room.
        assert!(too_dear(10_000, "hub", 3) && !too_dear(11_000, "hub", 3));
        assert!(too_dear(5_000, "wallet", 3) && !too_dear(6_000, "wallet", 3));
        assert!(!too_dear(10_000, "hub", 4), "the last block was cheap");
    }
}

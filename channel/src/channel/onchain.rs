//! The commitment that the chain holds, and those of its outputs that concern us (BOLT 5).
//!
//! Made by `check` when the funding is spent, changed by what the chain tells of the outputs, dropped as a whole when
//! the block with the commitment is disconnected. Results that were given stay given.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, TxOut, Txid, Witness};
use serde::{Deserialize, Serialize};

use super::htlc::{Htlcs, Offered, Removal};
use crate::commitment::{HtlcDirection, HtlcSpec};
use crate::keys::Point;
use crate::parameters::Side;
use crate::shachain::CommitmentSecret;

/// The spend of the funding that is in a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OnChain {
    pub(super) txid: Txid,
    pub(super) height: u32,
    /// The commitment's number; 0 of [`Whose::Foreign`].
    pub(super) number: u64,
    pub(super) whose: Whose,
    pub(super) is_final: bool,
    /// Outputs of the commitment and of HTLC transactions, as far as they concern us.
    pub(super) outputs: BTreeMap<OutPoint, Output>,
}

/// Whose commitment it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Whose {
    /// Our latest.
    Ours,
    /// The counterparty's latest, or the one before while that is not revoked.
    Theirs { point: Point },
    /// One that the counterparty revoked.
    Revoked { secret: CommitmentSecret },
    /// The counterparty's, newer than any we know: we lost data.
    Newer,
    /// No commitment that could be told: nothing in it is ours but what pays our payment key.
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    pub(super) output: TxOut,
    /// Of the block with the transaction whose output it is.
    pub(super) height: u32,
    pub(super) part: Part,
    pub(super) spend: Option<Spend>,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    /// The broadcaster's delayed balance: ours, or the cheater's.
    ToLocal,
    /// Our balance in a commitment of the counterparty's.
    ToRemote,
    /// `position` is that of the counterparty's signature, in our own commitment.
    Htlc { spec: HtlcSpec, position: u32 },
    /// The delayed output of an HTLC transaction: ours, or the cheater's. `parent` is the HTLC's output.
    SecondStage { spec: HtlcSpec, parent: OutPoint },
    /// Of a commitment that we do not know: worth as much as an HTLC that we offered, so it may be that.
    Candidate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spend {
    pub(super) txid: Txid,
    pub(super) height: u32,
    pub(super) by: Side,
    pub(super) is_final: bool,
}

/// HTLC transactions have both signatures and what opens the lock; all other spends have fewer elements. The script
/// leaves no other number to either (BIP 141 demands a clean stack).
const HTLC_TRANSACTION_WITNESS: usize = 5;

impl Output {
    fn is_spent_for_good(&self) -> bool {
        self.spend.is_some_and(|spend| spend.is_final)
    }

    /// Whether the counterparty can never take it.
    pub(super) fn is_ours_for_good(&self) -> bool {
        self.spend.is_some_and(|spend| spend.is_final && spend.by == Side::Holder)
    }
}

/// What Bitcoin's script takes for true. Blocks may hold more ways to say so than nodes relay: a cheater that mines can choose
/// its branch by a zero of one byte.
fn is_true(element: &[u8]) -> bool {
    match element.split_last() {
        Some((last, others)) => others.iter().any(|byte| *byte != 0) || !matches!(last, 0 | 0x80),
        None => false,
    }
}

impl OnChain {
    /// Whether we offered an HTLC of this commitment.
    pub(super) fn offered_by_us(&self, spec: &HtlcSpec) -> bool {
        match self.whose {
            Whose::Ours => spec.direction == HtlcDirection::Offered,
            Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign => {
                spec.direction == HtlcDirection::Received
            }
        }
    }

    /// Who spent an output, by the witness that did.
    pub(super) fn spender(&self, part: &Part, witness: &Witness) -> Side {
        let by_htlc_transaction = witness.len() == HTLC_TRANSACTION_WITNESS;
        match (&self.whose, part) {
            (_, Part::ToRemote) => Side::Holder,
            (_, Part::Candidate) => Side::Counterparty,
            (Whose::Ours, Part::ToLocal | Part::SecondStage { .. }) => Side::Holder,
            (Whose::Ours, Part::Htlc { .. }) => {
                if by_htlc_transaction {
                    Side::Holder
                } else {
                    Side::Counterparty
                }
            }
            (
                Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign,
                Part::Htlc { .. },
            ) => {
                if by_htlc_transaction {
                    Side::Counterparty
                } else {
                    Side::Holder
                }
            }
            // The branch is chosen by the element after the signature: nothing for the delayed one, 1 for ours.
            (
                Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign,
                Part::ToLocal | Part::SecondStage { .. },
            ) => {
                if witness.nth(1).is_some_and(is_true) {
                    Side::Holder
                } else {
                    Side::Counterparty
                }
            }
        }
    }

    /// Whether the spend of this HTLC by that side moves it into a delayed output that concerns us.
    pub(super) fn has_second_stage(&self, part: &Part, by: Side) -> bool {
        let mover = match self.whose {
            Whose::Ours => Side::Holder,
            Whose::Revoked { .. } => Side::Counterparty,
            Whose::Theirs { .. } | Whose::Newer | Whose::Foreign => return false,
        };
        matches!(part, Part::Htlc { .. }) && by == mover
    }

    /// The outputs of HTLCs that we offered. Those with one script and value are interchangeable: which HTLC each belongs to is a
    /// matter of order, and whoever takes one may mean another.
    pub(super) fn offered_outputs(&self) -> BTreeMap<&TxOut, Vec<(OutPoint, &Output, &HtlcSpec)>> {
        let mut alike: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (outpoint, output) in &self.outputs {
            match &output.part {
                Part::Htlc { spec, .. } if self.offered_by_us(spec) => {
                    alike.entry(&output.output).or_default().push((*outpoint, output, spec));
                }
                Part::Htlc { .. }
                | Part::ToLocal
                | Part::ToRemote
                | Part::SecondStage { .. }
                | Part::Candidate => {}
            }
        }
        alike
    }

    /// The HTLCs that we offered and that the chain has not decided yet. The commitment is final.
    ///
    /// Of outputs that are alike, those that we did not take back for good pay as many HTLCs as they are: first the ones that
    /// were fulfilled before. These stay until the last output is decided: who forgot one would charge another payer for it.
    pub(super) fn undecided<'a>(
        &self,
        htlcs: impl Iterator<Item = (&'a u64, &'a Offered)>,
        is_fulfilled: impl Fn(u64) -> bool,
    ) -> BTreeSet<u64> {
        if self.whose == Whose::Newer {
            return self.undecidable(htlcs);
        }
        let mut undecided = BTreeSet::new();
        for alike in self.offered_outputs().values() {
            if alike.iter().all(|(_, output, _)| output.is_spent_for_good()) {
                continue;
            }
            let may_pay = alike.iter().filter(|(_, output, _)| !output.is_ours_for_good()).count();
            let mut ids: Vec<(bool, bool, u64)> = alike
                .iter()
                .map(|(_, output, spec)| (!is_fulfilled(spec.id), output.is_spent_for_good(), spec.id))
                .collect();
            ids.sort_unstable();
            let fulfilled = ids.iter().filter(|(unpaid, _, _)| !unpaid).count();
            undecided.extend(ids.iter().take(fulfilled.max(may_pay)).map(|(_, _, id)| *id));
        }
        undecided
    }

    /// Those of them that we can do nothing about: each may be one of the unspent outputs of a commitment that we do not know,
    /// which its receiver alone can spend. Until they are given up.
    pub(super) fn undecidable<'a>(
        &self,
        htlcs: impl Iterator<Item = (&'a u64, &'a Offered)>,
    ) -> BTreeSet<u64> {
        let unspent = self.outputs.values().filter(|output| !output.is_spent_for_good());
        let candidates = unspent.filter(|output| output.part == Part::Candidate);
        let values: BTreeSet<_> = candidates.map(|output| output.output.value).collect();
        let may_be = |htlc: &Offered| {
            !htlc.trimmed && !htlc.given_up && values.contains(&htlc.add.amount_msat.to_sat_floor())
        };
        htlcs.filter(|(_, htlc)| may_be(htlc)).map(|(id, _)| *id).collect()
    }

    /// From when on the counterparty may take an HTLC whose preimage we know, unless we have it for good by then.
    pub(super) fn earliest_claimable_expiry(&self, htlcs: &Htlcs) -> Option<u32> {
        if !matches!(self.whose, Whose::Ours | Whose::Theirs { .. }) {
            return None;
        }
        let unclaimed = self.outputs.values().filter(|output| !output.is_spent_for_good());
        let claimable = unclaimed.filter_map(|output| match &output.part {
            Part::Htlc { spec, .. } if !self.offered_by_us(spec) => {
                let htlc = htlcs.received.get(&spec.id)?;
                matches!(htlc.removal, Some(Removal::Fulfilled(_))).then_some(spec.cltv_expiry)
            }
            Part::Htlc { .. }
            | Part::ToLocal
            | Part::ToRemote
            | Part::SecondStage { .. }
            | Part::Candidate => None,
        });
        claimable.min()
    }

    /// Whether nothing more can happen to what concerns us.
    pub(super) fn is_over(&self, htlcs: &Htlcs) -> bool {
        self.is_final && self.outputs.values().all(|output| self.is_over_for_us(output, htlcs))
    }

    fn is_over_for_us(&self, output: &Output, htlcs: &Htlcs) -> bool {
        if output.is_spent_for_good() {
            return true;
        }
        match (&self.whose, &output.part) {
            // Undecided offers keep the channel, not the outputs that may belong to them.
            (_, Part::Candidate) => true,
            (Whose::Ours | Whose::Theirs { .. }, Part::Htlc { spec, .. }) if !self.offered_by_us(spec) => {
                htlcs.received.get(&spec.id).is_none_or(|htlc| match htlc.removal {
                    Some(Removal::Fulfilled(_)) => false,
                    Some(Removal::Failed(_)) => true,
                    // Never passed on: nobody will bring its preimage.
                    None => htlc.route.is_none(),
                })
            }
            (
                Whose::Ours | Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign,
                Part::ToLocal | Part::ToRemote | Part::Htlc { .. } | Part::SecondStage { .. },
            ) => false,
        }
    }

    /// What of it this side took, in satoshi.
    pub(super) fn taken_sat(&self) -> u64 {
        self.outputs
            .values()
            .filter(|output| {
                let ours = output.spend.is_some_and(|spend| spend.by == Side::Holder);
                // What our HTLC transaction moves is counted where it comes to rest.
                ours && !self.has_second_stage(&output.part, Side::Holder)
            })
            .fold(0, |sum: u64, output| sum.saturating_add(output.output.value.to_sat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_took_a_revoked_balance_is_told_by_what_the_chosen_branch_is_to_bitcoins_script() {
        let secret = CommitmentSecret::from_bytes([1; 32]);
        let onchain = OnChain {
            txid: bitcoin::hashes::Hash::all_zeros(),
            height: 1,
            number: 1,
            whose: Whose::Revoked { secret },
            is_final: false,
            outputs: BTreeMap::new(),
        };
        for (chosen, by) in [
            (vec![], Side::Counterparty),
            (vec![0], Side::Counterparty),
            (vec![0, 0], Side::Counterparty),
            (vec![0x80], Side::Counterparty),
            (vec![0, 0x80], Side::Counterparty),
            (vec![1], Side::Holder),
            (vec![0x80, 0], Side::Holder),
            (vec![0, 1], Side::Holder),
        ] {
            let witness = Witness::from_slice(&[vec![7u8; 71], chosen.clone(), vec![9; 77]]);
            assert_eq!(onchain.spender(&Part::ToLocal, &witness), by, "{chosen:?}");
        }
    }
}

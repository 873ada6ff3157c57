//! What the chain holds of this channel: whose commitment it is, which outputs concern us, who spent them, and which
//! preimages that showed (BOLT 5). All curve work of it is done here.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction, TxOut, Txid};

use super::{Verdict, decided};
use crate::bug::{self, Bug};
use crate::bytes::PaymentHash;
use crate::channel::htlc::Which;
use crate::channel::input::Kind;
use crate::channel::onchain::{OnChain, Output, Part, Spend, Whose};
use crate::channel::state::Phase;
use crate::channel::{Channel, Checked, Context};
use crate::claim::{Published, preimage_in};
use crate::commitment::{CommitmentTransaction, HtlcSpec, OutputKind, commitment_number};
use crate::error::FailureCause;
use crate::keys::Point;
use crate::message::Preimage;
use crate::parameters::Side;
use crate::scripts;
use crate::signer::Signer;

/// A transaction in a block.
pub(super) struct InBlock<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) txid: Txid,
    pub(super) height: u32,
}

impl Channel {
    /// The funding is spent by something else than the agreed close.
    pub(super) fn check_commitment(
        &self,
        spend: &InBlock<'_>,
        revoked_htlcs: Option<Vec<HtlcSpec>>,
        context: &Context<'_>,
    ) -> Verdict {
        let known = self.state.onchain.as_ref();
        if known.is_some_and(|known| known.txid == spend.txid && known.height == spend.height) {
            return Ok(Checked::Nothing);
        }
        let onchain = self.identify(spend, revoked_htlcs.unwrap_or_default(), context.signer);
        let (txid, number) = (onchain.txid, onchain.number);
        let cause = match onchain.whose {
            Whose::Ours => FailureCause::PublishedElsewhere { txid },
            Whose::Theirs { .. } => FailureCause::CounterpartyClosed { txid },
            Whose::Revoked { .. } => FailureCause::Cheated { txid, number },
            Whose::Newer => FailureCause::NewerCommitment { txid, number },
            Whose::Foreign => FailureCause::UnexpectedSpend { txid },
        };
        decided(Kind::CommitmentFound { onchain: Box::new(onchain), cause })
    }

    /// Whose commitment a spend of the funding is. Both signed it, and we signed one commitment of each number: so the
    /// number tells which of the counterparty's it is, and its scripts what is in it.
    fn identify(&self, spend: &InBlock<'_>, revoked: Vec<HtlcSpec>, signer: &dyn Signer) -> OnChain {
        let empty = |number, whose| OnChain {
            txid: spend.txid,
            height: spend.height,
            number,
            whose,
            is_final: false,
            outputs: BTreeMap::new(),
        };
        let number = commitment_number(spend.transaction, self.context().obscuring_factor());
        if self.has_data()
            && let Some(ours) = self.holder_commitment(signer)
            && ours.txid() == spend.txid
        {
            let outputs = own_outputs(&ours, spend);
            return OnChain { outputs, ..empty(ours.number(), Whose::Ours) };
        }
        let Some(number) = number else { return self.unknown(empty(0, Whose::Foreign), spend) };
        let Some((whose, specs)) = self.version_of_theirs(number, revoked) else {
            return self.unknown(empty(number, Whose::Newer), spend);
        };
        let found = empty(number, whose);
        match self.their_outputs(&found, spend, specs, signer) {
            Some(outputs) => OnChain { outputs, ..found },
            None => self.unknown(empty(0, Whose::Foreign), spend),
        }
    }

    /// Whether this channel knows commitments at all.
    fn has_data(&self) -> bool {
        self.state.holder.signatures.is_some()
    }

    /// Which of the counterparty's commitments has this number, and its HTLCs with outputs.
    fn version_of_theirs(&self, number: u64, revoked: Vec<HtlcSpec>) -> Option<(Whose, Vec<HtlcSpec>)> {
        if !self.has_data() {
            return None;
        }
        let their = self.state.their();
        if let Some(secret) = their.secrets.get(number) {
            return Some((Whose::Revoked { secret }, revoked));
        }
        let latest = || self.state.htlcs.specs(Side::Counterparty, Which::latest);
        let theirs = |point: &Point| Whose::Theirs { point: *point };
        if number == their.number {
            return Some((theirs(their.latest_point()), latest()));
        }
        let previous = their.awaiting_revocation && number.checked_add(1) == Some(their.number);
        previous.then(|| (theirs(&their.unrevoked_point), their.to_be_revoked.clone()))
    }

    /// The outputs of a commitment of the counterparty's that concern us, by their scripts. None if it pays like none
    /// of its: an old one of ours has the same number.
    fn their_outputs(
        &self,
        found: &OnChain,
        spend: &InBlock<'_>,
        specs: Vec<HtlcSpec>,
        signer: &dyn Signer,
    ) -> Option<BTreeMap<OutPoint, Output>> {
        let keys = self.keys_of(found, signer)?;
        let published = Published { context: self.context(), keys: &keys, broadcaster: Side::Counterparty };
        let delayed = scripts::p2wsh(&published.delayed_script());
        let (ours, _) = published.to_countersignatory();
        let mut htlcs = HtlcScripts::new(&published, specs);
        let revoked = matches!(found.whose, Whose::Revoked { .. });
        let (mut outputs, mut recognised, mut others) = (BTreeMap::new(), false, false);
        for (outpoint, output) in outputs_of(spend) {
            let part = if output.script_pubkey == delayed {
                recognised = true;
                revoked.then_some(Part::ToLocal)
            } else if output.script_pubkey == ours {
                Some(Part::ToRemote)
            } else {
                htlcs.take(output).map(|spec| Part::Htlc { spec, position: 0 })
            };
            recognised |= part.is_some();
            others |= output.script_pubkey != scripts::shared_anchor();
            if let Some(part) = part {
                outputs.insert(outpoint, new_output(output, spend.height, part));
            }
        }
        (recognised || !others).then_some(outputs)
    }

    /// A spend of which we know nothing but our payment key. What is worth as much as an HTLC that we offered may be it.
    fn unknown(&self, found: OnChain, spend: &InBlock<'_>) -> OnChain {
        let payment = &self.context().basepoints(Side::Holder).payment;
        let (ours, _) = scripts::to_countersignatory(self.state.terms.format, payment);
        let offered = || self.state.htlcs.offered.values().filter(|htlc| !htlc.trimmed);
        let outputs = outputs_of(spend).filter_map(|(outpoint, output)| {
            let part = if output.script_pubkey == ours {
                Part::ToRemote
            } else if found.whose == Whose::Newer
                && output.script_pubkey.is_p2wsh()
                && offered().any(|htlc| htlc.add.amount_msat.to_sat_floor() == output.value)
            {
                Part::Candidate
            } else {
                return None;
            };
            Some((outpoint, new_output(output, spend.height, part)))
        });
        OnChain { outputs: outputs.collect(), ..found }
    }

    /// An output of the commitment, or of an HTLC transaction, was spent in a block.
    pub(super) fn check_output_spent(
        &self,
        outpoint: OutPoint,
        spend: &InBlock<'_>,
        context: &Context<'_>,
    ) -> Verdict {
        let preimages = self.preimages_in(spend.transaction);
        let seen = |preimages: Vec<_>| {
            if preimages.is_empty() {
                Ok(Checked::Nothing)
            } else {
                decided(Kind::PreimagesSeen { preimages })
            }
        };
        let Some((onchain, output)) = self.known_output(outpoint) else { return seen(preimages) };
        let repeat = output.spend.is_some_and(|known| {
            known.is_final || (known.txid == spend.txid && known.height == spend.height)
        });
        let inputs = &spend.transaction.input;
        let index = inputs.iter().position(|input| input.previous_output == outpoint);
        let (false, Some(index)) = (repeat, index) else { return seen(preimages) };
        let by = onchain.spender(&output.part, &inputs[index].witness);
        let second_stage = onchain
            .has_second_stage(&output.part, by)
            .then(|| self.second_stage(onchain, spend.transaction, index, context.signer))
            .flatten();
        let spend = Spend { txid: spend.txid, height: spend.height, by, is_final: false };
        decided(Kind::OutputSpent { outpoint, spend, second_stage, preimages })
    }

    /// The delayed output that the counterparty's signature (`SINGLE|ANYONECANPAY`) pairs with an HTLC transaction's
    /// input.
    fn second_stage(
        &self,
        onchain: &OnChain,
        transaction: &Transaction,
        index: usize,
        signer: &dyn Signer,
    ) -> Option<(OutPoint, TxOut)> {
        let broadcaster = match onchain.whose {
            Whose::Ours => Side::Holder,
            Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign => {
                Side::Counterparty
            }
        };
        let keys = self.keys_of(onchain, signer)?;
        let published = Published { context: self.context(), keys: &keys, broadcaster };
        let output = transaction.output.get(index)?;
        let place = OutPoint { txid: transaction.compute_txid(), vout: u32::try_from(index).ok()? };
        let delayed = scripts::p2wsh(&published.delayed_script());
        (output.script_pubkey == delayed).then(|| (place, output.clone()))
    }

    /// The block with a spend was disconnected.
    pub(super) fn check_output_undone(&self, outpoint: OutPoint, txid: Txid) -> Verdict {
        match self.known_output(outpoint).and_then(|(_, output)| output.spend) {
            Some(spend) if spend.txid == txid => decided(Kind::OutputUndone { outpoint }),
            Some(_) | None => Ok(Checked::Nothing),
        }
    }

    pub(super) fn check_output_final(&self, outpoint: OutPoint, txid: Txid) -> Verdict {
        match self.known_output(outpoint).and_then(|(_, output)| output.spend) {
            Some(spend) if spend.txid == txid && !spend.is_final => decided(Kind::OutputFinal { outpoint }),
            Some(_) | None => Ok(Checked::Nothing),
        }
    }

    /// Nobody takes the output. Of a commitment that may still be undone nothing is given up.
    pub(super) fn check_given_up(&self, outpoint: OutPoint) -> Verdict {
        match self.known_output(outpoint) {
            Some((onchain, output)) if onchain.is_final && output.spend.is_none() => {
                decided(Kind::OutputGivenUp { outpoint })
            }
            Some(_) | None => Ok(Checked::Nothing),
        }
    }

    /// A transaction that waits for a block: preimages in it count at once.
    pub(super) fn check_mempool(&self, transaction: &Transaction) -> Verdict {
        let preimages = self.preimages_in(transaction);
        if preimages.is_empty() { Ok(Checked::Nothing) } else { decided(Kind::PreimagesSeen { preimages }) }
    }

    fn known_output(&self, outpoint: OutPoint) -> Option<(&OnChain, &Output)> {
        let (Phase::Failed { .. }, Some(onchain)) = (&self.state.phase, &self.state.onchain) else {
            return None;
        };
        Some((onchain, onchain.outputs.get(&outpoint)?))
    }

    /// The HTLCs that we offered and that a transaction pays to the counterparty for a preimage, unless they are fulfilled
    /// already.
    ///
    /// A preimage opens every HTLC with its hash, but each output pays one: of two payers of one invoice only the one whose HTLC
    /// was taken has paid. Only where nothing tells which HTLC an output is (a commitment that we do not know) all count.
    fn preimages_in(&self, transaction: &Transaction) -> Vec<(u64, Preimage)> {
        let inputs = transaction.input.iter();
        let shown = inputs.filter_map(|input| Some((input.previous_output, preimage_in(&input.witness)?)));
        let shown: Vec<(OutPoint, Preimage)> = shown.collect();
        if shown.is_empty() || bug::is(Bug::ChainPreimageIgnored) {
            return Vec::new();
        }
        match &self.state.onchain {
            Some(onchain) if matches!(onchain.whose, Whose::Ours | Whose::Theirs { .. }) => {
                self.paid_outputs(onchain, &shown)
            }
            Some(_) | None => {
                let by_hash: BTreeMap<PaymentHash, Preimage> =
                    shown.iter().map(|(_, preimage)| (preimage.payment_hash(), *preimage)).collect();
                let offered = self.state.htlcs.offered.iter();
                let found =
                    offered.filter_map(|(id, htlc)| Some((*id, *by_hash.get(&htlc.add.payment_hash)?)));
                found.filter(|(id, _)| self.state.awaits_result(*id)).collect()
            }
        }
    }

    /// Of outputs that are alike, as many HTLCs are paid as outputs were taken: first those that were fulfilled before (they stay
    /// while any of the outputs is undecided), then those whose own output it was.
    fn paid_outputs(&self, onchain: &OnChain, shown: &[(OutPoint, Preimage)]) -> Vec<(u64, Preimage)> {
        let mut paid = Vec::new();
        for alike in onchain.offered_outputs().values() {
            let opens = |outpoint: &OutPoint| shown.iter().find(|(taken, _)| taken == outpoint);
            let Some((_, preimage)) = alike.iter().find_map(|(outpoint, _, spec)| {
                opens(outpoint).filter(|(_, preimage)| spec.payment_hash == preimage.payment_hash())
            }) else {
                continue;
            };
            let (taken, left): (Vec<_>, Vec<_>) = alike.iter().partition(|(outpoint, output, _)| {
                let before = output.spend.is_some_and(|spend| spend.by == Side::Counterparty);
                before || (opens(outpoint).is_some() && !output.is_ours_for_good())
            });
            let fulfilled = alike.iter().filter(|(_, _, spec)| self.state.is_fulfilled(spec.id)).count();
            let ids = taken.iter().chain(&left).map(|(_, _, spec)| spec.id);
            let unpaid = ids.filter(|id| self.state.awaits_result(*id));
            paid.extend(unpaid.take(taken.len().saturating_sub(fulfilled)).map(|id| (id, *preimage)));
        }
        paid
    }
}

/// The scripts of the counterparty's HTLCs. HTLCs with equal scripts and values are interchangeable; each is matched
/// once, in the order of BOLT 3.
struct HtlcScripts(Vec<(bitcoin::ScriptBuf, HtlcSpec)>);

impl HtlcScripts {
    fn new(published: &Published<'_>, mut specs: Vec<HtlcSpec>) -> Self {
        specs.sort_by_key(|spec| (spec.cltv_expiry, spec.id));
        let script = |spec: HtlcSpec| Some((scripts::p2wsh(&published.htlc_script(&spec).ok()?), spec));
        Self(specs.into_iter().filter_map(script).collect())
    }

    fn take(&mut self, output: &TxOut) -> Option<HtlcSpec> {
        let position = self.0.iter().position(|(script, spec)| {
            *script == output.script_pubkey && spec.amount.to_sat_floor() == output.value
        })?;
        Some(self.0.remove(position).1)
    }
}

/// The outputs of our own commitment that are ours, or may be.
fn own_outputs(ours: &CommitmentTransaction, spend: &InBlock<'_>) -> BTreeMap<OutPoint, Output> {
    let part = |kind: &OutputKind| match kind {
        OutputKind::ToBroadcaster => Some(Part::ToLocal),
        OutputKind::Htlc { position } => Some(Part::Htlc {
            spec: ours.htlcs().get(*position)?.htlc,
            position: u32::try_from(*position).ok()?,
        }),
        OutputKind::ToCountersignatory
        | OutputKind::SharedAnchor
        | OutputKind::BroadcasterAnchor
        | OutputKind::CountersignatoryAnchor => None,
    };
    outputs_of(spend)
        .zip(ours.outputs())
        .filter_map(|((outpoint, output), kind)| {
            Some((outpoint, new_output(output, spend.height, part(kind)?)))
        })
        .collect()
}

fn outputs_of<'a>(spend: &InBlock<'a>) -> impl Iterator<Item = (OutPoint, &'a TxOut)> {
    let txid = spend.txid;
    (0..).zip(&spend.transaction.output).map(move |(vout, output)| (OutPoint { txid, vout }, output))
}

fn new_output(output: &TxOut, height: u32, part: Part) -> Output {
    Output { output: output.clone(), height, part, spend: None }
}

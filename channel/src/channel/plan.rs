//! What is to be done on the chain: our commitment to publish, and a claim for each output that is ours to take.
//!
//! A plan follows from the state alone, so it is made anew whenever it is asked for. Claims are listed until their
//! spend is final: a reorganisation may bring each of them back.

use bitcoin::{Amount, OutPoint, Transaction};
use secp256k1::PublicKey;

use super::htlc::{Offered, Received, Removal, Which};
use super::onchain::{OnChain, Output, Part, Whose};
use super::state::{Phase, State};
use super::{Channel, PublishJob};
use crate::amount::Msat;
use crate::bug::{self, Bug};
use crate::bytes::PaymentPreimage;
use crate::claim::{Claim, Found, OnchainPlan, Own, OwnHtlc, Revoked, Theirs, to_remote};
use crate::commitment::{CommitmentSpec, CommitmentTransaction, commitment_number};
use crate::error::FailureCause;
use crate::keys::{CommitmentKeys, HtlcOutputs};
use crate::limits::{COMMITMENT_CONFIRM_BLOCKS, OUTGOING_GRACE_BLOCKS, SUCCESS_CLAIM_BLOCKS};
use crate::parameters::{ChannelContext, Side};
use crate::shachain::CommitmentSecret;
use crate::signer::Signer;

impl Channel {
    /// What the chain's side is to do for this channel now. Given again with every
    /// [`Effect::PlanChanged`](crate::effect::Effect::PlanChanged).
    pub fn onchain_plan(&self, signer: &dyn Signer) -> OnchainPlan {
        let names = &self.state.names;
        OnchainPlan {
            owner: names.owner,
            channel_id: names.channel_id,
            key_id: names.key_id,
            publish: self.publish_job(signer),
            claims: self.claims(signer),
        }
    }

    /// The number of the counterparty's commitment that this spend of the funding is, if it was revoked: what the
    /// revocation log must be asked for.
    pub fn revoked_number(&self, spend: &Transaction) -> Option<u64> {
        let (Some(_), Some(their)) = (&self.state.funding, &self.state.counterparty) else { return None };
        let number = commitment_number(spend, self.context().obscuring_factor())?;
        (number < their.secrets.count()).then_some(number)
    }

    /// Failed: our latest commitment, fully signed. None where publishing it would be wrong: we may be
    /// behind, the funding is not what was agreed, or it is spent.
    pub fn publish_job(&self, signer: &dyn Signer) -> Option<PublishJob> {
        match &self.state.phase {
            Phase::Failed { cause } if cause.may_publish() && self.state.onchain.is_none() => {}
            Phase::Failed { .. }
            | Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. } => return None,
        }
        let key_id = self.state.names.key_id;
        let parameters = self.context();
        let signatures = self.state.holder.signatures.clone()?;
        let commitment = self.holder_commitment(signer)?;
        let own = signer.sign_holder_commitment(&key_id, parameters, &commitment).ok()?;
        let transaction = commitment.signed(parameters, &own, &signatures.commitment).ok()?;
        Some(PublishJob {
            owner: self.state.names.owner,
            channel_id: self.state.names.channel_id,
            key_id,
            funding_amount: self.state.funding_amount(),
            preimages: self.known_preimages(),
            funding_script: parameters.funding_script().clone(),
            proven_current: false,
            deadline: self.state.publish_deadline(),
            value_at_stake: self.state.value_at_stake(),
            value_in_time: self.state.value_in_time().to_sat_floor(),
            for_counterparty: self.state.phase
                == (Phase::Failed { cause: FailureCause::CounterpartyLostData }),
            commitment,
            counterparty_signatures: signatures,
            transaction,
        })
    }

    /// Our latest commitment.
    pub(super) fn holder_commitment(&self, signer: &dyn Signer) -> Option<CommitmentTransaction> {
        let parameters = self.context();
        let balances = self.state.books.holder.latest;
        let spec = CommitmentSpec {
            number: self.state.holder.number,
            to_broadcaster: balances.holder,
            to_countersignatory: balances.counterparty,
            htlcs: self.state.htlcs.specs(Side::Holder, Which::latest),
            feerate_sat_per_kw: 0,
        };
        let outputs = parameters.htlc_outputs(&spec);
        let key_id = &self.state.names.key_id;
        let keys = signer.holder_commitment_keys(key_id, parameters, spec.number, outputs);
        CommitmentTransaction::build(parameters, Side::Holder, &keys, &spec).ok()
    }

    fn claims(&self, signer: &dyn Signer) -> Vec<Claim> {
        let (Some(onchain), Phase::Failed { .. }) = (&self.state.onchain, &self.state.phase) else {
            return Vec::new();
        };
        let Some(keys) = self.keys_of(onchain, signer) else {
            // Nothing is known of it but our payment key, which never changes.
            let payment = &self.context().basepoints(Side::Holder).payment;
            let format = self.state.terms.format;
            let mine = onchain.open_outputs().filter(|(_, output)| output.part == Part::ToRemote);
            return mine.map(|found| to_remote(format, payment, found_of(found))).collect();
        };
        let claimant = Claimant { state: &self.state, context: self.context(), keys: &keys };
        onchain.open_outputs().filter_map(|output| claimant.claim(onchain, output)).collect()
    }

    /// The keys of the commitment in the chain; none where we do not know it.
    pub(super) fn keys_of(&self, onchain: &OnChain, signer: &dyn Signer) -> Option<CommitmentKeys> {
        let (key_id, parameters) = (&self.state.names.key_id, self.context());
        let theirs = |point: PublicKey| {
            signer.counterparty_commitment_keys(key_id, parameters, &point, HtlcOutputs::Present)
        };
        match &onchain.whose {
            Whose::Ours => {
                let number = onchain.number;
                Some(signer.holder_commitment_keys(key_id, parameters, number, HtlcOutputs::Present))
            }
            Whose::Theirs { point } => point.parse().ok().map(theirs),
            Whose::Revoked { secret } => point_of(secret).map(theirs),
            Whose::Newer | Whose::Foreign => None,
        }
    }
}

/// The point of a revealed secret.
fn point_of(secret: &CommitmentSecret) -> Option<PublicKey> {
    Some(secret.to_secret_key()?.public_key(secp256k1::SECP256K1))
}

fn found_of((outpoint, output): (&OutPoint, &Output)) -> Found {
    Found { outpoint: *outpoint, output: output.output.clone(), height: output.height }
}

impl OnChain {
    /// Outputs whose spend is not final.
    fn open_outputs(&self) -> impl Iterator<Item = (&OutPoint, &Output)> {
        self.outputs.iter().filter(|(_, output)| output.spend.is_none_or(|spend| !spend.is_final))
    }
}

/// What claims of one commitment are made from.
struct Claimant<'a> {
    state: &'a State,
    context: &'a ChannelContext,
    keys: &'a CommitmentKeys,
}

impl Claimant<'_> {
    /// The claim of an output; none if it is not ours to take (now).
    fn claim(&self, onchain: &OnChain, output: (&OutPoint, &Output)) -> Option<Claim> {
        let Self { context, keys, .. } = *self;
        let (found, part) = (found_of(output), output.1.part);
        match &onchain.whose {
            Whose::Ours => self.own(Own { context, keys, number: onchain.number }, &part, found),
            Whose::Theirs { .. } => match part {
                Part::ToRemote => Some(Theirs { context, keys }.to_remote(found)),
                Part::Htlc { spec, .. } => {
                    let preimage = self.state.preimage_of(spec.id);
                    // Without its preimage it is not ours (yet).
                    Theirs { context, keys }.htlc(&spec, preimage.as_ref(), found).ok()
                }
                Part::ToLocal | Part::SecondStage { .. } | Part::Candidate => None,
            },
            Whose::Revoked { secret } => {
                let revoked = Revoked { context, keys, secret };
                match part {
                    Part::ToLocal if bug::is(Bug::BalanceNotPunished) => None,
                    Part::Htlc { .. } if bug::is(Bug::HtlcsNotPunished) => None,
                    Part::SecondStage { .. } if bug::is(Bug::SecondStageNotPunished) => None,
                    Part::ToLocal => Some(revoked.to_local(found)),
                    Part::ToRemote => Some(revoked.to_remote(found)),
                    Part::Htlc { spec, .. } => revoked.htlc(&spec, found).ok(),
                    Part::SecondStage { .. } => Some(revoked.second_stage(found)),
                    Part::Candidate => None,
                }
            }
            Whose::Newer | Whose::Foreign => None,
        }
    }

    fn own(&self, own: Own<'_>, part: &Part, found: Found) -> Option<Claim> {
        match part {
            Part::ToLocal => Some(own.to_local(found)),
            Part::Htlc { spec, position } => {
                let signatures = &self.state.holder.signatures.as_ref()?.htlcs;
                let countersignature = signatures.get(usize::try_from(*position).ok()?)?;
                let preimage = self.state.preimage_of(spec.id);
                let htlc = OwnHtlc { htlc: spec, countersignature, preimage: preimage.as_ref() };
                own.htlc(htlc, found).ok()
            }
            Part::SecondStage { spec, .. } => Some(own.second_stage(spec.id, found)),
            Part::ToRemote | Part::Candidate => None,
        }
    }
}

impl State {
    /// The preimage of a received HTLC, if we are to be paid.
    fn preimage_of(&self, received: u64) -> Option<PaymentPreimage> {
        match self.htlcs.received.get(&received)?.removal? {
            Removal::Fulfilled(preimage) => Some(preimage),
            Removal::Failed(_) => None,
        }
    }

    /// HTLCs with outputs in our latest commitment: those that we offered, and those that we can claim.
    fn at_stake(&self) -> (impl Iterator<Item = &Offered>, impl Iterator<Item = &Received>) {
        let offered = self
            .htlcs
            .offered
            .values()
            .filter(|htlc| !htlc.trimmed && htlc.state.is_in(Which::latest(Side::Holder, Side::Holder)));
        let received = self.htlcs.received.values().filter(|htlc| {
            let known = matches!(htlc.removal, Some(Removal::Fulfilled(_)));
            !htlc.trimmed && known && htlc.state.is_in(Which::latest(Side::Holder, Side::Counterparty))
        });
        (offered, received)
    }

    /// The height by which our commitment must be in a block, so that there is time for its HTLCs.
    pub(super) fn publish_deadline(&self) -> Option<u32> {
        let (offered, received) = self.at_stake();
        let offered = offered.map(|htlc| {
            let grace = OUTGOING_GRACE_BLOCKS.saturating_add(COMMITMENT_CONFIRM_BLOCKS);
            htlc.add.cltv_expiry.saturating_add(grace)
        });
        let received = received.map(|htlc| htlc.add.cltv_expiry.saturating_sub(SUCCESS_CLAIM_BLOCKS));
        offered.chain(received).min()
    }

    /// What our latest commitment brings us at most.
    fn value_at_stake(&self) -> Amount {
        self.books.holder.latest.holder.saturating_add(self.value_in_time()).to_sat_floor()
    }

    /// The HTLCs of it that are lost if it confirms too late.
    fn value_in_time(&self) -> Msat {
        let (offered, received) = self.at_stake();
        let amounts =
            offered.map(|htlc| htlc.add.amount_msat).chain(received.map(|htlc| htlc.add.amount_msat));
        amounts.fold(Msat::ZERO, |sum, amount| sum.saturating_add(amount))
    }
}

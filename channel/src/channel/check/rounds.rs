//! Commitment rounds (BOLT 2, "Committing Updates So Far" and "Completing the Transition to the Updated
//! State").

use super::{Verdict, decided, refused};
use crate::bug::{self, Bug};
use crate::channel::htlc::Which;
use crate::channel::input::Kind;
use crate::channel::state::Phase;
use crate::channel::{Channel, Context};
use crate::commitment::{CommitmentSignatures, CommitmentSpec, CommitmentTransaction, SignatureError};
use crate::error::{Refusal, Rejection, Violation};
use crate::failure::FailureReason;
use crate::forward::{Candidate, RouteChoice};
use crate::limits::{MAX_COMMITMENT_NUMBER, MAX_SEALED_BLOB_BYTES};
use crate::message::{CommitmentSigned, RevokeAndAck};
use crate::parameters::{ChannelContext, Side};
use crate::signer::Signer;

impl Channel {
    pub(super) fn check_commitment_signed(&self, signed: CommitmentSigned, context: &Context<'_>) -> Verdict {
        self.expect_open()?;
        let CommitmentSigned { number, signatures, sealed } = signed;
        let expected = self.state.holder.number + 1;
        if number < expected {
            return Err(Violation::ReplayedCommitment { number, expected }.into());
        }
        if number > expected || number > MAX_COMMITMENT_NUMBER {
            return Err(Violation::FutureCommitment { number, expected }.into());
        }
        if self.state.updates.expected == 0 {
            return Err(Violation::EmptyCommitment.into());
        }
        check_sealed(&sealed)?;
        let spec = CommitmentSpec {
            number,
            to_broadcaster: self.state.books.holder.next.holder,
            to_countersignatory: self.state.books.holder.next.counterparty,
            htlcs: self.state.htlcs.specs(Side::Holder, Which::next),
            feerate_sat_per_kw: 0,
        };
        let verified = self.verify_holder_commitment(self.context(), &spec, &signatures, context.signer);
        if !bug::is(Bug::SignaturesNotChecked) {
            verified?;
        }
        decided(Kind::CommitmentReceived { signatures, sealed })
    }

    /// Builds our commitment and verifies the counterparty's signatures for it.
    pub(super) fn verify_holder_commitment(
        &self,
        parameters: &ChannelContext,
        spec: &CommitmentSpec,
        signatures: &CommitmentSignatures,
        signer: &dyn Signer,
    ) -> Result<(), Violation> {
        let outputs = parameters.htlc_outputs(spec);
        let keys = signer.holder_commitment_keys(&self.state.names.key_id, parameters, spec.number, outputs);
        let commitment = CommitmentTransaction::build(parameters, Side::Holder, &keys, spec)
            .expect("balances and HTLCs sum up to the capacity");
        commitment.verify(parameters, signatures).map_err(|error| match error {
            SignatureError::WrongHtlcCount { found, expected } => {
                Violation::WrongHtlcSignatureCount { found, expected }
            }
            SignatureError::Commitment => Violation::WrongCommitmentSignature,
            SignatureError::Htlc { position } => Violation::WrongHtlcSignature { position },
        })
    }

    pub(super) fn check_revocation(&self, revocation: &RevokeAndAck, context: &Context<'_>) -> Verdict {
        self.expect_open()?;
        let RevokeAndAck { number, secret, next_point } = revocation;
        let number = *number;
        let their = self.state.their();
        let expected = their.secrets.count();
        if number < expected {
            return Err(Violation::ReplayedRevocation { number, expected }.into());
        }
        if number > expected {
            return Err(Violation::FutureRevocation { number, expected }.into());
        }
        if !their.awaiting_revocation {
            return Err(Violation::UnexpectedRevocation { number }.into());
        }
        if !secret.opens(&their.unrevoked_point) && !bug::is(Bug::SecretsNotChecked) {
            return Err(Violation::WrongRevocationSecret { number }.into());
        }
        if their.secrets.check(number, secret).is_err() && !bug::is(Bug::SecretsNotChecked) {
            return Err(Violation::InconsistentRevocationSecret { number }.into());
        }
        if next_point.parse().is_err() {
            return Err(Violation::InvalidNextPoint.into());
        }
        let routes = self.state.becoming_irrevocable().map(|id| self.first_route(id, context)).collect();
        decided(Kind::RevocationReceived { secret: *secret, next_point: *next_point, routes })
    }

    /// Where a received HTLC goes first.
    fn first_route(&self, id: u64, context: &Context<'_>) -> RouteChoice {
        let Some(htlc) = self.state.htlcs.received.get(&id) else {
            return RouteChoice::Fail { reason: FailureReason::ChannelUnavailable };
        };
        if let Some(reason) = htlc.refused {
            return RouteChoice::Fail { reason };
        }
        let closing = self.state.shutdowns.holder.is_some();
        let confirmed = self.state.funding.as_ref().is_some_and(|funding| funding.deep);
        if closing || !confirmed {
            return RouteChoice::Fail { reason: FailureReason::ChannelUnavailable };
        }
        context.router.route(&Candidate {
            incoming: self.state.names.owner,
            htlc: &htlc.add,
            attempt: 1,
            tried: &[],
            last_failure: None,
        })
    }

    pub(super) fn check_sign_now(&self, context: &Context<'_>) -> Verdict {
        self.expect_open()?;
        self.expect_online()?;
        if self.state.their().awaiting_revocation {
            return refused(Refusal::RoundUnderWay);
        }
        if !self.state.has_something_to_sign() {
            return refused(Refusal::NothingToSign);
        }
        if self.state.their().number >= MAX_COMMITMENT_NUMBER {
            return refused(Refusal::CommitmentsExhausted);
        }
        decided(Kind::SignNow { dropped: self.late_offers(context.height) })
    }

    /// Positions of offers that may not be signed any more.
    pub(super) fn late_offers(&self, height: u32) -> Vec<u32> {
        if bug::is(Bug::SignedTooLate) {
            return Vec::new();
        }
        let late = (0..).zip(&self.state.updates.queued).filter(|(_, offer)| offer.sign_by_height < height);
        late.map(|(position, _)| position).collect()
    }

    /// Whether `SignNow` would sign: updates pending, no round under way, counterparty online.
    pub fn wants_to_sign(&self) -> bool {
        self.state.is_operating()
            && self.state.has_something_to_sign()
            && !self.state.their().awaiting_revocation
            && self.state.their().number < MAX_COMMITMENT_NUMBER
    }

    /// The phases in which both sides have commitments and may compare them.
    pub(super) fn has_commitments(&self) -> bool {
        match self.state.phase {
            Phase::AwaitingConfirmation | Phase::Open | Phase::Frozen | Phase::Closing { .. } => true,
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::Closed { .. }
            | Phase::Aborted { .. }
            | Phase::Failed { .. } => false,
        }
    }
}

/// The counterparty's blob is kept as it is, if it is not too long.
pub(super) fn check_sealed(sealed: &[u8]) -> Result<(), Rejection> {
    if sealed.len() > MAX_SEALED_BLOB_BYTES {
        let maximum = MAX_SEALED_BLOB_BYTES;
        return Err(Violation::SealedBlobTooLong { found: sealed.len(), maximum }.into());
    }
    Ok(())
}

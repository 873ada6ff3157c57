//! Updates of the counterparty's (BOLT 2, "Adding an HTLC" and "Removing an HTLC").

use super::limits::NewHtlc;
use super::{Verdict, decided};
use crate::amount::Msat;
use crate::bug::{self, Bug};
use crate::channel::htlc::HtlcState;
use crate::channel::input::Kind;
use crate::channel::state::Phase;
use crate::channel::{Channel, Context};
use crate::error::Violation;
use crate::failure::FailureReason;
use crate::message::{Preimage, UpdateAddHtlc};
use crate::parameters::Side;

impl Channel {
    pub(super) fn check_add(
        &self,
        add: UpdateAddHtlc,
        deducted_msat: Msat,
        context: &Context<'_>,
    ) -> Verdict {
        if self.state.phase == Phase::AwaitingConfirmation {
            return Err(Violation::AddBeforeReady.into());
        }
        self.expect_open()?;
        if self.state.shutdowns.counterparty.is_some() {
            return Err(Violation::AddAfterShutdown.into());
        }
        let expected = self.state.htlcs.next_received_id;
        if add.id < expected {
            return Err(Violation::DuplicateHtlcId { id: add.id, expected }.into());
        }
        if add.id > expected {
            return Err(Violation::SkippedHtlcId { id: add.id, expected }.into());
        }
        self.check_limits(&NewHtlc {
            offerer: Side::Counterparty,
            amount: add.amount_msat,
            cltv_expiry: add.cltv_expiry,
            recipient: &add.recipient,
            payload: &add.payload,
        })
        .map_err(Violation::from)?;
        let maximum = self.state.most_kept_of(&add);
        if deducted_msat > maximum {
            return Err(Violation::PriceExceeded { deducted: deducted_msat, maximum }.into());
        }
        let refused = self.refusal_of_theirs(&add, context);
        decided(match deducted_msat {
            Msat::ZERO => Kind::AddReceived { add, refused },
            deducted_msat => Kind::PricedAddReceived { add, refused, deducted_msat },
        })
    }

    /// Limits of ours that are no rules of the protocol: the HTLC is taken, and failed once that is possible.
    fn refusal_of_theirs(&self, add: &UpdateAddHtlc, context: &Context<'_>) -> Option<FailureReason> {
        let exposure = self.exposure_with(add.amount_msat);
        if exposure > context.policy.max_dust_htlc_exposure_msat && self.state.is_trimmed(add.amount_msat) {
            return Some(FailureReason::TooManyHtlcs);
        }
        if self.state.shutdowns.holder.is_some() {
            return Some(FailureReason::ChannelUnavailable);
        }
        context.policy.check_expiry(add.cltv_expiry, context.height).err()
    }

    /// What trimmed HTLCs would put at risk with one more of this amount.
    pub(super) fn exposure_with(&self, amount: Msat) -> Msat {
        let exposure = self.state.htlcs.index.dust_exposure;
        if self.state.is_trimmed(amount) { exposure.saturating_add(amount) } else { exposure }
    }

    pub(super) fn check_fulfill(&self, id: u64, preimage: Preimage) -> Verdict {
        self.check_removable(id)?;
        let htlc = self.state.htlcs.offered.get(&id).ok_or(Violation::UnknownHtlc { id })?;
        if preimage.payment_hash() != htlc.add.payment_hash && !bug::is(Bug::WrongPreimageTaken) {
            return Err(Violation::WrongPreimage { id }.into());
        }
        decided(Kind::FulfillReceived { id, preimage })
    }

    pub(super) fn check_fail(&self, id: u64, reason: FailureReason) -> Verdict {
        self.check_removable(id)?;
        decided(Kind::FailReceived { id, reason })
    }

    fn check_removable(&self, id: u64) -> Result<(), crate::error::Rejection> {
        self.expect_open()?;
        let htlc = self.state.htlcs.offered.get(&id).ok_or(Violation::UnknownHtlc { id })?;
        match htlc.state {
            HtlcState::Irrevocable => Ok(()),
            HtlcState::AddSent
            | HtlcState::AddCommitted
            | HtlcState::AddRevoked
            | HtlcState::AddAckCommitted => Err(Violation::HtlcNotIrrevocable { id }.into()),
            HtlcState::RemoveSent
            | HtlcState::RemoveCommitted
            | HtlcState::RemoveRevoked
            | HtlcState::RemoveAckCommitted => Err(Violation::HtlcAlreadyRemoved { id }.into()),
        }
    }
}

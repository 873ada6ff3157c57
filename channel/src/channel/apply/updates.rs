//! Updates of HTLCs as they are mentioned: theirs when they arrive, ours when they are decided. The rounds
//! move them on.

use super::super::books::Entry;
use super::super::htlc::{HtlcState, Htlcs, Received, Removal};
use super::super::state::State;
use super::Out;
use crate::bug::{self, Bug};
use crate::effect::{Effect, ToSend};
use crate::failure::FailureReason;
use crate::forward::ForwardResult;
use crate::message::{Preimage, UpdateAddHtlc};
use crate::parameters::Side;

const CHECKED: &str = "check has seen the HTLC";

impl State {
    /// `update_add_htlc` of theirs: enters our next commitment.
    pub(super) fn add_received(&mut self, add: &UpdateAddHtlc, refused: Option<FailureReason>) {
        let trimmed = self.is_trimmed(add.amount_msat);
        self.books.holder.enter(Entry { offerer: Side::Counterparty, amount: add.amount_msat });
        self.updates.expected += 1;
        self.htlcs.insert_received(Received {
            state: HtlcState::AddSent,
            trimmed,
            add: add.clone(),
            refused,
            route: None,
            removal: None,
        });
    }

    /// `update_fulfill_htlc` of theirs: leaves our next commitment. The preimage is worth money upstream at
    /// once.
    pub(super) fn fulfill_received(&mut self, id: u64, preimage: Preimage, out: &mut Out<'_>) {
        let key = self.removal_received(id, Removal::Fulfilled(preimage));
        self.resolve(key, id, ForwardResult::Fulfilled { preimage }, out);
    }

    /// `update_fail_htlc` of theirs: leaves our next commitment. It counts upstream only when it is
    /// irrevocable.
    pub(super) fn fail_received(&mut self, id: u64, reason: FailureReason, out: &mut Out<'_>) {
        let key = self.removal_received(id, Removal::Failed(reason));
        if bug::is(Bug::FailedBeforeIrrevocable) {
            self.resolve(key, id, ForwardResult::Failed { reason }, out);
        }
    }

    fn removal_received(&mut self, id: u64, removal: Removal) -> crate::forward::ForwardKey {
        let htlc = self.htlcs.offered.get_mut(&id).expect(CHECKED);
        htlc.state = HtlcState::RemoveSent;
        htlc.removal = Some(removal);
        let amount = htlc.add.amount_msat;
        self.books.holder.leave(Entry { offerer: Side::Holder, amount }, &removal);
        self.htlcs.moving_offered.push(id);
        self.updates.expected += 1;
        htlc.key
    }

    /// Our decision about an irrevocable received HTLC. Where updates are still exchanged it leaves the
    /// counterparty's next commitment and is sent; in a channel that failed it is kept for the chain.
    pub(super) fn remove_received(&mut self, id: u64, removal: Removal, out: &mut Out<'_>) {
        let may_update = self.may_update();
        let Htlcs { received, index, .. } = &mut self.htlcs;
        let htlc = received.get_mut(&id).expect(CHECKED);
        htlc.removal = Some(removal);
        if matches!(removal, Removal::Fulfilled(_)) {
            index.note_claimable(htlc);
        }
        if !may_update {
            if matches!(removal, Removal::Fulfilled(_)) {
                // Claims on the chain need it: the publish job has one preimage more.
                out.push(Effect::PlanChanged);
            }
            // An output that we will not claim keeps nobody waiting.
            self.progress(out);
            return;
        }
        htlc.state = HtlcState::RemoveSent;
        let amount = htlc.add.amount_msat;
        self.books.counterparty.leave(Entry { offerer: Side::Counterparty, amount }, &removal);
        self.htlcs.moving_received.push(id);
        self.updates.unsigned.push(id);
        self.send(removal_message(id, &removal), out);
    }
}

/// The message that announces a removal.
pub(super) fn removal_message(id: u64, removal: &Removal) -> ToSend {
    match removal {
        Removal::Fulfilled(preimage) => ToSend::FulfillHtlc { id, preimage: *preimage },
        Removal::Failed(reason) => ToSend::FailHtlc { id, reason: *reason },
    }
}

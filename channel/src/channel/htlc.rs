//! The life of one HTLC: a line of states, a table of steps, and the books that follow from where it stands.
//!
//! A is its offerer, B its receiver. An update enters the *other* side's commitment first: so B's commitment
//! holds an HTLC from the first signature to the last, and A's a part of that time. Nothing here depends on
//! which of the two we are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::commitment::{HtlcDirection, HtlcSpec};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, Offer};
use crate::ids::OwnerId;
use crate::message::{Preimage, UpdateAddHtlc};
use crate::parameters::Side;

/// Where an HTLC stands, in the order of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum HtlcState {
    /// A sent `update_add_htlc`.
    AddSent,
    /// A signed B's commitment with it.
    AddCommitted,
    /// B revoked its previous commitment.
    AddRevoked,
    /// B signed A's commitment with it.
    AddAckCommitted,
    /// A revoked its previous commitment: the HTLC is in every commitment that counts. Only now may it be
    /// passed on or removed.
    Irrevocable,
    /// B sent `update_fulfill_htlc` or `update_fail_htlc`.
    RemoveSent,
    /// B signed A's commitment without it.
    RemoveCommitted,
    /// A revoked its previous commitment.
    RemoveRevoked,
    /// A signed B's commitment without it. When B has revoked its previous one, the HTLC is gone.
    RemoveAckCommitted,
}

/// What moves HTLCs from state to state: each signature or revocation moves all that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    OffererSigns,
    ReceiverRevokes,
    ReceiverSigns,
    OffererRevokes,
}

/// What a step does to an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The step is not for an HTLC in this state.
    Stays,
    To(HtlcState),
    /// No commitment that counts holds it any more.
    Gone,
}

impl HtlcState {
    /// Every state, in the order of life.
    #[cfg(test)]
    pub(super) const ALL: [Self; 9] = [
        Self::AddSent,
        Self::AddCommitted,
        Self::AddRevoked,
        Self::AddAckCommitted,
        Self::Irrevocable,
        Self::RemoveSent,
        Self::RemoveCommitted,
        Self::RemoveRevoked,
        Self::RemoveAckCommitted,
    ];

    /// The table of steps.
    pub(super) const fn next(self, step: Step) -> Next {
        match (self, step) {
            (Self::AddSent, Step::OffererSigns) => Next::To(Self::AddCommitted),
            (Self::AddCommitted, Step::ReceiverRevokes) => Next::To(Self::AddRevoked),
            (Self::AddRevoked, Step::ReceiverSigns) => Next::To(Self::AddAckCommitted),
            (Self::AddAckCommitted, Step::OffererRevokes) => Next::To(Self::Irrevocable),
            (Self::RemoveSent, Step::ReceiverSigns) => Next::To(Self::RemoveCommitted),
            (Self::RemoveCommitted, Step::OffererRevokes) => Next::To(Self::RemoveRevoked),
            (Self::RemoveRevoked, Step::OffererSigns) => Next::To(Self::RemoveAckCommitted),
            (Self::RemoveAckCommitted, Step::ReceiverRevokes) => Next::Gone,
            (
                Self::AddSent | Self::RemoveRevoked,
                Step::ReceiverRevokes | Step::ReceiverSigns | Step::OffererRevokes,
            )
            | (
                Self::AddCommitted | Self::RemoveAckCommitted,
                Step::OffererSigns | Step::ReceiverSigns | Step::OffererRevokes,
            )
            | (
                Self::AddRevoked | Self::RemoveSent,
                Step::OffererSigns | Step::ReceiverRevokes | Step::OffererRevokes,
            )
            | (
                Self::AddAckCommitted | Self::RemoveCommitted,
                Step::OffererSigns | Step::ReceiverRevokes | Step::ReceiverSigns,
            )
            | (
                Self::Irrevocable,
                Step::OffererSigns | Step::ReceiverRevokes | Step::ReceiverSigns | Step::OffererRevokes,
            ) => Next::Stays,
        }
    }

    /// Whether a commitment holds an HTLC in this state.
    pub(super) fn is_in(self, commitment: Which) -> bool {
        let (first, last) = match commitment {
            Which::ReceiverLatest => (Self::AddCommitted, Self::RemoveRevoked),
            Which::ReceiverNext => (Self::AddSent, Self::RemoveCommitted),
            Which::OffererLatest => (Self::AddAckCommitted, Self::RemoveSent),
            Which::OffererNext => (Self::AddRevoked, Self::Irrevocable),
        };
        (first..=last).contains(&self)
    }
}

/// A commitment, by its owner's part in the HTLC: the latest signed, or the one that the next signature would
/// make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    ReceiverLatest,
    ReceiverNext,
    OffererLatest,
    OffererNext,
}

impl Which {
    /// The latest commitment of `owner`, for an HTLC offered by `offerer`.
    pub(super) fn latest(owner: Side, offerer: Side) -> Self {
        if owner == offerer { Self::OffererLatest } else { Self::ReceiverLatest }
    }

    /// The commitment that `owner` would get by the next signature, for an HTLC offered by `offerer`.
    pub(super) fn next(owner: Side, offerer: Side) -> Self {
        if owner == offerer { Self::OffererNext } else { Self::ReceiverNext }
    }
}

/// How an HTLC ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Removal {
    /// The amount is the receiver's.
    Fulfilled(Preimage),
    /// The amount goes back to the offerer.
    Failed(FailureReason),
}

/// An HTLC we offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) state: HtlcState,
    pub(super) trimmed: bool,
    pub(super) add: UpdateAddHtlc,
    /// Whose payment it carries.
    pub(super) key: ForwardKey,
    /// What the counterparty announced, from `RemoveSent` on.
    pub(super) removal: Option<Removal>,
    /// Overdue, and failed upstream although the counterparty may still claim it: trimmed (what that can cost is within
    /// the cap on dust exposure, which counts the HTLC until it is gone), or beyond our reach in a commitment that we know
    /// nothing of.
    pub(super) given_up: bool,
}

/// An HTLC the counterparty offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) state: HtlcState,
    pub(super) trimmed: bool,
    pub(super) add: UpdateAddHtlc,
    /// It broke a limit of ours that is no rule of the protocol: failed as soon as it is irrevocable, never
    /// passed on.
    pub(super) refused: Option<FailureReason>,
    /// Where it was passed on, once it was irrevocable.
    pub(super) route: Option<Route>,
    /// What we decided, from then on final. The state tells how far the removal is.
    pub(super) removal: Option<Removal>,
}

/// The current choice of an outgoing owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) attempt: u32,
    pub(super) to: OwnerId,
    pub(super) sign_by_height: u32,
    /// Owners whose attempts failed before, oldest first.
    pub(super) tried: Vec<OwnerId>,
}

/// Sum and number of HTLCs towards one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) amount: Msat,
    pub(super) with_output: u32,
    pub(super) trimmed: u32,
}

const COUNTED_IN: &str = "what leaves was counted when it entered";

impl Flight {
    pub(super) fn add(&mut self, amount: Msat, trimmed: bool) {
        self.amount = self.amount.saturating_add(amount);
        *if trimmed { &mut self.trimmed } else { &mut self.with_output } += 1;
    }

    pub(super) fn remove(&mut self, amount: Msat, trimmed: bool) {
        self.amount = self.amount.checked_sub(amount).expect(COUNTED_IN);
        *if trimmed { &mut self.trimmed } else { &mut self.with_output } -= 1;
    }
}

/// All live HTLCs of a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Htlcs {
    pub(super) offered: BTreeMap<u64, Offered>,
    pub(super) received: BTreeMap<u64, Received>,
    pub(super) next_offered_id: u64,
    pub(super) next_received_id: u64,
    /// Those that are not `Irrevocable`: a signature or revocation looks at these alone.
    pub(super) moving_offered: Vec<u64>,
    pub(super) moving_received: Vec<u64>,
    /// Follows from the rest; not part of a snapshot.
    #[serde(skip)]
    pub(super) index: Index,
}

/// What would otherwise cost a pass over all live HTLCs with each message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// Of the receiver's next commitment: what limits on adds count. Offers not yet signed are in it.
    pub(super) offered: Flight,
    pub(super) received: Flight,
    /// What all trimmed HTLCs that are not gone put at risk, both directions.
    pub(super) dust_exposure: Msat,
    offered_with_output: BTreeSet<u64>,
    received_with_output: BTreeSet<u64>,
    /// How many offered HTLCs that are not given up expire at a height.
    offered_expiries: BTreeMap<u32, u32>,
    /// The same for received HTLCs with outputs whose preimage we know. (A trimmed one cannot be claimed on
    /// the chain.)
    claimable_expiries: BTreeMap<u32, u32>,
    /// How many offers not signed yet must be signed by a height.
    queued_deadlines: BTreeMap<u32, u32>,
}

impl Index {
    /// Counts an HTLC from its first mention on.
    pub(super) fn mention(&mut self, offerer: Side, amount: Msat, trimmed: bool) {
        self.flight(offerer).add(amount, trimmed);
        if trimmed {
            self.dust_exposure = self.dust_exposure.saturating_add(amount);
        }
    }

    /// The HTLC left the receiver's next commitment.
    pub(super) fn land(&mut self, offerer: Side, amount: Msat, trimmed: bool) {
        self.flight(offerer).remove(amount, trimmed);
    }

    /// No commitment holds the HTLC any more.
    pub(super) fn end_exposure(&mut self, amount: Msat, trimmed: bool) {
        if trimmed {
            self.dust_exposure = self.dust_exposure.checked_sub(amount).expect(COUNTED_IN);
        }
    }

    fn flight(&mut self, offerer: Side) -> &mut Flight {
        match offerer {
            Side::Holder => &mut self.offered,
            Side::Counterparty => &mut self.received,
        }
    }

    pub(super) fn earliest_offered_expiry(&self) -> Option<u32> {
        self.offered_expiries.keys().next().copied()
    }

    pub(super) fn earliest_claimable_expiry(&self) -> Option<u32> {
        self.claimable_expiries.keys().next().copied()
    }

    pub(super) fn earliest_queued_deadline(&self) -> Option<u32> {
        self.queued_deadlines.keys().next().copied()
    }

    pub(super) fn note_queued(&mut self, sign_by_height: u32) {
        *self.queued_deadlines.entry(sign_by_height).or_default() += 1;
    }

    pub(super) fn forget_queued(&mut self, sign_by_height: u32) {
        uncount(&mut self.queued_deadlines, sign_by_height);
    }

    /// The preimage of a received HTLC is known.
    pub(super) fn note_claimable(&mut self, htlc: &Received) {
        if !htlc.trimmed {
            *self.claimable_expiries.entry(htlc.add.cltv_expiry).or_default() += 1;
        }
    }

    /// An offered HTLC is given up.
    pub(super) fn forget_expiry(&mut self, cltv_expiry: u32) {
        uncount(&mut self.offered_expiries, cltv_expiry);
    }

    fn note_offered(&mut self, id: u64, htlc: &Offered) {
        if !htlc.trimmed {
            self.offered_with_output.insert(id);
        }
        if !htlc.given_up {
            *self.offered_expiries.entry(htlc.add.cltv_expiry).or_default() += 1;
        }
    }

    fn note_received(&mut self, id: u64, htlc: &Received) {
        if !htlc.trimmed {
            self.received_with_output.insert(id);
        }
        if matches!(htlc.removal, Some(Removal::Fulfilled(_))) {
            self.note_claimable(htlc);
        }
    }

    fn forget_offered(&mut self, htlc: &Offered) {
        if !htlc.trimmed {
            self.offered_with_output.remove(&htlc.add.id);
        }
        if !htlc.given_up {
            self.forget_expiry(htlc.add.cltv_expiry);
        }
    }

    fn forget_received(&mut self, htlc: &Received) {
        if htlc.trimmed {
            return;
        }
        self.received_with_output.remove(&htlc.add.id);
        if matches!(htlc.removal, Some(Removal::Fulfilled(_))) {
            uncount(&mut self.claimable_expiries, htlc.add.cltv_expiry);
        }
    }
}

fn uncount(counts: &mut BTreeMap<u32, u32>, key: u32) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl Htlcs {
    pub(super) fn is_empty(&self) -> bool {
        self.offered.is_empty() && self.received.is_empty()
    }

    /// Takes up an HTLC of ours whose id is the next; it was mentioned when it was offered.
    pub(super) fn insert_offered(&mut self, htlc: Offered) {
        let id = self.next_offered_id;
        self.next_offered_id += 1;
        self.moving_offered.push(id);
        self.index.note_offered(id, &htlc);
        self.offered.insert(id, htlc);
    }

    /// Takes up an HTLC of the counterparty's whose id is the next.
    pub(super) fn insert_received(&mut self, htlc: Received) {
        let id = self.next_received_id;
        self.next_received_id += 1;
        self.index.mention(Side::Counterparty, htlc.add.amount_msat, htlc.trimmed);
        self.moving_received.push(id);
        self.index.note_received(id, &htlc);
        self.received.insert(id, htlc);
    }

    /// Forgets an HTLC of ours that no commitment holds any more.
    pub(super) fn remove_offered(&mut self, id: u64) -> Option<Offered> {
        let htlc = self.offered.remove(&id)?;
        self.index.end_exposure(htlc.add.amount_msat, htlc.trimmed);
        self.index.forget_offered(&htlc);
        Some(htlc)
    }

    /// Forgets an HTLC of the counterparty's that no commitment holds any more.
    pub(super) fn remove_received(&mut self, id: u64) -> Option<Received> {
        let htlc = self.received.remove(&id)?;
        self.index.end_exposure(htlc.add.amount_msat, htlc.trimmed);
        self.index.forget_received(&htlc);
        Some(htlc)
    }

    /// The HTLCs that have an output in a commitment of `owner`, as that commitment's broadcaster sees them.
    /// `which` picks the latest or the next commitment by the HTLC's offerer.
    pub(super) fn specs(&self, owner: Side, which: impl Fn(Side, Side) -> Which) -> Vec<HtlcSpec> {
        let spec = |add: &UpdateAddHtlc, offerer: Side| HtlcSpec {
            direction: if offerer == owner { HtlcDirection::Offered } else { HtlcDirection::Received },
            id: add.id,
            amount: add.amount_msat,
            payment_hash: add.payment_hash,
            cltv_expiry: add.cltv_expiry,
        };
        let offered = self.index.offered_with_output.iter().filter_map(|id| {
            let htlc = self.offered.get(id)?;
            htlc.state.is_in(which(owner, Side::Holder)).then(|| spec(&htlc.add, Side::Holder))
        });
        let received = self.index.received_with_output.iter().filter_map(|id| {
            let htlc = self.received.get(id)?;
            htlc.state.is_in(which(owner, Side::Counterparty)).then(|| spec(&htlc.add, Side::Counterparty))
        });
        offered.chain(received).collect()
    }

    /// Makes the index again, for a snapshot; `queued` are the offers not signed yet, with whether they are
    /// trimmed.
    pub(super) fn reindex<'a>(&mut self, queued: impl Iterator<Item = (&'a Offer, bool)>) {
        let mut index = Index::default();
        for (id, htlc) in &self.offered {
            index.mention(Side::Holder, htlc.add.amount_msat, htlc.trimmed);
            if !htlc.state.is_in(Which::ReceiverNext) {
                index.land(Side::Holder, htlc.add.amount_msat, htlc.trimmed);
            }
            index.note_offered(*id, htlc);
        }
        for (id, htlc) in &self.received {
            index.mention(Side::Counterparty, htlc.add.amount_msat, htlc.trimmed);
            if !htlc.state.is_in(Which::ReceiverNext) {
                index.land(Side::Counterparty, htlc.add.amount_msat, htlc.trimmed);
            }
            index.note_received(*id, htlc);
        }
        for (offer, trimmed) in queued {
            index.mention(Side::Holder, offer.amount_msat, trimmed);
            index.note_queued(offer.sign_by_height);
        }
        self.index = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 4] =
        [Step::OffererSigns, Step::ReceiverRevokes, Step::ReceiverSigns, Step::OffererRevokes];

    /// One row a state: the one step that moves it, and where; in which commitments it is.
    #[test]
    fn every_state_and_step_follows_the_table() {
        use HtlcState::*;
        #[rustfmt::skip]
        let table: [(HtlcState, Option<Step>, Next, [bool; 4]); 9] = [
            // state               moved by                       to                            B latest, B
            // next, A latest, A next
            (AddSent,            Some(Step::OffererSigns),      Next::To(AddCommitted),       [false, true,  false, false]),
            (AddCommitted,       Some(Step::ReceiverRevokes),   Next::To(AddRevoked),         [true,  true,  false, false]),
            (AddRevoked,         Some(Step::ReceiverSigns),     Next::To(AddAckCommitted),    [true,  true,  false, true ]),
            (AddAckCommitted,    Some(Step::OffererRevokes),    Next::To(Irrevocable),        [true,  true,  true,  true ]),
            (Irrevocable,        None,                          Next::Stays,                  [true,  true,  true,  true ]),
            (RemoveSent,         Some(Step::ReceiverSigns),     Next::To(RemoveCommitted),    [true,  true,  true,  false]),
            (RemoveCommitted,    Some(Step::OffererRevokes),    Next::To(RemoveRevoked),      [true,  true,  false, false]),
            (RemoveRevoked,      Some(Step::OffererSigns),      Next::To(RemoveAckCommitted), [true,  false, false, false]),
            (RemoveAckCommitted, Some(Step::ReceiverRevokes),   Next::Gone,                   [false, false, false, false]),
        ];
        assert_eq!(table.map(|(state, ..)| state), HtlcState::ALL);
        for (state, moved_by, to, in_commitments) in table {
            for step in STEPS {
                let expected = if moved_by == Some(step) { to } else { Next::Stays };
                assert_eq!(state.next(step), expected, "{state:?} {step:?}");
            }
            let which =
                [Which::ReceiverLatest, Which::ReceiverNext, Which::OffererLatest, Which::OffererNext];
            assert_eq!(which.map(|which| state.is_in(which)), in_commitments, "{state:?}");
        }
    }

    #[test]
    fn a_signature_makes_the_next_commitment_the_latest() {
        for state in HtlcState::ALL {
            let signed = |step: Step| match state.next(step) {
                Next::Stays => Some(state),
                Next::To(next) => Some(next),
                Next::Gone => None,
            };
            let is_in = |state: Option<HtlcState>, which| state.is_some_and(|state| state.is_in(which));
            assert_eq!(
                state.is_in(Which::ReceiverNext),
                is_in(signed(Step::OffererSigns), Which::ReceiverLatest)
            );
            assert_eq!(
                state.is_in(Which::OffererNext),
                is_in(signed(Step::ReceiverSigns), Which::OffererLatest)
            );
        }
    }

    #[test]
    fn the_offerers_commitment_holds_nothing_that_the_receivers_does_not() {
        for state in HtlcState::ALL {
            assert!(state.is_in(Which::ReceiverLatest) || !state.is_in(Which::OffererLatest));
            assert!(state.is_in(Which::ReceiverNext) || !state.is_in(Which::OffererNext));
        }
    }
}

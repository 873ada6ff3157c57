//! The forwards that a channel has a part in, for an audit: what two channels of one process say of the same forward must
//! agree (DESIGN section 7).

use super::Channel;
use super::htlc::{Offered, Removal};
use super::state::{Phase, Place};
use crate::amount::Msat;
use crate::forward::{ForwardKey, ForwardResult};
use crate::ids::OwnerId;
use crate::message::PaymentHash;
use crate::parameters::Side;

/// How a forward ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardEnd {
    Fulfilled,
    Failed,
}

/// An HTLC that came in and was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOn {
    pub htlc_id: u64,
    /// The current choice.
    pub to: OwnerId,
    pub attempt: u32,
    /// What its payer was told, or will be.
    pub end: Option<ForwardEnd>,
}

/// Where the outgoing side of a forward is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPlace {
    /// Taken, and in no commitment yet.
    Queued { sign_by_height: u32 },
    /// In a commitment, or nothing final says that it is not.
    Live,
    /// Gone, or never was.
    Over,
}

/// A forward that this channel was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedFor {
    pub key: ForwardKey,
    pub place: ForwardPlace,
    /// The result that the incoming owner was told, or will be.
    pub told: Option<ForwardEnd>,
    /// The incoming owner took the result.
    pub acknowledged: bool,
}

/// An HTLC that went out, is overdue, and failed upstream before its counterparty said anything (DESIGN section 7): should the
/// counterparty fulfil it after all, this end pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub payment_hash: PaymentHash,
    /// The whole of it, with what was kept as a part of the channel's price.
    pub amount_msat: Msat,
}

/// All forwards of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// None in a channel that ended: what came in is settled there, whatever is still remembered.
    pub passed_on: Vec<PassedOn>,
    pub asked_for: Vec<AskedFor>,
    /// As long as they stand in a commitment.
    pub given_up: Vec<GivenUp>,
}

impl Channel {
    /// What this channel knows of forwards, as their incoming and as their outgoing side.
    pub fn forwards(&self) -> Forwards {
        let state = &self.state;
        let passed_on = state.htlcs.received.iter().filter_map(|(id, htlc)| {
            let route = htlc.route.as_ref()?;
            let end = htlc.removal.map(|removal| match removal {
                Removal::Fulfilled(_) => ForwardEnd::Fulfilled,
                Removal::Failed(_) => ForwardEnd::Failed,
            });
            Some(PassedOn { htlc_id: *id, to: route.to, attempt: route.attempt, end })
        });
        let ended = matches!(state.phase, Phase::Closed { .. } | Phase::Aborted { .. });
        let asked_for = state.forwards.iter().map(|((incoming, htlc_id), known)| {
            let key = ForwardKey { incoming: *incoming, htlc_id: *htlc_id, attempt: known.attempt };
            let place = match known.place {
                Place::Queued => ForwardPlace::Queued { sign_by_height: self.sign_by_of(key) },
                Place::Live(_) => ForwardPlace::Live,
                Place::Over => ForwardPlace::Over,
            };
            let told = known.result.map(|result| match result {
                ForwardResult::Fulfilled { .. } => ForwardEnd::Fulfilled,
                ForwardResult::Failed { .. } => ForwardEnd::Failed,
            });
            AskedFor { key, place, told, acknowledged: known.acknowledged }
        });
        Forwards {
            passed_on: if ended { Vec::new() } else { passed_on.collect() },
            asked_for: asked_for.collect(),
            given_up: self.given_up().collect(),
        }
    }

    /// The HTLCs that this channel gave up, as long as they stand in a commitment.
    pub fn given_up(&self) -> impl Iterator<Item = GivenUp> + '_ {
        let state = &self.state;
        state.htlcs.offered.values().filter(|htlc| htlc.given_up).map(|Offered { add, .. }| {
            let kept = state.part_of(Side::Holder, add.id);
            GivenUp { payment_hash: add.payment_hash, amount_msat: add.amount_msat.saturating_add(kept) }
        })
    }

    fn sign_by_of(&self, key: ForwardKey) -> u32 {
        let queued = self.state.updates.queued.iter().find(|offer| offer.key == key);
        queued.map_or(0, |offer| offer.sign_by_height)
    }
}

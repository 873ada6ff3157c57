//! All that a channel remembers. What is here is in the snapshot; what follows from it is made again after a
//! start.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

use super::books::Books;
use super::htlc::Htlcs;
use super::onchain::OnChain;
use super::price::Price;
use crate::amount::Msat;
use crate::bug::{self, Bug};
use crate::bytes::KeyId;
use crate::closing::ClosingTerms;
use crate::commitment::{CommitmentSignatures, HtlcSpec};
use crate::effect::OpeningFailure;
use crate::error::FailureCause;
use crate::event::Role;
use crate::format::CommitmentFormat;
use crate::forward::{ForwardResult, Offer};
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::{CompactSignature, Point};
use crate::message::SideParameters;
use crate::parameters::Side;
use crate::shachain::SecretStore;

/// Names that never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) owner: OwnerId,
    pub(super) channel_id: ChannelId,
    pub(super) role: Role,
    pub(super) counterparty_node: Point,
    pub(super) key_id: KeyId,
}

/// What both sides agreed on at the opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) format: CommitmentFormat,
    pub(super) opener: Side,
    pub(super) capacity_sat: u64,
    pub(super) dust_limit_sat: u64,
    /// As proposed, until the accepter asked for more.
    pub(super) minimum_depth: u32,
    pub(super) holder: SideParameters,
    /// Known from the accepter's answer on.
    pub(super) counterparty: Option<SideParameters>,
    /// What a coin for the accepter would hold, or, at the accepter, holds, if it asks for one.
    pub(super) reserve_sat: u64,
    /// Accepter: where it asks for one; empty if it does not.
    pub(super) reserve_script: ScriptBuf,
}

impl Terms {
    /// Whether an HTLC is too small for an output. It depends on the amount alone, because the format has no
    /// fees.
    pub(super) fn is_trimmed(&self, amount: Msat) -> bool {
        let dust_limit_sat = self.dust_limit_sat + u64::from(bug::is(Bug::TrimmedAtWrongBound));
        amount.to_sat_floor().to_sat() < dust_limit_sat
    }
}

/// Where the channel is in its life. What else is under way (connection, readiness, shutdown) has an enum or
/// flags of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Opener: `open_channel` is on its way.
    Proposed,
    /// Opener: accepted; the host builds the funding transaction.
    Building,
    /// Opener: `funding_created` is on its way. Nothing is broadcast before `funding_signed`.
    FundingSent,
    /// Accepter: `accept_channel` is on its way.
    Accepted,
    /// Both commitments 0 are signed.
    AwaitingConfirmation,
    /// Both sides said that the funding is deep enough.
    Open,
    /// Frozen for the close by ticket, under the terms in `Closing::frozen`.
    Frozen,
    /// The agreed close is in a block.
    Closing {
        txid: Txid,
        height: u32,
    },
    Closed {
        txid: Txid,
        height: u32,
    },
    /// The opening ended before anything could reach the chain, or the funding was replaced there for good. Forgotten
    /// as soon as nobody waits for a result of its.
    Aborted {
        cause: OpeningFailure,
    },
    Failed {
        cause: FailureCause,
    },
}

/// The session that is current, and whether both sides have compared their states in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Connection {
    Offline,
    Reestablishing(SessionId),
    Online(SessionId),
}

/// The funding, from the moment its outpoint is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Funding {
    pub(super) outpoint: OutPoint,
    /// The opener keeps it until it is deep enough, to broadcast it again.
    pub(super) transaction: Option<Transaction>,
    /// Where the chain holds it now.
    pub(super) confirmed: Option<Confirmed>,
    /// Whether it has the agreed depth now.
    pub(super) deep: bool,
    /// Whether this side said `channel_ready`: once said it stays so.
    pub(super) holder_ready: bool,
    pub(super) counterparty_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmed {
    pub(super) height: u32,
    pub(super) block_index: u32,
}

/// Our own commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HolderCommitment {
    /// Of the latest; all before are revoked.
    pub(super) number: u64,
    /// The counterparty's, for the latest. None before commitment 0 is signed.
    pub(super) signatures: Option<CommitmentSignatures>,
}

/// The counterparty's commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CounterpartyCommitment {
    /// Of the latest that we signed.
    pub(super) number: u64,
    /// Whether the one before is not revoked yet: a round is under way.
    pub(super) awaiting_revocation: bool,
    /// The point of its lowest commitment that is not revoked.
    pub(super) unrevoked_point: Point,
    /// The point after that.
    pub(super) next_point: Point,
    pub(super) secrets: SecretStore,
    /// HTLC outputs of the commitment that is about to be revoked.
    pub(super) to_be_revoked: Vec<HtlcSpec>,
}

impl CounterpartyCommitment {
    /// The point of the latest that we signed.
    pub(super) fn latest_point(&self) -> &Point {
        if self.awaiting_revocation { &self.next_point } else { &self.unrevoked_point }
    }
}

/// An update of ours, as the counterparty must see it again if it missed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OwnUpdate {
    Add(u64),
    /// The removal of a received HTLC.
    Remove(u64),
}

/// Which of the two went last: what must be sent again is sent in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LastSent {
    Commitment,
    Revocation,
}

/// Updates between mention and signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Updates {
    /// Offers to sign with the next commitment. They are sent only then, so each can still be dropped.
    pub(super) queued: Vec<Offer>,
    /// Our removals, sent (if online) but not signed, in order.
    pub(super) unsigned: Vec<u64>,
    /// What the commitment under way covers, in the order it was sent. Empty unless a revocation is awaited.
    pub(super) signed: Vec<OwnUpdate>,
    /// Updates of theirs, acknowledged by us, that our next signature covers.
    pub(super) owed: u32,
    /// Updates that their next signature covers: their own, and ours that they acknowledged.
    pub(super) expected: u32,
    pub(super) last_sent: LastSent,
}

/// Where an outgoing forward is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Queued,
    /// In flight under this id.
    Live(u64),
    /// Gone, or never was.
    Over,
}

/// One key's latest attempt, kept until its result is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Forwarded {
    pub(super) attempt: u32,
    pub(super) place: Place,
    pub(super) result: Option<ForwardResult>,
    pub(super) acknowledged: bool,
}

/// Who announced the cooperative close, and with which script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shutdowns {
    pub(super) holder: Option<ScriptBuf>,
    pub(super) counterparty: Option<ScriptBuf>,
}

/// The agreement on the close.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Closing {
    /// Hub: all it proposed in this session, oldest first, or what the wallet froze under before.
    pub(super) proposed: Vec<ClosingTerms>,
    /// Hub: whether an answer to terms is awaited in this session.
    pub(super) proposed_in_session: bool,
    pub(super) frozen: Option<Agreement>,
    /// Wallet: the batch that the hub handed over.
    pub(super) handed_over: Option<Transaction>,
    /// Wallet: how often the hub handed over another batch.
    pub(super) hand_overs: u32,
    /// Why this side had given up waiting when the agreed close appeared after all.
    pub(super) given_up: Option<FailureCause>,
    /// What the agreed close pays the wallet, once it is in a block.
    pub(super) paid_sat: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreement {
    pub(super) terms: ClosingTerms,
    /// Hub: the wallet's ticket, verified.
    pub(super) ticket: Option<CompactSignature>,
}

/// All that is durable about a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) terms: Terms,
    pub(super) phase: Phase,
    pub(super) connection: Connection,
    pub(super) funding: Option<Funding>,
    pub(super) holder: HolderCommitment,
    pub(super) counterparty: Option<CounterpartyCommitment>,
    pub(super) books: Books,
    pub(super) htlcs: Htlcs,
    pub(super) updates: Updates,
    /// By the incoming owner and its HTLC.
    pub(super) forwards: BTreeMap<(OwnerId, u64), Forwarded>,
    /// The counterparty's latest sealed essentials, for its return.
    pub(super) sealed: Vec<u8>,
    pub(super) shutdowns: Shutdowns,
    pub(super) closing: Closing,
    /// The spend of the funding that the chain holds, unless it is the agreed close.
    pub(super) onchain: Option<OnChain>,
    /// What the channel costs its accepter, if it costs anything.
    pub(super) price: Option<Price>,
}

impl State {
    /// The capacity; checked at the opening to be a possible amount.
    pub(super) fn capacity(&self) -> Msat {
        Msat::from_sat(bitcoin::Amount::from_sat(self.terms.capacity_sat)).unwrap_or(Msat::MAX)
    }

    /// What each side keeps once it has reached it: a hundredth of the capacity, or the dust limit if that is
    /// more.
    pub(super) fn reserve(&self) -> Msat {
        let sat = (self.terms.capacity_sat / 100).max(self.terms.dust_limit_sat);
        Msat::from_sat(bitcoin::Amount::from_sat(sat)).unwrap_or(Msat::MAX)
    }

    /// Whether an HTLC is too small for an output.
    pub(super) fn is_trimmed(&self, amount: Msat) -> bool {
        self.terms.is_trimmed(amount)
    }

    /// The counterparty's parameters.
    pub(super) fn counterparty_parameters(&self) -> &SideParameters {
        self.terms.counterparty.as_ref().expect("known before the funding is, and needed only after")
    }

    /// The counterparty's commitments.
    pub(super) fn their(&self) -> &CounterpartyCommitment {
        self.counterparty.as_ref().expect("known before the funding is, and needed only after")
    }

    pub(super) fn their_mut(&mut self) -> &mut CounterpartyCommitment {
        self.counterparty.as_mut().expect("known before the funding is, and needed only after")
    }

    /// What the incoming owner was told of an HTLC that we offered; `None` once that is over, as of one that was given up.
    fn told_of(&self, id: u64) -> Option<Option<ForwardResult>> {
        let key = self.htlcs.offered.get(&id)?.key;
        let forward = self.forwards.get(&(key.incoming, key.htlc_id))?;
        (forward.place == Place::Live(id)).then_some(forward.result)
    }

    /// Whether the incoming owner of an HTLC that we offered was told a preimage.
    pub(super) fn is_fulfilled(&self, id: u64) -> bool {
        matches!(self.told_of(id), Some(Some(ForwardResult::Fulfilled { .. })))
    }

    /// Whether a preimage would be news to the incoming owner of an HTLC that we offered.
    pub(super) fn awaits_result(&self, id: u64) -> bool {
        self.told_of(id).is_some() && !self.is_fulfilled(id)
    }

    /// Whether updates and commitments are exchanged now.
    pub(super) fn is_operating(&self) -> bool {
        self.phase == Phase::Open && matches!(self.connection, Connection::Online(_))
    }

    /// Whether no HTLC and no update is in any commitment that counts, nor on its way.
    pub(super) fn is_quiescent(&self) -> bool {
        let round_over = self.counterparty.as_ref().is_none_or(|their| !their.awaiting_revocation);
        let updates = &self.updates;
        round_over
            && self.htlcs.is_empty()
            && updates.queued.is_empty()
            && updates.unsigned.is_empty()
            && updates.owed == 0
            && updates.expected == 0
    }

    /// Whether a signature of ours would cover anything.
    pub(super) fn has_something_to_sign(&self) -> bool {
        !self.updates.queued.is_empty() || !self.updates.unsigned.is_empty() || self.updates.owed > 0
    }

    /// Whether the funding is agreed but what follows can still be undone by forgetting the channel.
    pub(super) fn is_opening(&self) -> bool {
        match self.phase {
            Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => true,
            Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. }
            | Phase::Failed { .. } => false,
        }
    }
}

//! What a channel shows: tables, RPCs, the directory of recipients, the settlement engine.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};

use super::Channel;
use super::htlc::{HtlcState, Removal, Which};
use super::onchain_view::{Awaiting, OnchainView};
use super::state::{Connection, Phase};
use crate::amount::Msat;
use crate::bytes::{KeyId, PaymentHash};
use crate::closing::{ClosingTerms, TicketSpec};
use crate::commitment::{CommitmentSignatures, CommitmentTransaction};
use crate::effect::OpeningFailure;
use crate::error::FailureCause;
use crate::event::Role;
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::{CompactSignature, Point};
use crate::message::Preimage;
use crate::parameters::Side;

/// Where a channel is in its life, for display and decisions of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseView {
    /// Nothing of ours is on the chain, or signed for it, yet.
    Opening,
    /// The funding is signed by both sides and not yet deep enough, or one side is not ready yet.
    AwaitingConfirmation {
        confirmed_height: Option<u32>,
    },
    Open,
    /// At least one side has announced the cooperative close; HTLCs in flight are still resolved.
    ShuttingDown {
        by_us: bool,
        by_counterparty: bool,
    },
    /// Frozen under these terms: only the chain changes the channel now.
    Frozen {
        terms: ClosingTerms,
    },
    /// The agreed close is in a block, not final yet.
    Closing {
        txid: Txid,
        height: u32,
    },
    Closed {
        txid: Txid,
        height: u32,
    },
    /// The opening ended before anything could reach the chain.
    Aborted {
        cause: OpeningFailure,
    },
    Failed {
        cause: FailureCause,
    },
}

/// Whether the counterparty can be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    Offline,
    Reestablishing(SessionId),
    Online(SessionId),
}

/// Everything tables and RPCs show. `holder + counterparty + offered + received = capacity`, in msat, at
/// every moment: the books of our latest commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub role: Role,
    pub counterparty_node: Point,
    pub opener: Side,
    pub phase: PhaseView,
    pub connection: ConnectionView,
    pub capacity: Amount,
    pub funding_outpoint: Option<OutPoint>,
    /// The block with the funding; none before it, and again after a reorganisation took it away.
    pub funding_height: Option<u32>,
    pub minimum_depth: u32,
    /// HTLCs can be offered now: open, online, not closing, and the funding deep enough.
    pub usable: bool,
    pub holder_msat: Msat,
    pub counterparty_msat: Msat,
    /// In flight from us, and to us.
    pub offered_msat: Msat,
    pub received_msat: Msat,
    /// Live HTLCs of both directions, with and without outputs, those on their way in or out included.
    pub htlcs: usize,
    /// The largest HTLC we could offer now, and the counterparty could offer us, by balance and limits (0
    /// while it could not at all).
    pub spendable_msat: Msat,
    pub receivable_msat: Msat,
    pub reserve_msat: Msat,
    /// What trimmed HTLCs put at risk now.
    pub dust_exposure_msat: Msat,
    pub holder_commitment_number: u64,
    pub counterparty_commitment_number: u64,
    /// Blocks we would wait for our own balance after a unilateral close.
    pub holder_to_self_delay_blocks: u16,
    /// Blocks the counterparty would wait: within these we must be online to punish a revoked state.
    pub counterparty_to_self_delay_blocks: u16,
    /// The height by which this side must be there for an HTLC: to fail the channel over it, or to claim it on the chain.
    pub next_deadline: Option<u32>,
    /// The commitment that the chain holds, if it holds one.
    pub onchain: Option<OnchainView>,
    /// What a channel that ends waits for.
    pub awaiting: Option<Awaiting>,
    /// What the wallet's output of the agreed close holds, once that close is in a block; of a channel that closed by a
    /// commitment, what this side took from it. 0 before.
    pub paid_sat: u64,
    /// What the channel costs its accepter, and how much of that is still to be paid.
    pub price_msat: Msat,
    pub price_unpaid_msat: Msat,
}

/// Hub, frozen: all the settlement engine needs to put the channel into a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyTicket {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    /// For `Signer::sign_closing_input`.
    pub key_id: KeyId,
    pub terms: ClosingTerms,
    pub spec: TicketSpec,
    /// The wallet's, verified when it came.
    pub signature: CompactSignature,
}

/// Failed: our latest commitment, fully signed, and what its HTLCs need.
///
/// It is our latest by the journal; the verifier checks it again before anything is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishJob {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub key_id: KeyId,
    pub funding_amount: Amount,
    pub commitment: CommitmentTransaction,
    pub counterparty_signatures: CommitmentSignatures,
    /// Signed by both.
    pub transaction: Transaction,
    /// Of received HTLCs that have an output.
    pub preimages: Vec<(PaymentHash, Preimage)>,
    /// The funding output's witness script.
    pub funding_script: ScriptBuf,
    /// The peer confirmed in this process's life that this is our latest state. The shard fills it in: a hub that was
    /// proven to run from an old backup publishes nothing else by itself (DESIGN section 5).
    pub proven_current: bool,
    /// The height by which the commitment must be in a block, so that its HTLCs can be claimed in time. None: no HTLC
    /// of ours has an output.
    pub deadline: Option<u32>,
    /// What we lose at most if it never confirms: the budget of its fees follows from it.
    pub value_at_stake: Amount,
    /// What we lose at most if it confirms after the deadline: HTLCs, but not our balance. No deadline is worth a higher
    /// fee than a share of this.
    pub value_in_time: Amount,
    /// The counterparty lost its data and asked for this close: it gets what it owns by our commitment alone, so
    /// this is published even if nothing of ours is at stake.
    pub for_counterparty: bool,
}

impl Channel {
    /// Everything tables and RPCs show. Costs a pass over the live HTLCs.
    pub fn view(&self) -> ChannelView {
        let state = &self.state;
        let in_flight = |offerer: Side, htlcs: &mut dyn Iterator<Item = (HtlcState, Msat)>| {
            let which = Which::latest(Side::Holder, offerer);
            htlcs
                .filter(|(state, _)| state.is_in(which))
                .fold(Msat::ZERO, |sum, (_, amount)| sum.saturating_add(amount))
        };
        let balances = state.books.holder.latest;
        ChannelView {
            owner: state.names.owner,
            channel_id: state.names.channel_id,
            role: state.names.role,
            counterparty_node: state.names.counterparty_node,
            opener: state.terms.opener,
            phase: self.phase(),
            connection: match state.connection {
                Connection::Offline => ConnectionView::Offline,
                Connection::Reestablishing(session) => ConnectionView::Reestablishing(session),
                Connection::Online(session) => ConnectionView::Online(session),
            },
            capacity: state.funding_amount(),
            funding_outpoint: state.funding.as_ref().map(|funding| funding.outpoint),
            funding_height: self.funding_height(),
            minimum_depth: state.terms.minimum_depth,
            usable: self.is_usable(),
            holder_msat: balances.holder,
            counterparty_msat: balances.counterparty,
            offered_msat: in_flight(
                Side::Holder,
                &mut state.htlcs.offered.values().map(|htlc| (htlc.state, htlc.add.amount_msat)),
            ),
            received_msat: in_flight(
                Side::Counterparty,
                &mut state.htlcs.received.values().map(|htlc| (htlc.state, htlc.add.amount_msat)),
            ),
            htlcs: state.htlcs.offered.len() + state.htlcs.received.len() + state.updates.queued.len(),
            spendable_msat: self.spendable(),
            receivable_msat: self.receivable(),
            reserve_msat: state.reserve(),
            dust_exposure_msat: state.htlcs.index.dust_exposure,
            holder_commitment_number: state.holder.number,
            counterparty_commitment_number: state.counterparty.as_ref().map_or(0, |their| their.number),
            holder_to_self_delay_blocks: state
                .terms
                .counterparty
                .as_ref()
                .map_or(0, |theirs| theirs.to_self_delay_blocks),
            counterparty_to_self_delay_blocks: state.terms.holder.to_self_delay_blocks,
            next_deadline: self.act_by(),
            onchain: self.onchain(),
            awaiting: self.awaiting(),
            price_msat: state.price.as_ref().map_or(Msat::ZERO, |price| price.total),
            price_unpaid_msat: state.price_unpaid(),
            paid_sat: match state.phase {
                Phase::Closing { .. } | Phase::Closed { .. } => state.closing.paid_sat,
                Phase::Proposed
                | Phase::Building
                | Phase::FundingSent
                | Phase::Accepted
                | Phase::AwaitingConfirmation
                | Phase::Open
                | Phase::Frozen
                | Phase::Aborted { .. }
                | Phase::Failed { .. } => 0,
            },
        }
    }

    fn funding_height(&self) -> Option<u32> {
        let funding = self.state.funding.as_ref()?;
        funding.confirmed.map(|at| at.height)
    }

    /// Where the channel is in its life.
    pub fn phase(&self) -> PhaseView {
        let state = &self.state;
        let (by_us, by_counterparty) =
            (state.shutdowns.holder.is_some(), state.shutdowns.counterparty.is_some());
        match &state.phase {
            Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => PhaseView::Opening,
            Phase::AwaitingConfirmation => {
                PhaseView::AwaitingConfirmation { confirmed_height: self.funding_height() }
            }
            Phase::Open if by_us || by_counterparty => PhaseView::ShuttingDown { by_us, by_counterparty },
            Phase::Open => PhaseView::Open,
            Phase::Frozen => match &state.closing.frozen {
                Some(agreement) => PhaseView::Frozen { terms: agreement.terms },
                None => PhaseView::ShuttingDown { by_us, by_counterparty },
            },
            Phase::Closing { txid, height } => PhaseView::Closing { txid: *txid, height: *height },
            Phase::Closed { txid, height } => PhaseView::Closed { txid: *txid, height: *height },
            Phase::Aborted { cause } => PhaseView::Aborted { cause: cause.clone() },
            Phase::Failed { cause } => PhaseView::Failed { cause: cause.clone() },
        }
    }

    /// Forwards of other owners that this channel remembers, as their outgoing side: those in flight, and results that are
    /// not acknowledged. 0 once all is told and taken.
    pub fn forwards_kept(&self) -> usize {
        self.state.forwards.len()
    }

    /// Whether an HTLC could be offered now, as far as the channel's state goes.
    pub fn is_usable(&self) -> bool {
        let state = &self.state;
        state.is_operating()
            && state.shutdowns.holder.is_none()
            && state.shutdowns.counterparty.is_none()
            && state.funding.as_ref().is_some_and(|funding| funding.deep)
    }

    /// The largest HTLC we could offer now by balance and the limit on what is in flight; zero where none
    /// could be. Costs nothing.
    pub fn spendable(&self) -> Msat {
        self.largest(Side::Holder)
    }

    /// The same for the counterparty.
    pub fn receivable(&self) -> Msat {
        self.largest(Side::Counterparty)
    }

    fn largest(&self, offerer: Side) -> Msat {
        if !self.is_usable() {
            return Msat::ZERO;
        }
        let allowed = self.receiver_parameters(offerer);
        let room = allowed.max_htlc_value_in_flight_msat.saturating_sub(self.flight(offerer).amount);
        let largest = self.available(offerer).min(room);
        if largest < allowed.htlc_minimum_msat { Msat::ZERO } else { largest }
    }

    /// Hub, frozen: all the settlement engine needs to put the channel into a batch. `None` before.
    pub fn ticket(&self) -> Option<ReadyTicket> {
        let agreement = self.state.closing.frozen?;
        Some(ReadyTicket {
            owner: self.state.names.owner,
            channel_id: self.state.names.channel_id,
            key_id: self.state.names.key_id,
            terms: agreement.terms,
            spec: self.ticket_spec(&agreement.terms),
            signature: agreement.ticket?,
        })
    }

    /// Preimages of received HTLCs with outputs, for claims on the chain.
    pub(super) fn known_preimages(&self) -> Vec<(PaymentHash, Preimage)> {
        let received = self.state.htlcs.received.values().filter(|htlc| !htlc.trimmed);
        received
            .filter_map(|htlc| match htlc.removal? {
                Removal::Fulfilled(preimage) => Some((htlc.add.payment_hash, preimage)),
                Removal::Failed(_) => None,
            })
            .collect()
    }
}

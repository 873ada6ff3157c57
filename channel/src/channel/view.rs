//! What a channel shows: tables, RPCs, the directory of recipients, the settlement engine.

use bitcoin::{Amount, OutPoint, Transaction, Txid};

use crate::amount::Msat;
use crate::bytes::{KeyId, PaymentHash};
use crate::closing::{ClosingTerms, TicketSpec};
use crate::commitment::{CommitmentSignatures, CommitmentTransaction};
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
    Aborted,
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

/// Everything tables and RPCs show. `holder + counterparty + offered + received = capacity`, in msat, at every moment: the
/// books of our latest commitment.
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
    pub minimum_depth: u32,
    pub holder_msat: Msat,
    pub counterparty_msat: Msat,
    /// In flight from us, and to us.
    pub offered_msat: Msat,
    pub received_msat: Msat,
    /// Live HTLCs of both directions, with and without outputs, those on their way in or out included.
    pub htlcs: usize,
    /// The largest HTLC we could offer now, and the counterparty could offer us, by balance and limits (0 while it could
    /// not at all).
    pub spendable_msat: Msat,
    pub receivable_msat: Msat,
    pub reserve_msat: Msat,
    /// What trimmed HTLCs put at risk now.
    pub dust_exposure_msat: Msat,
    pub holder_commitment_number: u64,
    pub counterparty_commitment_number: u64,
    /// Blocks we would wait for our own balance after a unilateral close.
    pub holder_to_self_delay_blocks: u16,
    pub counterparty_to_self_delay_blocks: u16,
    /// Height by which we must be online again to punish an old state published now: `to_self_delay` of the counterparty.
    pub next_deadline: Option<u32>,
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
}

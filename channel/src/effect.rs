//! What a channel asks its host to do. Data only: the host performs effects after the journal row that caused
//! them is durable, except `Internal`, which may go at once inside one process with one ordered log.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::channel::{CommitmentOwner, OutputPart};
use crate::commitment::HtlcSpec;
use crate::error::FailureCause;
use crate::event::AbortReason;
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, Internal};
use crate::ids::{OwnerId, StreamId};
use crate::message::{ClosingTerms, Message, PaymentHash, Preimage};
use crate::peer_text::PeerText;

/// One thing to do. Effects of one channel are performed in the order in which `apply` gave them.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send to the counterparty over the session that was current when the effect was made; dropped if that
    /// session is gone at release.
    Send(ToSend),
    /// Deliver to another owner of this process.
    Internal { to: OwnerId, message: Internal },
    /// Keep for the penalty: the HTLC outputs of the counterparty's commitment `number`, just revoked
    /// (directions as the counterparty, that commitment's broadcaster, sees them). Never empty.
    LogRevoked { number: u64, htlcs: Vec<HtlcSpec> },
    /// The opener must build the funding transaction with an output of this script and amount (and the coin for the
    /// accepter, if one is agreed), and answer with `Command::FundingBuilt` or `Command::AbortOpening`.
    BuildFunding { script: ScriptBuf, amount: Amount, reserve_coin: Option<TxOut> },
    /// Watch the funding outpoint for its confirmation and its spend. `minimum_depth` confirmations give
    /// `ChainEvent::FundingDeep`.
    WatchFunding { outpoint: OutPoint, script: ScriptBuf, amount: Amount, minimum_depth: u32 },
    /// Broadcast the funding transaction; both commitments 0 are signed.
    BroadcastFunding { transaction: Transaction },
    /// The opening ended before the release of anything: unlock the coins of this funding transaction (none
    /// if none was built yet).
    ReleaseCoins { transaction: Option<Transaction> },
    /// Hub: this channel is frozen and its ticket verified; merge `Channel::ticket` into a batch.
    TicketReady,
    /// Wallet: publish this transaction if the chain does not hold it by `publish_by_height`.
    ClosingHandedOver { transaction: Transaction, publish_by_height: u32 },
    /// What is to be done on the chain changed: the host asks `Channel::onchain_plan`.
    PlanChanged,
    /// Tell people (events, tables). Aggregated by the host where there are many.
    Report(Report),
    /// The channel ended; its machine may be forgotten after its last rows are durable.
    Finished,
}

/// A message to the counterparty; those with signatures or secrets name what to sign, and the host signs at
/// release by `Channel::message`. Each names all that may have changed by then.
#[derive(Clone, Debug, PartialEq)]
pub enum ToSend {
    /// Nothing secret in it.
    Ready(Box<Message>),
    OpenChannel,
    AcceptChannel,
    FundingCreated,
    FundingSigned,
    /// The HTLC with this id, which the state holds until it is irrevocably gone.
    AddHtlc {
        id: u64,
    },
    FulfillHtlc {
        id: u64,
        preimage: Preimage,
    },
    FailHtlc {
        id: u64,
        reason: FailureReason,
    },
    /// Sign the counterparty's commitment with this number, whose specification the state holds until its
    /// revocation.
    CommitmentSigned {
        number: u64,
    },
    /// Reveal our secret `number`; from the seed.
    RevokeAndAck {
        number: u64,
    },
    Reestablish {
        next_commitment_number: u64,
        next_revocation_number: u64,
    },
    Ticket,
}

/// What people and the layers above want to know. Amounts in msat, of the chain in satoshi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    Opening {
        capacity_sat: u64,
    },
    OpeningFailed {
        cause: OpeningFailure,
    },
    FundingBroadcast {
        outpoint: OutPoint,
    },
    FundingConfirmed {
        outpoint: OutPoint,
        height: u32,
    },
    /// The funding's block was disconnected: no new HTLCs until it is confirmed again.
    FundingUndone,
    /// Both sides may use the channel.
    Ready,
    Reestablished,
    /// The counterparty lost data: it knows less than it once did. The session stays without updates; it may
    /// ask us to give the channel up (`ChannelError`), and then our latest commitment pays it.
    CounterpartyBehind,
    /// An incoming HTLC is irrevocable; `HtlcReceived` is the first of its life, `Forward*` the last.
    HtlcReceived {
        htlc_id: u64,
        payment_hash: PaymentHash,
        amount_msat: Msat,
        stream: Option<StreamId>,
    },
    /// An incoming HTLC was fulfilled and its removal is irrevocable. `fee_msat` is what this side kept: the
    /// difference to what it paid on; zero at the last hop. `to` is the owner that gave the preimage.
    ForwardSettled {
        key: ForwardKey,
        to: OwnerId,
        payment_hash: PaymentHash,
        amount_msat: Msat,
        fee_msat: Msat,
        stream: Option<StreamId>,
    },
    /// An incoming HTLC was failed and its removal is irrevocable.
    ForwardFailed {
        key: ForwardKey,
        payment_hash: PaymentHash,
        amount_msat: Msat,
        reason: FailureReason,
        stream: Option<StreamId>,
    },
    ShutdownStarted {
        by_us: bool,
    },
    /// Wallet: the hub's terms break a limit of ours. Nothing changed; the hub may propose others.
    TermsRefused {
        terms: ClosingTerms,
        why: TermsFlaw,
    },
    Frozen {
        terms: ClosingTerms,
    },
    Closing {
        txid: Txid,
        height: u32,
    },
    /// The block with the closing transaction was disconnected.
    ClosingUndone {
        txid: Txid,
    },
    /// Final. Of an agreed close `paid_sat` is what the wallet's output holds, on both sides; of a close by a commitment
    /// what this side took.
    Closed {
        txid: Txid,
        height: u32,
        paid_sat: u64,
    },
    /// Gave up: the channel fails on the chain.
    Failed {
        cause: FailureCause,
    },
    /// A commitment is in a block.
    CommitmentConfirmed {
        txid: Txid,
        height: u32,
        whose: CommitmentOwner,
        number: u64,
    },
    /// The block with the commitment was disconnected.
    CommitmentUndone {
        txid: Txid,
    },
    /// An output that concerns us was spent in a block.
    OutputSpent {
        outpoint: OutPoint,
        kind: OutputPart,
        value_sat: u64,
        by_us: bool,
        txid: Txid,
        height: u32,
    },
    /// The block with that spend was disconnected.
    OutputSpendUndone {
        outpoint: OutPoint,
        txid: Txid,
    },
    /// The counterparty showed the preimage of an HTLC of ours to the chain: it was paid.
    PreimageFound {
        htlc_id: u64,
        payment_hash: PaymentHash,
    },
    /// A part of what the channel costs its accepter was paid for good, with an HTLC that its opener had offered.
    PricePaid {
        amount_msat: Msat,
        /// What is still to be paid.
        unpaid_msat: Msat,
    },
    /// An output that concerned us was not worth its fee, however long it waited: nobody takes it.
    OutputGivenUp {
        outpoint: OutPoint,
        kind: OutputPart,
        value_sat: u64,
    },
}

/// Why a channel never came to be. Nothing of ours was ever on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OpeningFailure {
    #[error(transparent)]
    Aborted(AbortReason),
    #[error("the connection was lost before the funding was signed")]
    Disconnected,
    /// With its own words, for whom it concerns.
    #[error("the counterparty gave up{text}")]
    Counterparty { text: PeerText },
    #[error("the counterparty broke the protocol: {0}")]
    Violation(crate::error::Violation),
    #[error("the funding transaction did not confirm")]
    NeverConfirmed,
    /// Also of a channel that was open before a reorganisation: no commitment of it can ever be in a block.
    #[error("another transaction took the funding's coins for good")]
    FundingReplaced,
    #[error("the funding transaction on the chain is not the one agreed")]
    WrongFunding,
}

/// Why this wallet does not agree to closing terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TermsFlaw {
    #[error("the closing fee is above the agreed maximum of {maximum_sat} sat")]
    FeeTooHigh { maximum_sat: u64 },
    #[error("the terms' height to publish by is past at height {height}")]
    PublishHeightPast { height: u32 },
    #[error("the terms' height to publish by is above {latest}")]
    PublishHeightTooFar { latest: u32 },
}

//! What a channel asks its host to do. Data only: the host performs effects after the journal row that caused them is
//! durable, except `Internal`, which may go at once inside one process with one ordered log.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::commitment::HtlcSpec;
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, Internal};
use crate::ids::{OwnerId, StreamId};
use crate::message::{ClosingTerms, Message, PaymentHash, Preimage};

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send to the counterparty over the session that is current now; dropped if that session is gone at release.
    Send(ToSend),
    /// Deliver to another owner of this process.
    Internal { to: OwnerId, message: Internal },
    /// Keep for the penalty: the HTLC outputs of the counterparty's commitment `number`, just revoked.
    LogRevoked { number: u64, htlcs: Vec<HtlcSpec> },
    /// The opener must build the funding transaction with an output of this script and amount.
    BuildFunding { script: ScriptBuf, amount: Amount },
    /// Watch the funding outpoint for its confirmation and its spend.
    WatchFunding { outpoint: OutPoint, script: ScriptBuf, amount: Amount },
    /// Broadcast the funding transaction; both commitments 0 are signed.
    BroadcastFunding { transaction: Transaction },
    /// The opening ended before the release of anything: unlock the coins of this funding transaction.
    ReleaseCoins { transaction: Option<Transaction> },
    /// Hub: this channel is frozen and its ticket verified; merge it into a batch.
    TicketReady,
    /// Wallet: publish this transaction if the chain does not hold it by `publish_by_height`.
    ClosingHandedOver { transaction: Transaction, publish_by_height: u32 },
    /// The channel failed on the chain: its publish job (our latest commitment) is to be kept. The host asks `Channel::publish_job`.
    FailedOnChain,
    /// Tell people (events, tables). Aggregated by the host where there are many.
    Report(Report),
    /// The channel ended; its machine may be forgotten after its last rows are durable.
    Finished,
}

/// A message to the counterparty; those with signatures or secrets name what to sign, and the host signs at release.
#[derive(Clone, Debug, PartialEq)]
pub enum ToSend {
    /// Nothing secret in it.
    Ready(Box<Message>),
    OpenChannel,
    AcceptChannel,
    FundingCreated,
    FundingSigned,
    /// Sign the counterparty's commitment with this number, whose specification the state holds until its revocation.
    CommitmentSigned { number: u64 },
    /// Reveal our secret `number`; from the seed.
    RevokeAndAck { number: u64 },
    Reestablish,
    Ticket,
}

/// What people and the layers above want to know. Amounts in msat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    Opening { capacity_sat: u64 },
    OpeningFailed { why: String },
    FundingBroadcast { outpoint: OutPoint },
    FundingConfirmed { outpoint: OutPoint, height: u32 },
    Ready,
    Reestablished,
    /// An incoming HTLC was fulfilled irrevocably, or an outgoing one's preimage is known. `fee_msat` only on the hub's incoming side.
    ForwardSettled { key: ForwardKey, incoming_msat: Msat, stream: Option<StreamId>, preimage: Preimage },
    ForwardFailed { key: ForwardKey, reason: FailureReason },
    HtlcReceived { payment_hash: PaymentHash, amount_msat: Msat },
    ShutdownStarted { by_us: bool },
    Frozen { terms: ClosingTerms },
    Closing { txid: Txid, height: u32 },
    Closed { txid: Txid, height: u32, paid_sat: u64 },
    Failed { why: String },
}

//! What a journal holds of a channel: decisions already checked. Replaying them in order gives the channel
//! again.

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};

use super::onchain::{OnChain, Spend};
use super::price::Price;
use super::state::{Names, Terms};
use crate::amount::Msat;
use crate::closing::ClosingTerms;
use crate::commitment::CommitmentSignatures;
use crate::effect::OpeningFailure;
use crate::error::FailureCause;
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Offer, RouteChoice};
use crate::ids::{OwnerId, SessionId};
use crate::keys::{CompactSignature, Point};
use crate::message::{Preimage, SideParameters, UpdateAddHtlc};
use crate::shachain::CommitmentSecret;

/// One checked step of one channel. Only `check` and the journal's decoder make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Input(pub(super) Kind);

/// The steps. Positions are what is stored: new ones are added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    AddReceived {
        add: UpdateAddHtlc,
        refused: Option<FailureReason>,
    },
    FulfillReceived {
        id: u64,
        preimage: Preimage,
    },
    FailReceived {
        id: u64,
        reason: FailureReason,
    },
    /// The counterparty's signatures for our next commitment, which makes it our latest: the one before is
    /// revoked in the same step.
    CommitmentReceived {
        signatures: CommitmentSignatures,
        sealed: Vec<u8>,
    },
    /// With a choice for each received HTLC that becomes irrevocable, in the order of `moving_received`.
    RevocationReceived {
        secret: CommitmentSecret,
        next_point: Point,
        routes: Vec<RouteChoice>,
    },
    /// Positions in the queue of offers that came too late to be signed, rising.
    SignNow {
        dropped: Vec<u32>,
    },
    Offered(Offer),
    OfferRefused {
        key: ForwardKey,
        reason: FailureReason,
    },
    /// `next` is the router's answer to a failure, absent where there is nothing to choose.
    ResultTaken {
        key: ForwardKey,
        from: OwnerId,
        result: ForwardResult,
        next: Option<RouteChoice>,
    },
    Acknowledged {
        key: ForwardKey,
    },
    Connected {
        session: SessionId,
    },
    Disconnected,
    Reestablished {
        missing: Missing,
    },
    /// The counterparty proved that we revoked commitment `number`, which we do not remember.
    ProvenBehind {
        number: u64,
    },
    Opened(Box<First>),
    Accepted(Box<First>),
    AcceptReceived {
        minimum_depth: u32,
        counterparty: Box<SideParameters>,
        reserve_coin: Option<TxOut>,
    },
    FundingBuilt {
        transaction: Box<Transaction>,
        outpoint: OutPoint,
    },
    FundingCreated {
        outpoint: OutPoint,
        signature: CompactSignature,
        sealed: Vec<u8>,
    },
    FundingSigned {
        signature: CompactSignature,
        sealed: Vec<u8>,
    },
    OpeningEnded {
        cause: OpeningFailure,
    },
    ReadyReceived,
    FundingConfirmed {
        height: u32,
        block_index: u32,
    },
    FundingUndone,
    FundingDeep,
    FundingFinal,
    ShutdownSent {
        script: ScriptBuf,
    },
    ShutdownReceived {
        script: ScriptBuf,
    },
    TermsProposed(ClosingTerms),
    TermsAccepted(ClosingTerms),
    TicketTaken {
        terms: ClosingTerms,
        signature: CompactSignature,
    },
    HandedOver {
        transaction: Box<Transaction>,
    },
    AgreedSpend {
        txid: Txid,
        height: u32,
        paid_sat: u64,
    },
    SpendUndone,
    SpendFinal,
    Failed {
        cause: FailureCause,
    },
    /// Positions in the queue of offers that came too late to be signed, rising, while a round is still under
    /// way.
    OffersLate {
        dropped: Vec<u32>,
    },
    /// Offered HTLCs without outputs that are overdue.
    GivenUp {
        ids: Vec<u64>,
    },
    Recovered(Box<Recovered>),
    /// A spend of the funding that is not the agreed close. `cause` fails the channel if nothing did before.
    CommitmentFound {
        onchain: Box<OnChain>,
        cause: FailureCause,
    },
    /// A spend of an output that concerns us, the delayed output that it makes, and preimages in it.
    OutputSpent {
        outpoint: OutPoint,
        spend: Spend,
        second_stage: Option<(OutPoint, TxOut)>,
        preimages: Vec<(u64, Preimage)>,
    },
    OutputUndone {
        outpoint: OutPoint,
    },
    OutputFinal {
        outpoint: OutPoint,
    },
    /// Preimages of HTLCs that we offered, by their ids.
    PreimagesSeen {
        preimages: Vec<(u64, Preimage)>,
    },
    /// A conflicting spend of what the funding spends is final.
    FundingReplaced,
    /// The first input of a channel that costs its accepter something, proposed by us or to us.
    Priced {
        first: Box<First>,
        price: Price,
    },
    /// An HTLC of which the counterparty kept a part of the price.
    PricedAddReceived {
        add: UpdateAddHtlc,
        refused: Option<FailureReason>,
        deducted_msat: Msat,
    },
    /// An output that concerns us and is not worth its fee: as if it had never been there.
    OutputGivenUp {
        outpoint: OutPoint,
    },
}

/// The first input of a channel whose data this side lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recovered {
    pub(super) names: Names,
    pub(super) terms: Terms,
    pub(super) outpoint: OutPoint,
    pub(super) session: SessionId,
}

/// The first input of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct First {
    pub(super) names: Names,
    pub(super) terms: Terms,
    pub(super) session: SessionId,
}

/// What the counterparty missed, by its `channel_reestablish`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Missing {
    /// The terms under which the wallet is frozen, as it says: all others proposed before are void.
    pub(super) frozen: Option<ClosingTerms>,
    pub(super) commitment: bool,
    pub(super) revocation: bool,
    /// It may have missed `channel_ready`: no commitment was ever exchanged.
    pub(super) ready: bool,
}

/// The bytes are no input, or no snapshot, of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes are malformed")]
    Malformed,
    #[error("bytes are left over")]
    TrailingBytes,
    #[error("the version {found} is not known, this program reads {expected}")]
    UnknownVersion { found: u8, expected: u8 },
    #[error("the bytes contradict themselves")]
    Inconsistent,
}

impl Input {
    /// Appends the input's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        *out = postcard::to_extend(&self.0, std::mem::take(out))
            .expect("inputs are plain data, and a vector grows");
    }

    /// Reads what [`Input::encode`] wrote: all of `bytes`. No bytes make it panic or take more memory than
    /// they are long.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, rest) = postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
        if rest.is_empty() { Ok(Self(kind)) } else { Err(DecodeError::TrailingBytes) }
    }
}

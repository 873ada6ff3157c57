//! What the ledger knows. Invariant: it is the fold of [`apply`](super::apply) over the entries, and holds no secret that was not given away.

use std::collections::{BTreeMap, BTreeSet};

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::forward::ForwardKey;
use channel::ids::{ChannelId, OwnerId, StreamId};
use channel::keys::{CompactSignature, Point};
use channel::message::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};

use super::runs::IndexSet;
use super::secrets::Salt;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Number of the latest payment made, and of the latest received.
    pub last_payment: u64,
    pub last_received: u64,
    /// Number of the latest stream this wallet paid.
    pub last_stream: u64,
    /// In flight, by number.
    pub payments: BTreeMap<u64, Payment>,
    /// The same, by hash.
    pub in_flight: BTreeMap<PaymentHash, u64>,
    /// Paid invoices that have not expired yet.
    pub settled: BTreeMap<PaymentHash, Settled>,
    pub invoices: BTreeMap<PaymentHash, Invoice>,
    pub payers: BTreeMap<StreamId, PayerStream>,
    /// Payers' streams by their number.
    pub payer_numbers: BTreeMap<u64, StreamId>,
    pub payees: BTreeMap<StreamId, PayeeStream>,
    /// Results of incoming HTLCs, until the channel acknowledges them.
    pub held: BTreeMap<ForwardKey, Held>,
    pub requests: BTreeMap<[u8; 16], Request>,
    /// What the hub said of its policy last.
    pub policy: Option<ToldPolicy>,
}

/// A payment that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub payment_hash: PaymentHash,
    pub payee: Point,
    /// What the payee gets, and what the hub gets on top.
    pub amount_msat: Msat,
    pub fee_msat: Msat,
    /// Expiry at the payee, and at the hub.
    pub final_expiry: u32,
    pub hub_expiry: u32,
    pub sign_by_height: u32,
    pub kind: PaymentKind,
    /// Sealed for the payee.
    pub payload: Vec<u8>,
    pub description: String,
    pub created_ms: u64,
    /// The current attempt, from 1, and the channels of all, the current one last.
    pub attempt: u32,
    pub tried: Vec<OwnerId>,
}

/// Why the payee is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentKind {
    Invoice { expires_ms: u64 },
    Spontaneous { salt: Salt },
}

/// An invoice that this wallet paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub number: u64,
    pub expires_ms: u64,
}

/// An invoice of this wallet's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    pub salt: Salt,
    /// None: the payer chooses.
    pub amount_msat: Option<Msat>,
    pub description: String,
    pub created_ms: u64,
    pub expires_ms: u64,
    /// BOLT 11.
    pub text: String,
    /// Number of the payment received for it.
    pub paid: Option<u64>,
    /// None: whatever pays it is taken at once.
    pub hold: Option<HoldState>,
}

/// What the maker of a hold invoice decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldState {
    /// What pays it will wait.
    Undecided,
    /// This HTLC was judged to be good, and waits.
    Waiting {
        key: ForwardKey,
        cltv_expiry: u32,
    },
    Settled,
    /// Nothing that pays it is taken any more.
    Cancelled,
}

/// What became of an incoming HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    Fulfilled {
        preimage: Preimage,
    },
    Failed {
        reason: FailureReason,
    },
    /// A tick: the stream's key gives the preimage again.
    Tick {
        stream: StreamId,
        index: u64,
    },
}

/// A finished payment of either direction: what its retained row holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub number: u64,
    pub sent: bool,
    pub payment_hash: PaymentHash,
    pub amount_msat: Msat,
    pub fee_msat: Msat,
    pub outcome: Outcome,
    pub attempts: u32,
    pub created_ms: u64,
    pub ended_ms: u64,
    pub payee: Option<Point>,
    pub description: String,
    pub spontaneous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Settled { preimage: Preimage },
    Failed { reason: FailureReason },
}

/// The terms of a stream, the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub amount_msat: Msat,
    pub ticks: u64,
    pub ticks_per_second: u32,
    pub max_in_flight: u32,
}

/// Where a paid stream is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayerPhase {
    Proposed,
    Running,
    /// All ticks are settled; the last receipt is awaited.
    Ending,
    Ended {
        ended_ms: u64,
        text: String,
    },
    Refused {
        ended_ms: u64,
        text: String,
    },
}

/// A stream this wallet pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayerStream {
    pub number: u64,
    pub payee: Point,
    pub terms: Terms,
    /// What the hub took for each tick when the stream was begun: no tick pays it more, whatever it tells later.
    pub fee_msat: Msat,
    pub phase: PayerPhase,
    pub started_ms: u64,
    /// The next index; every one below was used, whatever became of it.
    pub next_index: u64,
    /// Ticks on their way.
    pub open: BTreeMap<u64, OpenTick>,
    pub settled: u64,
    pub failed: u64,
    pub last_failure: Option<FailureReason>,
    pub receipt: Option<StoredReceipt>,
}

/// A tick on its way: all that its offer needs to be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTick {
    pub to: OwnerId,
    pub fee_msat: Msat,
    pub final_expiry: u32,
    pub hub_expiry: u32,
    pub sign_by_height: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReceipt {
    pub highest_tick: u64,
    pub total_msat: Msat,
    pub signature: CompactSignature,
}

/// A stream this wallet is paid by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeStream {
    pub payer: Point,
    /// The payer's key for this stream.
    pub fresh_key: Point,
    pub terms: Terms,
    pub started_ms: u64,
    pub last_ms: u64,
    /// Indices that were opened.
    pub seen: IndexSet,
    pub received: u64,
    pub total_msat: Msat,
    /// The last receipt given.
    pub receipt: Option<StoredReceipt>,
    /// When and why it ended.
    pub ended: Option<(u64, String)>,
}

/// A hub's policy as it told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldPolicy {
    /// The hub that told it: another's policy is of no use.
    pub hub: Point,
    /// The message `hub.v1.HubPolicy`.
    pub encoded: Vec<u8>,
}

/// What a request made, and what it asked, so that a repeat is known from a misuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub body: [u8; 32],
    pub made: Made,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    Payment(u64),
    Invoice(PaymentHash),
    Stream(StreamId),
    Opening(ChannelId),
    Closing(ChannelId),
    Inbound,
}

impl State {
    /// Streams of either direction that have not ended.
    pub fn live_payers(&self) -> usize {
        self.payers.values().filter(|stream| stream.is_live()).count()
    }

    pub fn live_payees(&self) -> usize {
        self.payees.values().filter(|stream| stream.ended.is_none()).count()
    }

    /// Channels that hold an HTLC of ours or wait for a result: for tests and tables.
    pub fn channels_involved(&self) -> BTreeSet<OwnerId> {
        let payments = self.payments.values().filter_map(|payment| payment.tried.last().copied());
        let ticks = self.payers.values().flat_map(|stream| stream.open.values().map(|tick| tick.to));
        payments.chain(ticks).chain(self.held.keys().map(|key| key.incoming)).collect()
    }
}

impl Invoice {
    /// Bytes of what has no fixed size.
    pub fn text_bytes(&self) -> usize {
        self.text.len() + self.description.len()
    }
}

impl PayeeStream {
    /// Whether the last receipt says all that was received.
    pub fn is_receipted(&self) -> bool {
        self.receipt.is_some_and(|receipt| receipt.total_msat == self.total_msat)
    }
}

impl PayerStream {
    pub fn is_live(&self) -> bool {
        match self.phase {
            PayerPhase::Proposed | PayerPhase::Running | PayerPhase::Ending => true,
            PayerPhase::Ended { .. } | PayerPhase::Refused { .. } => false,
        }
    }

    /// Ticks that may still be begun: settled and open ones never exceed the terms.
    pub fn wanted(&self) -> u64 {
        let open = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        self.terms.ticks.saturating_sub(self.settled).saturating_sub(open)
    }
}

//! The ledger's records: what [`apply`](super::apply) folds. A version byte, then postcard. Decoding never panics.

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::forward::ForwardKey;
use channel::ids::{OwnerId, StreamId};
use channel::message::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};

use super::runs::Run;
use super::state::{
    Held, HoldState, Invoice, OpenTick, PayeeStream, PayerStream, Payment, Request, StoredReceipt, ToldPolicy,
};

/// First byte of every record.
const VERSION: u8 = 1;

/// One step of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    InvoiceMade {
        payment_hash: PaymentHash,
        invoice: Box<Invoice>,
    },
    PaymentStarted {
        number: u64,
        payment: Box<Payment>,
    },
    /// Another channel, after the durable failure of the one before.
    PaymentRetried {
        number: u64,
        to: OwnerId,
    },
    PaymentSettled {
        number: u64,
        preimage: Preimage,
        now_ms: u64,
    },
    PaymentFailed {
        number: u64,
        reason: FailureReason,
        now_ms: u64,
    },
    /// An incoming HTLC for this node was decided on. `invoice`: it pays this invoice.
    Decided {
        key: ForwardKey,
        held: Held,
        received: Option<Received>,
    },
    StreamProposed {
        id: StreamId,
        stream: Box<PayerStream>,
    },
    StreamAccepted {
        id: StreamId,
        now_ms: u64,
    },
    StreamRefused {
        id: StreamId,
        text: String,
        now_ms: u64,
    },
    /// Indices are used up by this record; the offers leave only after it is in the log.
    TicksSent {
        id: StreamId,
        count: u64,
        tick: OpenTick,
    },
    TicksSettled {
        id: StreamId,
        runs: Vec<Run>,
    },
    TicksFailed {
        id: StreamId,
        runs: Vec<Run>,
        reason: FailureReason,
    },
    ReceiptTaken {
        id: StreamId,
        receipt: StoredReceipt,
    },
    /// All ticks are settled.
    StreamEnding {
        id: StreamId,
    },
    StreamEnded {
        id: StreamId,
        text: String,
        now_ms: u64,
    },
    PayeeAgreed {
        id: StreamId,
        stream: Box<PayeeStream>,
    },
    TicksReceived {
        id: StreamId,
        runs: Vec<TickRun>,
        now_ms: u64,
    },
    PayeeEnded {
        id: StreamId,
        text: String,
        now_ms: u64,
    },
    /// The channels took these results.
    Acknowledged {
        runs: Vec<KeyRun>,
    },
    RequestNoted {
        id: [u8; 16],
        request: Request,
    },
    /// The request was refused after it was noted: refusals are not remembered.
    RequestForgotten {
        id: [u8; 16],
    },
    /// What is too old to matter is forgotten.
    Pruned {
        now_ms: u64,
    },
    /// The payee signed what it received; the receipt leaves when this is durable.
    ReceiptGiven {
        id: StreamId,
        receipt: StoredReceipt,
    },
    /// The hub told a policy that is not the one told before.
    PolicyTold {
        policy: ToldPolicy,
    },
    /// An HTLC waits for the maker of a hold invoice, or its fate was decided.
    HoldDecided {
        payment_hash: PaymentHash,
        state: HoldState,
    },
}

/// A payment received, for the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub payment_hash: PaymentHash,
    pub amount_msat: Msat,
    pub preimage: Preimage,
    pub spontaneous: bool,
    pub now_ms: u64,
}

/// Ticks that came in through one channel in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickRun {
    pub incoming: OwnerId,
    pub attempt: u32,
    pub htlc_id: u64,
    pub index: u64,
    pub count: u64,
}

/// Keys in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRun {
    pub incoming: OwnerId,
    pub attempt: u32,
    pub htlc_id: u64,
    pub count: u64,
}

/// The bytes are no record this program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the ledger's record has version {found}, this program reads version {expected}")]
    Version { found: u8, expected: u8 },
    #[error("the ledger's record is broken")]
    Broken,
}

impl Entry {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let encoded = postcard::to_stdvec(self).expect("plain data can always be written");
        out.extend_from_slice(&encoded);
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

/// Reads what was written with this version's byte in front.
pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Broken)?;
    if *version != VERSION {
        return Err(DecodeError::Version { found: *version, expected: VERSION });
    }
    channel::bytes::read_all(rest).ok_or(DecodeError::Broken)
}

/// Writes with this version's byte in front.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("a vector takes any number of bytes")
}

impl TickRun {
    /// Adds the next tick if it continues the run.
    pub fn extend(&mut self, key: &ForwardKey, index: u64) -> bool {
        let next = self.htlc_id.checked_add(self.count) == Some(key.htlc_id)
            && self.index.checked_add(self.count) == Some(index)
            && self.incoming == key.incoming
            && self.attempt == key.attempt;
        if next {
            self.count += 1;
        }
        next
    }

    /// Keys and indices.
    pub fn ticks(self) -> impl Iterator<Item = (ForwardKey, u64)> {
        (0..self.count).map_while(move |at| {
            let htlc_id = self.htlc_id.checked_add(at)?;
            let key = ForwardKey { incoming: self.incoming, htlc_id, attempt: self.attempt };
            Some((key, self.index.checked_add(at)?))
        })
    }
}

impl KeyRun {
    /// Adds the next key if it continues the run.
    pub fn extend(&mut self, key: &ForwardKey) -> bool {
        let next = self.htlc_id.checked_add(self.count) == Some(key.htlc_id)
            && self.incoming == key.incoming
            && self.attempt == key.attempt;
        if next {
            self.count += 1;
        }
        next
    }

    /// The keys.
    pub fn keys(self) -> impl Iterator<Item = ForwardKey> {
        (0..self.count).map_while(move |at| {
            let htlc_id = self.htlc_id.checked_add(at)?;
            Some(ForwardKey { incoming: self.incoming, htlc_id, attempt: self.attempt })
        })
    }
}

//! Agreements on streams, which the hub passes from payer to payee and back. The terms are authenticated end to end with
//! the stream's key: the hub reads them and cannot change them.

use channel::amount::Msat;
use channel::ids::StreamId;
use channel::keys::{CompactSignature, Point};

use crate::fields::{
    bytes, cut_text, fixed, msat, node_key, number, signature, signature_out, stream_id, text,
};
use crate::hub::v1 as pb;
use crate::hub::v1::relay::Kind;
use crate::wire_error::WireError;

/// One message about one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub stream: StreamId,
    pub kind: RelayKind,
}

/// What a relay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayKind {
    Open(StreamTerms),
    Accept,
    Refuse { reason: pb::StreamRefusal, text: String },
    Receipt(Receipt),
    End { text: String },
}

/// What the payer proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTerms {
    pub payee: Point,
    pub payer: Point,
    /// The payer's fresh key for this stream.
    pub fresh_key: Point,
    /// What the payee gets with each tick, above 0.
    pub amount_msat: Msat,
    /// Number of ticks, above 0.
    pub ticks: u64,
    /// 0: as fast as the window allows.
    pub ticks_per_second: u32,
    /// Most ticks in flight at a time, above 0.
    pub max_in_flight: u32,
    /// HMAC of [`StreamTerms::authenticated_bytes`] with the stream's key.
    pub authenticator: [u8; 32],
}

/// The payee's word on what it got; `channel::stream::Receipt` verifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub highest_tick: u64,
    pub total_msat: Msat,
    pub signature: CompactSignature,
}

impl StreamTerms {
    /// What the authenticator covers: every term, in a fixed layout behind a tag.
    pub fn authenticated_bytes(&self, stream: StreamId) -> Vec<u8> {
        let mut all = Vec::with_capacity(176);
        all.extend_from_slice(b"payment-hub/stream-terms/1");
        all.extend_from_slice(&stream.0);
        all.extend_from_slice(self.payee.as_bytes());
        all.extend_from_slice(self.payer.as_bytes());
        all.extend_from_slice(self.fresh_key.as_bytes());
        all.extend_from_slice(&self.amount_msat.to_u64().to_be_bytes());
        all.extend_from_slice(&self.ticks.to_be_bytes());
        all.extend_from_slice(&self.ticks_per_second.to_be_bytes());
        all.extend_from_slice(&self.max_in_flight.to_be_bytes());
        all
    }
}

/// To the wire.
pub fn receipt_out(receipt: &Receipt) -> pb::StreamReceipt {
    pb::StreamReceipt {
        highest_tick: receipt.highest_tick,
        total_msat: receipt.total_msat.to_u64(),
        signature: signature_out(&receipt.signature),
    }
}

/// From the wire.
pub fn receipt_in(receipt: &pb::StreamReceipt) -> Result<Receipt, WireError> {
    Ok(Receipt {
        highest_tick: receipt.highest_tick,
        total_msat: msat("total_msat", receipt.total_msat, 0)?,
        signature: signature("signature", &receipt.signature)?,
    })
}

/// To the wire.
pub fn to_wire(relay: &Relay) -> pb::Relay {
    let kind = match &relay.kind {
        RelayKind::Open(terms) => Kind::Open(pb::StreamOpen {
            payee: bytes(terms.payee.as_bytes()),
            payer: bytes(terms.payer.as_bytes()),
            fresh_key: bytes(terms.fresh_key.as_bytes()),
            amount_msat: terms.amount_msat.to_u64(),
            ticks: terms.ticks,
            ticks_per_second: terms.ticks_per_second,
            max_in_flight: terms.max_in_flight,
            authenticator: bytes(&terms.authenticator),
        }),
        RelayKind::Accept => Kind::Accept(pb::StreamAccept {}),
        RelayKind::Refuse { reason, text } => {
            Kind::Refuse(pb::StreamRefuse { reason: (*reason).into(), text: cut_text(text) })
        }
        RelayKind::Receipt(receipt) => Kind::Receipt(receipt_out(receipt)),
        RelayKind::End { text } => Kind::End(pb::StreamEnd { text: cut_text(text) }),
    };
    pb::Relay { stream_id: bytes(&relay.stream.0), kind: Some(kind) }
}

/// From the wire.
pub fn from_wire(relay: pb::Relay) -> Result<Relay, WireError> {
    let stream = stream_id("stream_id", &relay.stream_id)?;
    let kind = match relay.kind.ok_or(WireError::UnknownKind { what: "a relay" })? {
        Kind::Open(open) => RelayKind::Open(terms_in(&open)?),
        Kind::Accept(pb::StreamAccept {}) => RelayKind::Accept,
        Kind::Refuse(refuse) => RelayKind::Refuse {
            reason: pb::StreamRefusal::try_from(refuse.reason)
                .map_err(|_| WireError::UnknownValue { field: "reason", got: refuse.reason.into() })?,
            text: text("text", refuse.text)?,
        },
        Kind::Receipt(receipt) => RelayKind::Receipt(receipt_in(&receipt)?),
        Kind::End(end) => RelayKind::End { text: text("text", end.text)? },
    };
    Ok(Relay { stream, kind })
}

fn terms_in(open: &pb::StreamOpen) -> Result<StreamTerms, WireError> {
    Ok(StreamTerms {
        payee: node_key("payee", &open.payee)?,
        payer: node_key("payer", &open.payer)?,
        fresh_key: node_key("fresh_key", &open.fresh_key)?,
        amount_msat: msat("amount_msat", open.amount_msat, 1)?,
        ticks: number("ticks", open.ticks, 1, u64::MAX)?,
        ticks_per_second: open.ticks_per_second,
        max_in_flight: small_count("max_in_flight", open.max_in_flight)?,
        authenticator: fixed("authenticator", &open.authenticator)?,
    })
}

fn small_count(field: &'static str, got: u32) -> Result<u32, WireError> {
    number(field, got.into(), 1, u32::MAX.into())?;
    Ok(got)
}

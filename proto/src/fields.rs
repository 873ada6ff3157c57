//! Single fields, checked: fixed-size bytes, points, signatures, amounts, heights, outpoints, texts.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use bytes::Bytes;
use channel::amount::Msat;
use channel::ids::{ChannelId, StreamId};
use channel::keys::{CompactSignature, Point};

use crate::hub::v1 as pb;
use crate::limits;
use crate::wire_error::WireError;

/// Exactly `N` bytes.
pub fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::WrongLength { field, got: bytes.len(), expected: N })
}

/// At most `limit` bytes.
pub fn at_most(field: &'static str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong { field, got: bytes.len(), limit });
    }
    Ok(bytes.to_vec())
}

/// A text for people, at most [`limits::MAX_TEXT_BYTES`].
pub fn text(field: &'static str, text: String) -> Result<String, WireError> {
    if text.len() > limits::MAX_TEXT_BYTES {
        return Err(WireError::TooLong { field, got: text.len(), limit: limits::MAX_TEXT_BYTES });
    }
    Ok(text)
}

/// A text cut to what [`text`] takes, at a character's border.
pub fn cut_text(text: &str) -> String {
    let mut end = text.len().min(limits::MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A message that must be there.
pub fn present<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}

/// 33 bytes that begin like a compressed point. Whether they lie on the curve is found where the point is computed with
/// (a curve operation that `Channel::check` needs anyway); see [`node_key`] for keys that are not.
pub fn point(field: &'static str, bytes: &[u8]) -> Result<Point, WireError> {
    let bytes = fixed::<33>(field, bytes)?;
    match bytes[0] {
        2 | 3 => Ok(Point::from_bytes(bytes)),
        _ => Err(WireError::NotAPoint { field }),
    }
}

/// A node's key: 33 bytes that are a point of the curve.
pub fn node_key(field: &'static str, bytes: &[u8]) -> Result<Point, WireError> {
    let point = point(field, bytes)?;
    point.parse().map_err(|_| WireError::NotAPoint { field })?;
    Ok(point)
}

/// A compact ECDSA signature with both halves in range. Whether it verifies is the caller's question.
pub fn signature(field: &'static str, bytes: &[u8]) -> Result<CompactSignature, WireError> {
    let signature = CompactSignature::from_bytes(fixed(field, bytes)?);
    signature.parse().map_err(|_| WireError::NotASignature { field })?;
    Ok(signature)
}

/// 32 bytes that name a channel.
pub fn channel_id(field: &'static str, bytes: &[u8]) -> Result<ChannelId, WireError> {
    fixed(field, bytes).map(ChannelId)
}

/// 16 bytes that name a stream.
pub fn stream_id(field: &'static str, bytes: &[u8]) -> Result<StreamId, WireError> {
    fixed(field, bytes).map(StreamId)
}

/// An amount in msat from `least` up to all the bitcoin there is.
pub fn msat(field: &'static str, got: u64, least: u64) -> Result<Msat, WireError> {
    let most = Msat::MAX.to_u64();
    match Msat::new(got) {
        Some(amount) if got >= least => Ok(amount),
        _ => Err(WireError::OutOfRange { field, got, least, most }),
    }
}

/// An amount in satoshi up to all the bitcoin there is.
pub fn sat(field: &'static str, got: u64) -> Result<u64, WireError> {
    number(field, got, 0, bitcoin::Amount::MAX_MONEY.to_sat())
}

/// A number within bounds, both included.
pub fn number(field: &'static str, got: u64, least: u64, most: u64) -> Result<u64, WireError> {
    if (least..=most).contains(&got) {
        Ok(got)
    } else {
        Err(WireError::OutOfRange { field, got, least, most })
    }
}

/// A number of at most 16 bits.
pub fn small(field: &'static str, got: u32, least: u16) -> Result<u16, WireError> {
    let (least, most) = (u64::from(least), u64::from(u16::MAX));
    match u16::try_from(got) {
        Ok(value) if u64::from(got) >= least => Ok(value),
        _ => Err(WireError::OutOfRange { field, got: got.into(), least, most }),
    }
}

/// An absolute height (BOLT 2: below 500,000,000).
pub fn height(field: &'static str, got: u32) -> Result<u32, WireError> {
    number(field, got.into(), 0, limits::MAX_HEIGHT.into())?;
    Ok(got)
}

/// The number of a commitment: 48 bits.
pub fn commitment_number(field: &'static str, got: u64) -> Result<u64, WireError> {
    number(field, got, 0, limits::MAX_COMMITMENT_NUMBER)
}

/// An outpoint that must be there.
pub fn outpoint(field: &'static str, value: Option<pb::OutPoint>) -> Result<OutPoint, WireError> {
    let value = present(field, value)?;
    Ok(OutPoint { txid: txid(field, &value.txid)?, vout: value.index })
}

/// A transaction id, 32 bytes in hashing order.
pub fn txid(field: &'static str, bytes: &[u8]) -> Result<Txid, WireError> {
    fixed(field, bytes).map(Txid::from_byte_array)
}

/// Bytes for a field.
pub fn bytes(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

/// A txid for a field.
pub fn txid_out(txid: &Txid) -> Bytes {
    bytes(txid.as_byte_array())
}

/// An outpoint for a field.
pub fn outpoint_out(outpoint: &OutPoint) -> pb::OutPoint {
    pb::OutPoint { txid: txid_out(&outpoint.txid), index: outpoint.vout }
}

/// A signature for a field.
pub fn signature_out(signature: &CompactSignature) -> Bytes {
    bytes(signature.as_bytes())
}

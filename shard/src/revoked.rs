//! The revocation log: one retained row for each revoked commitment of a counterparty that had HTLC outputs. With
//! the state's secrets it is all a penalty needs.

use channel::commitment::HtlcSpec;
use channel::ids::OwnerId;
use journal::{ReadError, Reader, Retained};

/// The journal's table of these rows.
pub const TABLE: u8 = 1;

const VERSION: u8 = 1;

/// The key: the channel's number and the commitment's, big-endian, so that a channel's rows are one range.
pub fn key(owner: OwnerId, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&prefix(owner));
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// What all keys of a channel begin with.
pub fn prefix(owner: OwnerId) -> [u8; 8] {
    owner.0.to_be_bytes()
}

pub(crate) fn row(owner: OwnerId, number: u64, htlcs: &[HtlcSpec]) -> Retained {
    let value = postcard::to_extend(htlcs, vec![VERSION]).expect("a vector takes any number of bytes");
    Retained { table: TABLE, key: key(owner, number).to_vec(), value: Some(value) }
}

/// The HTLC outputs of a row's value; `None` when the bytes are not of this version or broken.
pub fn decode(value: &[u8]) -> Option<Vec<HtlcSpec>> {
    let (version, rest) = value.split_first()?;
    if *version != VERSION {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// What removes the rows of a channel that ended, at most `most` of them: append it, and ask again until it is empty.
pub fn deletions(reader: &Reader, owner: OwnerId, most: usize) -> Result<Vec<Retained>, ReadError> {
    let rows = reader.range(TABLE, &prefix(owner), None, most)?;
    Ok(rows.into_iter().map(|(key, _)| Retained { table: TABLE, key, value: None }).collect())
}

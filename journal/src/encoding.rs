//! How rows are laid out in the file. Every value begins with a CRC-32 of its key and the rest of it, so that
//! a row that was altered, or stands under another key, is found and named.
//!
//! | table | key | value after the check |
//! | --- | --- | --- |
//! | header | 0 | format, logic version, network, owner |
//! | log | number of the row, rising without a gap | records, see [`RowWriter`] |
//! | snapshots | machine | kind, sequence, hash, payload |
//! | retained | caller's table, then the caller's key | the caller's value |
//! | events | index of the first event | bytes of event rows written before, then the events |

use redb::TableDefinition;

use crate::batch::{Content, MachineId, RecordRef, Snapshot};
use crate::limits::{FORMAT_VERSION, ROW_BYTES};
use crate::options::Header;

pub(crate) const HEADER: TableDefinition<u64, &[u8]> = TableDefinition::new("header");
pub(crate) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
pub(crate) const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");
pub(crate) const RETAINED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("retained");
pub(crate) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");

/// The header's only key.
pub(crate) const HEADER_KEY: u64 = 0;

/// Length of the check at the start of every value.
const CHECK: usize = 4;

/// Why a row could not be read.
pub(crate) type Flaw = &'static str;

const TOO_SHORT: Flaw = "it is too short";
const WRONG_CHECK: Flaw = "its check does not match";
const BAD_NUMBER: Flaw = "a number in it is malformed";
const BAD_KIND: Flaw = "its kind is unknown";
const BAD_TEXT: Flaw = "a text in it is not UTF-8";
const TOO_LONG: Flaw = "bytes are left over at its end";

/// Clears `value` and leaves room for the check, which [`seal`] fills in.
pub(crate) fn begin(value: &mut Vec<u8>) {
    value.clear();
    value.resize(CHECK, 0);
}

/// Writes the check into a value made with [`begin`].
pub(crate) fn seal(key: &[u8], value: &mut [u8]) {
    let check = checksum(key, &value[CHECK..]);
    value[..CHECK].copy_from_slice(&check.to_le_bytes());
}

/// The value without its check, once that is found right.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Flaw> {
    let (check, rest) = value.split_first_chunk::<CHECK>().ok_or(TOO_SHORT)?;
    if u32::from_le_bytes(*check) != checksum(key, rest) {
        return Err(WRONG_CHECK);
    }
    Ok(rest)
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize()
}

/// Appends a number, seven bits a byte, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front.
pub(crate) fn take_number(input: &mut &[u8]) -> Result<u64, Flaw> {
    let mut number = 0u64;
    for (index, &byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            return Err(BAD_NUMBER);
        }
        number |= shifted;
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Ok(number);
        }
    }
    Err(BAD_NUMBER)
}

/// Takes `length` bytes off the front.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8], length: u64) -> Result<&'a [u8], Flaw> {
    let length = usize::try_from(length).map_err(|_| BAD_NUMBER)?;
    let (taken, rest) = input.split_at_checked(length).ok_or(TOO_SHORT)?;
    *input = rest;
    Ok(taken)
}

/// Fills one row of the log.
///
/// A record is a number (twice the payload's length, plus one if it is the input after the one before it in the
/// row, of the same machine), otherwise also machine and sequence, then the payload.
#[derive(Debug, Default)]
pub(crate) struct RowWriter {
    value: Vec<u8>,
    previous: Option<(MachineId, u64)>,
}

/// The longest head of a record: three numbers of ten bytes.
const MAX_HEAD: usize = 30;

impl RowWriter {
    /// True when the record must go to another row. A record too large for any row is taken by an empty one.
    pub fn is_full_for(&self, record: &RecordRef<'_>) -> bool {
        !self.is_empty() && self.value.len() + MAX_HEAD + record.payload.len() > ROW_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.previous.is_none()
    }

    pub fn push(&mut self, record: &RecordRef<'_>) {
        if self.is_empty() {
            begin(&mut self.value);
        }
        let length = record.payload.len() as u64;
        if self.previous == Some((record.machine, record.sequence.wrapping_sub(1))) {
            put_number(&mut self.value, length << 1 | 1);
        } else {
            put_number(&mut self.value, length << 1);
            put_number(&mut self.value, record.machine.0);
            put_number(&mut self.value, record.sequence);
        }
        self.value.extend_from_slice(record.payload);
        self.previous = Some((record.machine, record.sequence));
    }

    /// The finished value for row `number`; the writer is empty after it.
    pub fn finish(&mut self, number: u64) -> &[u8] {
        seal(&number.to_be_bytes(), &mut self.value);
        self.previous = None;
        &self.value
    }
}

/// Walks the records of one row of the log. It holds places, not borrows, so that it can be kept beside the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCursor {
    next: usize,
    machine: MachineId,
    sequence: u64,
}

/// A record's head, and where its payload lies in the row.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub machine: MachineId,
    pub sequence: u64,
    pub payload: std::ops::Range<usize>,
}

impl RowCursor {
    /// Checks the row and stands before its first record.
    pub fn new(number: u64, value: &[u8]) -> Result<Self, Flaw> {
        unseal(&number.to_be_bytes(), value)?;
        Ok(RowCursor { next: CHECK, machine: MachineId(0), sequence: 0 })
    }

    /// The next record of the same row, `None` at its end.
    pub fn next(&mut self, value: &[u8]) -> Result<Option<Place>, Flaw> {
        let mut rest = value.get(self.next..).ok_or(TOO_SHORT)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let head = take_number(&mut rest)?;
        if head & 1 == 1 {
            self.sequence = self.sequence.wrapping_add(1);
        } else {
            self.machine = MachineId(take_number(&mut rest)?);
            self.sequence = take_number(&mut rest)?;
        }
        let start = value.len() - rest.len();
        take_bytes(&mut rest, head >> 1)?;
        self.next = value.len() - rest.len();
        Ok(Some(Place { machine: self.machine, sequence: self.sequence, payload: start..self.next }))
    }
}

const KIND_STATE: u8 = 0;
const KIND_TOMBSTONE: u8 = 1;

/// Writes a snapshot's value.
pub(crate) fn encode_snapshot(snapshot: &Snapshot, value: &mut Vec<u8>) {
    begin(value);
    match &snapshot.content {
        Content::State { payload, hash } => {
            value.push(KIND_STATE);
            put_number(value, snapshot.sequence);
            value.extend_from_slice(hash);
            value.extend_from_slice(payload);
        }
        Content::Tombstone => {
            value.push(KIND_TOMBSTONE);
            put_number(value, snapshot.sequence);
        }
    }
    seal(&snapshot.machine.0.to_be_bytes(), value);
}

/// A snapshot's value without a copy of its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotRow<'a> {
    pub sequence: u64,
    /// Hash and payload; `None` is a tombstone.
    pub state: Option<(&'a [u8; 32], &'a [u8])>,
}

pub(crate) fn decode_snapshot(machine: MachineId, value: &[u8]) -> Result<SnapshotRow<'_>, Flaw> {
    let rest = unseal(&machine.0.to_be_bytes(), value)?;
    let (&kind, mut rest) = rest.split_first().ok_or(TOO_SHORT)?;
    let sequence = take_number(&mut rest)?;
    match kind {
        KIND_STATE => {
            let (hash, payload) = rest.split_first_chunk::<32>().ok_or(TOO_SHORT)?;
            Ok(SnapshotRow { sequence, state: Some((hash, payload)) })
        }
        KIND_TOMBSTONE if rest.is_empty() => Ok(SnapshotRow { sequence, state: None }),
        KIND_TOMBSTONE => Err(TOO_LONG),
        _ => Err(BAD_KIND),
    }
}

/// The header as it stands in the file, whatever its format: a newer one may continue differently.
#[derive(Debug)]
pub(crate) enum StoredHeader {
    Ours(Header),
    OtherFormat(u32),
}

pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    let mut value = Vec::new();
    begin(&mut value);
    put_number(&mut value, u64::from(FORMAT_VERSION));
    put_number(&mut value, u64::from(header.logic_version));
    put_number(&mut value, header.network.len() as u64);
    value.extend_from_slice(header.network.as_bytes());
    put_number(&mut value, header.owner.len() as u64);
    value.extend_from_slice(&header.owner);
    seal(&HEADER_KEY.to_be_bytes(), &mut value);
    value
}

pub(crate) fn decode_header(value: &[u8]) -> Result<StoredHeader, Flaw> {
    let mut rest = unseal(&HEADER_KEY.to_be_bytes(), value)?;
    let format = u32::try_from(take_number(&mut rest)?).map_err(|_| BAD_NUMBER)?;
    if format != FORMAT_VERSION {
        return Ok(StoredHeader::OtherFormat(format));
    }
    let logic_version = u32::try_from(take_number(&mut rest)?).map_err(|_| BAD_NUMBER)?;
    let length = take_number(&mut rest)?;
    let network = take_bytes(&mut rest, length)?.to_vec();
    let network = String::from_utf8(network).map_err(|_| BAD_TEXT)?;
    let length = take_number(&mut rest)?;
    let owner = take_bytes(&mut rest, length)?.to_vec();
    if !rest.is_empty() {
        return Err(TOO_LONG);
    }
    Ok(StoredHeader::Ours(Header { logic_version, network, owner }))
}

/// The key of a retained row.
pub(crate) fn retained_key(table: u8, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(table);
    out.extend_from_slice(key);
}

/// Begins a row of events; `before` is the sum of the lengths of all event rows ever written before it.
pub(crate) fn begin_events(before: u64, value: &mut Vec<u8>) {
    begin(value);
    value.extend_from_slice(&before.to_le_bytes());
}

pub(crate) fn push_event(event: &[u8], value: &mut Vec<u8>) {
    put_number(value, event.len() as u64);
    value.extend_from_slice(event);
}

/// A row of events: what was written before it, and its events one after the other.
#[derive(Debug)]
pub(crate) struct EventsRow<'a> {
    pub before: u64,
    rest: &'a [u8],
}

pub(crate) fn decode_events(first: u64, value: &[u8]) -> Result<EventsRow<'_>, Flaw> {
    let rest = unseal(&first.to_be_bytes(), value)?;
    let (before, rest) = rest.split_first_chunk::<8>().ok_or(TOO_SHORT)?;
    Ok(EventsRow { before: u64::from_le_bytes(*before), rest })
}

impl<'a> EventsRow<'a> {
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, Flaw> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = take_number(&mut self.rest)?;
        take_bytes(&mut self.rest, length).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written_and_leaves_what_follows() {
        for number in (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, !0 >> bits]) {
            let mut written = Vec::new();
            put_number(&mut written, number);
            assert!(written.len() <= 10);
            written.push(0xff);
            let mut rest = written.as_slice();
            assert_eq!(take_number(&mut rest), Ok(number));
            assert_eq!(rest, [0xff]);
        }
    }

    #[test]
    fn a_number_without_an_end_or_above_64_bits_is_malformed() {
        for bytes in
            [&[][..], &[0x80], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert_eq!(take_number(&mut &*bytes), Err(BAD_NUMBER));
        }
    }

    #[test]
    fn a_row_cut_off_anywhere_is_refused() {
        let mut writer = RowWriter::default();
        for sequence in 1..=3 {
            writer.push(&RecordRef { machine: MachineId(300), sequence, payload: &[7; 5] });
        }
        let value = writer.finish(9).to_vec();
        assert!(RowCursor::new(9, &value).is_ok());
        assert_eq!(RowCursor::new(8, &value).unwrap_err(), WRONG_CHECK);
        for length in 0..value.len() {
            assert!(RowCursor::new(9, &value[..length]).is_err());
        }
    }
}

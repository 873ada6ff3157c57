//! Rows of the journal: no bytes make a decoder panic, and what one reads is written again as itself. Bytes left over or missing
//! are damage.

use std::fmt::Debug;

use hub::control::Input as RegistryInput;
use hub::events::Event as HubEvent;
use settlement::desk;
use shard::EventRecord;
use wallet::history::AnyEvent;
use wallet::ledger::entry::Entry;

/// Kinds of rows, by an input's first byte. True: the bytes are one.
pub const KINDS: [fn(&[u8]) -> bool; 8] = [
    |row| law(row, channel::channel::Input::decode, |input| appended(|out| input.encode(out))),
    |row| law(row, RegistryInput::decode, |input| appended(|out| input.encode(out))),
    |row| law(row, Entry::decode, |entry| appended(|out| entry.encode(out))),
    |row| law(row, EventRecord::decode, EventRecord::encode),
    |row| {
        law(row, HubEvent::decode, |event| match event {
            HubEvent::Channel(event) => event.encode(),
            HubEvent::Hub(event) => event.encode(),
        })
    },
    |row| read_only(row, AnyEvent::decode),
    |row| read_only(row, |row| shard::revoked::decode(row).ok_or(())),
    desk_rows,
];

/// The first byte of `data` names the kind.
pub fn records(data: &[u8]) {
    is_record(data);
}

pub(super) fn is_record(data: &[u8]) -> bool {
    data.split_first().is_some_and(|(kind, row)| KINDS.get(usize::from(*kind)).is_some_and(|kind| kind(row)))
}

fn appended(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// What decodes is written as bytes that give it again, neither longer nor shorter ones.
pub(super) fn law<T: PartialEq + Debug, E: Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> bool {
    let Ok(value) = decode(bytes) else { return false };
    let written = encode(&value);
    match decode(&written) {
        Ok(again) => assert_eq!(again, value),
        Err(error) => panic!("what was written is not read: {error:?}: {value:?}"),
    }
    whole(&written, decode);
    true
}

/// The same, where nobody but the decoder is public.
fn read_only<T: PartialEq + Debug, E: Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) -> bool {
    let read = decode(bytes).is_ok();
    if read {
        whole(bytes, decode);
    }
    read
}

fn whole<T: Debug, E: Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) {
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(&longer).is_err(), "a byte is left over: {bytes:?}");
    assert!(decode(&bytes[..bytes.len() - 1]).is_err(), "a byte is missing: {bytes:?}");
}

/// A row of the desk; and the same bytes as several rows, each with its length in front, replayed in order.
fn desk_rows(data: &[u8]) -> bool {
    let mut read = false;
    if let Ok(written) = desk::rewrite(data) {
        assert_eq!(desk::rewrite(&written), Ok(written.clone()));
        whole(&written, desk::rewrite);
        let _ = desk::replay(&[], &[data]);
        read = true;
    }
    let mut rows = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (row, after) = after.split_at(usize::from(*length).min(after.len()));
        rows.push(row);
        rest = after;
    }
    if let Ok(state) = desk::replay(&[], &rows) {
        assert_eq!(desk::replay(&state, &[]), Ok(state.clone()), "a snapshot gives another state");
        read = true;
    }
    read
}

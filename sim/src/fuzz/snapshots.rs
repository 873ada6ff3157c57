//! Snapshots: as rows, and a channel's books must add up.

use channel::channel::Channel;
use hub::control::Registry;
use settlement::desk;
use wallet::ledger::state::State as LedgerState;

use super::records::law;

/// Kinds of snapshots, by an input's first byte. True: the bytes are one.
pub const KINDS: [fn(&[u8]) -> bool; 4] = [
    channels,
    |bytes| law(bytes, Registry::decode, Registry::encode),
    |bytes| law(bytes, LedgerState::decode, LedgerState::encode),
    |bytes| !bytes.is_empty() && law(bytes, desk_state, Vec::clone),
];

/// The first byte of `data` names the kind.
pub fn snapshots(data: &[u8]) {
    is_snapshot(data);
}

pub(super) fn is_snapshot(data: &[u8]) -> bool {
    data.split_first()
        .is_some_and(|(kind, bytes)| KINDS.get(usize::from(*kind)).is_some_and(|kind| kind(bytes)))
}

/// No bytes are no snapshot here, though a replay begins with none.
fn desk_state(bytes: &[u8]) -> Result<Vec<u8>, Option<desk::RecordError>> {
    if bytes.is_empty() { Err(None) } else { desk::replay(bytes, &[]).map_err(Some) }
}

fn channels(bytes: &[u8]) -> bool {
    let Ok(channel) = Channel::decode_snapshot(bytes) else { return false };
    let written = channel.encode_snapshot();
    let again = Channel::decode_snapshot(&written).expect("what was written is read");
    assert_eq!(again.encode_snapshot(), written);
    assert_eq!(again.state_hash(), channel.state_hash());
    let view = channel.view();
    let parts = [view.holder_msat, view.counterparty_msat, view.offered_msat, view.received_msat];
    let sum: u128 = parts.iter().map(|part| u128::from(part.to_u64())).sum();
    assert_eq!(sum, u128::from(view.capacity.to_sat()) * 1_000, "conservation: {view:?}");
    true
}

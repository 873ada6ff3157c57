//! Snapshots and the way back from the journal.

use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use channel::ids::StreamId;
use channel::signer::Signer;
use channel::stream::StreamKey;
use journal::{Content, ReadError, Recovery, Snapshot};
use shard::{Gap, MachineLog};

use super::apply::apply;
use super::entry::{self, DecodeError, Entry};
use super::secrets;
use super::state::State;
use super::{Ledger, MACHINE};

/// Why the ledger cannot be rebuilt. The wallet does not start: money in flight would be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the ledger has a gap: {0}")]
    Gap(#[from] Gap),
    #[error("record {sequence}: {source}")]
    Record { sequence: u64, source: DecodeError },
    #[error("the ledger's snapshot: {0}")]
    Snapshot(DecodeError),
    #[error("the ledger's snapshot does not match its hash")]
    Hash,
}

impl Ledger {
    /// Rebuilds the ledger from what the journal held when it was opened.
    pub fn restore(recovery: &Recovery, signer: Arc<dyn Signer>) -> Result<Ledger, RestoreError> {
        let mut ledger = Ledger::new(signer);
        for snapshot in recovery.snapshots()? {
            let snapshot = snapshot?;
            if let (MACHINE, Content::State { payload, hash }) = (snapshot.machine, &snapshot.content) {
                ledger.state = decode_snapshot(payload, hash)?;
                ledger.log = MachineLog::at(MACHINE, snapshot.sequence);
            }
        }
        let mut records = recovery.records()?;
        while let Some(record) = records.next()? {
            if record.machine == MACHINE {
                ledger.log.replay(&record)?;
                ledger.fold(record.sequence, record.payload)?;
            }
        }
        Ok(ledger)
    }

    /// One record of the past.
    pub(super) fn fold(&mut self, sequence: u64, payload: &[u8]) -> Result<(), RestoreError> {
        let entry = Entry::decode(payload).map_err(|source| RestoreError::Record { sequence, source })?;
        apply(&mut self.state, &entry, &mut Vec::new());
        Ok(())
    }

    /// The state after the latest record. Call it between rounds only.
    pub fn snapshot(&self) -> Snapshot {
        let payload = self.state.encode();
        let hash = sha256::Hash::hash(&payload).to_byte_array();
        self.log.snapshot(payload, hash)
    }

    /// A stream's key, computed once. `None` for streams unknown here, or with a key that is no point.
    pub(super) fn stream_key(&mut self, id: &StreamId) -> Option<&StreamKey> {
        if !self.keys.contains_key(id) {
            let key = if let Some(stream) = self.state.payers.get(id) {
                secrets::payer_stream_key(self.signer.as_ref(), &stream.payee, id).ok()?
            } else {
                let stream = self.state.payees.get(id)?;
                StreamKey::for_payee(self.signer.as_ref(), &stream.fresh_key, id).ok()?
            };
            self.keys.insert(*id, key);
        }
        self.keys.get(id)
    }
}

pub(super) fn decode_snapshot(payload: &[u8], hash: &[u8; 32]) -> Result<State, RestoreError> {
    if sha256::Hash::hash(payload).to_byte_array() != *hash {
        return Err(RestoreError::Hash);
    }
    State::decode(payload).map_err(RestoreError::Snapshot)
}

impl State {
    /// A snapshot's payload.
    pub fn encode(&self) -> Vec<u8> {
        entry::encode(self)
    }

    /// Reads what [`State::encode`] wrote.
    pub fn decode(payload: &[u8]) -> Result<Self, entry::DecodeError> {
        entry::decode(payload)
    }
}

//! The desk's rows in the journal: what changed, in the order it changed.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use super::lost::Rivals;
use super::settle::gate::Gate;
use super::settle::undone::Undone;
use super::telling::Telling;
use super::watches::Watch;
use crate::follow::{BlockRef, ChainMemory};

/// The version of the encoding, in front of every record and snapshot.
pub(super) const VERSION: u8 = 5;
/// [`State::telling`], the last field, was missing.
const WITHOUT_TELLING: u8 = 4;
/// It knew no [`Record::Rival`] either, and [`State::rivals`], the last field but one, was missing too.
const WITHOUT_RIVALS: u8 = 3;
/// Nor did it know [`Record::Undone`], and [`State::undone`] was missing too.
const WITHOUT_UNDONE: u8 = 2;
/// How an empty map is written, and what is not there.
const EMPTY: u8 = 0;

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The desk begins here.
    Started {
        memory: ChainMemory,
    },
    /// A change of the on-chain wallet.
    Wallet(Vec<u8>),
    /// A block was taken in, and these watches changed with it.
    Connected {
        block: BlockRef,
        watches: Vec<(OwnerId, Watch)>,
    },
    /// The tip was taken back.
    Disconnected {
        block: BlockRef,
        watches: Vec<(OwnerId, Watch)>,
    },
    Watch {
        owner: OwnerId,
        watch: Watch,
    },
    Forget {
        owner: OwnerId,
    },
    Batch(BatchRecord),
    BatchEnded {
        txid: Txid,
    },
    /// A funding transaction was built for this channel, and its coins locked.
    Building {
        owner: OwnerId,
        transaction: Transaction,
    },
    /// It was published, or its coins are free again.
    Built {
        owner: OwnerId,
    },
    /// Channels are about to be told of a block; its own row follows.
    Telling(Telling),
    /// A channel's commitment was let through, or waits for a person.
    Gate {
        owner: OwnerId,
        gate: Gate,
    },
    /// A peer of this channel proved that this party lost data.
    Suspended {
        by: OwnerId,
    },
    /// A person ended the suspension.
    PublishingResumed,
    /// A funding transaction was built that pays this to the other side as well.
    ReserveCoin {
        owner: OwnerId,
        output: TxOut,
    },
    /// A block that is undone held what spent this channel's funding.
    Undone {
        owner: OwnerId,
        undone: Undone,
    },
    /// A block that is undone held this, which spent an output of this channel.
    Rival {
        owner: OwnerId,
        outpoint: OutPoint,
        txid: Txid,
    },
}

/// A batch that was verified, and may have been broadcast and handed out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BatchRecord {
    pub transaction: Transaction,
    /// The channel of each ticket's input.
    pub owners: Vec<OwnerId>,
    pub made_at_height: u32,
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub fee: Amount,
}

/// Everything, for a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub memory: Option<ChainMemory>,
    /// The on-chain wallet's records; the first may be its snapshot.
    pub wallet: Vec<Vec<u8>>,
    pub watches: BTreeMap<OwnerId, Watch>,
    pub batches: BTreeMap<Txid, BatchRecord>,
    /// Funding transactions that were never published.
    pub building: BTreeMap<OwnerId, Transaction>,
    pub gates: Gates,
    /// Outputs for the other side in the funding transactions of openings.
    pub reserve_coins: BTreeMap<OwnerId, TxOut>,
    /// What reorganisations took out of the chain, until something spends that funding again.
    pub undone: BTreeMap<OwnerId, Undone>,
    pub rivals: Rivals,
    /// What channels may have been told of a block whose row did not follow. A desk at work has none in its snapshots; one that is
    /// written down for an upgrade after it died may have.
    pub telling: Option<Telling>,
}

/// What keeps commitments from being published, and what was let through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gates {
    pub suspended: bool,
    /// Whose peers have proved the loss of data: each counts once.
    pub suspenders: BTreeSet<OwnerId>,
    pub by_owner: BTreeMap<OwnerId, Gate>,
}

impl Gates {
    pub fn forget(&mut self, owner: OwnerId) -> bool {
        let suspender = self.suspenders.remove(&owner);
        self.by_owner.remove(&owner).is_some() || suspender
    }
}

/// A row that is not the desk's, or of another version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the row is empty")]
    Empty,
    #[error("the row has version {found}, {VERSION} was expected")]
    Version { found: u8 },
    #[error("the row cannot be read")]
    Encoding,
    #[error("the row does not follow from those before it: {0}")]
    Order(String),
}

/// Replays rows upon a snapshot (empty: upon nothing) and writes the state that they give. For who inspects a journal, and for
/// those who try to break it.
pub fn replay(snapshot: &[u8], rows: &[&[u8]]) -> Result<Vec<u8>, RecordError> {
    let mut state = if snapshot.is_empty() { State::default() } else { State::decode(snapshot)? };
    for row in rows {
        state.apply(row)?;
    }
    Ok(state.encode())
}

/// Reads a row, and writes it again.
pub fn rewrite(row: &[u8]) -> Result<Vec<u8>, RecordError> {
    Ok(decode::<Record>(row)?.encode())
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

impl State {
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.first() {
            Some(&WITHOUT_UNDONE) => decode(&[bytes, &[EMPTY, EMPTY, EMPTY]].concat()),
            Some(&WITHOUT_RIVALS) => decode(&[bytes, &[EMPTY, EMPTY]].concat()),
            Some(&WITHOUT_TELLING) => decode(&[bytes, &[EMPTY]].concat()),
            Some(_) | None => decode(bytes),
        }
    }

    /// Replays one row.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        match decode::<Record>(bytes)? {
            Record::Started { memory } => self.memory = Some(memory),
            Record::Wallet(change) => self.wallet.push(change),
            Record::Connected { block, watches } => {
                self.telling = None;
                self.memory()?.connect(block).map_err(|error| RecordError::Order(error.to_string()))?;
                for (owner, _) in watches.iter().filter(|(_, watch)| watch.is_spent()) {
                    self.undone.remove(owner);
                }
                self.watches.extend(watches);
            }
            Record::Disconnected { block, watches } => {
                self.telling = None;
                self.memory()?.disconnect(block).map_err(|error| RecordError::Order(error.to_string()))?;
                self.watches.extend(watches);
            }
            Record::Watch { owner, watch } => {
                self.watches.insert(owner, watch);
            }
            Record::Forget { owner } => {
                self.watches.remove(&owner);
                self.gates.forget(owner);
                self.reserve_coins.remove(&owner);
                self.undone.remove(&owner);
                self.rivals.remove(&owner);
            }
            Record::Batch(batch) => {
                self.batches.insert(batch.transaction.compute_txid(), batch);
            }
            Record::BatchEnded { txid } => {
                self.batches.remove(&txid);
            }
            Record::Building { owner, transaction } => {
                self.building.insert(owner, transaction);
            }
            Record::Built { owner } => {
                self.building.remove(&owner);
            }
            Record::Telling(telling) => self.telling = Some(telling),
            Record::Gate { owner, gate } => {
                self.gates.by_owner.insert(owner, gate);
            }
            Record::Suspended { by } => {
                self.gates.suspended = true;
                self.gates.suspenders.insert(by);
            }
            Record::PublishingResumed => self.gates.suspended = false,
            Record::ReserveCoin { owner, output } => {
                self.reserve_coins.insert(owner, output);
            }
            Record::Undone { owner, undone } => {
                self.undone.insert(owner, undone);
            }
            Record::Rival { owner, outpoint, txid } => {
                self.rivals.entry(owner).or_default().insert((outpoint, txid));
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<&mut ChainMemory, RecordError> {
        self.memory.as_mut().ok_or_else(|| RecordError::Order("a block before the desk started".into()))
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("the desk's rows hold nothing that cannot be encoded")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    let (version, rest) = bytes.split_first().ok_or(RecordError::Empty)?;
    if ![VERSION, WITHOUT_TELLING, WITHOUT_RIVALS, WITHOUT_UNDONE].contains(version) {
        return Err(RecordError::Version { found: *version });
    }
    channel::bytes::read_all(rest).ok_or(RecordError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_the_versions_before_are_read() {
        let mut state = State::default();
        state.gates.suspended = true;
        let mut old = state.encode();
        for version in [WITHOUT_TELLING, WITHOUT_RIVALS, WITHOUT_UNDONE] {
            assert_eq!(old.pop(), Some(EMPTY), "the last field");
            old[0] = version;
            assert_eq!(State::decode(&old).unwrap(), state);
        }
        old[0] = VERSION;
        assert_eq!(State::decode(&old), Err(RecordError::Encoding));
        old[0] = VERSION + 1;
        assert_eq!(State::decode(&old), Err(RecordError::Version { found: VERSION + 1 }));
    }
}

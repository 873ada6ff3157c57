//! The revocation log: one retained row for each revoked commitment of a counterparty that had HTLC outputs. With
//! the state's secrets it is all a penalty needs.
//!
//! Invariants: a row lies in the batch of the input that revoked its commitment, so the channel knows a commitment as
//! revoked exactly when its row is there. A row is found from that moment on, on the disk or on its way there. The rows
//! go with the channel: in the batch of its end, or (when they are many) a page a turn from then on, across restarts.

use std::collections::{BTreeMap, VecDeque};

use channel::bug::{self, Bug};
use channel::commitment::HtlcSpec;
use channel::event::ChainEvent;
use channel::ids::OwnerId;
use journal::{Batch, KeyValue, Position, ReadError, Reader, Retained};

use crate::limits;
use crate::outbox::Outbox;
use crate::shard::{Run, Shard};
use crate::table::SlotId;

/// The journal's table of these rows.
pub const TABLE: u8 = 1;

/// The journal's table of channels that ended and whose rows are still being deleted: the key is the channel's number.
pub const SWEEP_TABLE: u8 = 2;

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
    channel::bytes::read_all(rest)
}

/// Rows that were collected or appended and may not be on the disk yet.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    rows: BTreeMap<(OwnerId, u64), Vec<HtlcSpec>>,
    /// Those of the batch that is being collected.
    collected: Vec<(OwnerId, u64)>,
    appended: Outbox<(OwnerId, u64)>,
}

impl Fresh {
    fn add(&mut self, owner: OwnerId, number: u64, htlcs: Vec<HtlcSpec>) {
        self.rows.insert((owner, number), htlcs);
        self.collected.push((owner, number));
    }

    /// The batch with what was collected has this position.
    pub fn appended(&mut self, position: Position) {
        for key in self.collected.drain(..) {
            self.appended.push(position, key);
        }
    }

    /// Everything up to here is on the disk, where the reader sees it.
    pub fn durable(&mut self, durable: Position) {
        while let Some(key) = self.appended.pop(durable) {
            self.rows.remove(&key);
        }
    }

    fn numbers_of(&self, owner: OwnerId) -> impl Iterator<Item = u64> + '_ {
        self.rows.range((owner, 0)..=(owner, u64::MAX)).map(|((_, number), _)| *number)
    }
}

/// A channel that ended and has rows left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    owner: OwnerId,
    /// The last key whose deletion was appended in this process's life.
    after: Option<Vec<u8>>,
}

/// Channels whose rows an earlier run did not delete to the end.
pub(crate) fn unswept(reader: &Reader, mine: impl Fn(OwnerId) -> bool) -> Result<VecDeque<Sweep>, ReadError> {
    let mut found = VecDeque::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = reader.range(SWEEP_TABLE, &[], after.as_deref(), limits::MAX_SWEPT_A_TURN)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.clone());
        let owners = page
            .iter()
            .filter_map(|(key, _)| Some(OwnerId(u64::from_be_bytes(key.as_slice().try_into().ok()?))));
        found.extend(owners.filter(|owner| mine(*owner)).map(|owner| Sweep { owner, after: None }));
    }
}

fn deletion(table: u8, key: &[u8]) -> Retained {
    Retained { table, key: key.to_vec(), value: None }
}

impl Shard {
    /// Puts a row into the batch that is being collected.
    pub(crate) fn log_revoked(&mut self, owner: OwnerId, number: u64, htlcs: Vec<HtlcSpec>) {
        if bug::is(Bug::RevocationsNotLogged) {
            return;
        }
        self.turn.batch.retained.push(row(owner, number, &htlcs));
        self.fresh.add(owner, number, htlcs);
    }

    /// Adds what the revocation log knows to a spend of the funding by a revoked commitment. A row that is broken is told and
    /// taken as missing, so that what is in the cheater's balance is not lost too; a disk that does not answer is a fault.
    pub(crate) fn informed(&self, slot: SlotId, event: ChainEvent) -> Result<ChainEvent, ReadError> {
        let ChainEvent::FundingSpent { height, transaction, revoked_htlcs: _ } = event else {
            return Ok(event);
        };
        let hosted = self.table.get(slot);
        let revoked_htlcs = match hosted.channel.revoked_number(&transaction) {
            Some(number) => self.revoked_htlcs(hosted.owner, number)?,
            None => None,
        };
        Ok(ChainEvent::FundingSpent { height, transaction, revoked_htlcs })
    }

    fn revoked_htlcs(&self, owner: OwnerId, number: u64) -> Result<Option<Vec<HtlcSpec>>, ReadError> {
        if let Some(htlcs) = self.fresh.rows.get(&(owner, number)) {
            return Ok(Some(htlcs.clone()));
        }
        let stored = match self.reader.get(TABLE, &key(owner, number)) {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => decode(&value),
            Err(error @ ReadError::Storage { .. }) => return Err(error),
            Err(ReadError::BrokenRow { .. }) => None,
        };
        if stored.is_none() {
            tracing::error!(
                owner = owner.0,
                number,
                "a row of the revocation log cannot be read: its HTLCs are lost"
            );
        }
        Ok(stored)
    }

    /// At a channel's end: its rows are deleted in the batch of the end, or as many as the turn still may; a row remembers the
    /// rest.
    pub(crate) fn sweep_ended(&mut self, owner: OwnerId) -> Result<(), ReadError> {
        let fresh = self.fresh.numbers_of(owner).map(|number| deletion(TABLE, &key(owner, number)));
        self.turn.batch.retained.extend(fresh);
        let mut sweep = Sweep { owner, after: None };
        if self.sweep_page(&mut sweep)? {
            let key = prefix(owner).to_vec();
            self.turn.batch.retained.push(Retained { table: SWEEP_TABLE, key, value: Some(Vec::new()) });
            self.sweeps.push_back(sweep);
        }
        Ok(())
    }

    /// At a turn's end: goes on with the channels that had more rows than one turn deletes.
    pub(crate) fn sweep_on(&mut self) -> Result<(), ReadError> {
        if self.run != Run::Running {
            return Ok(());
        }
        while self.turn.swept < limits::MAX_SWEPT_A_TURN {
            let Some(mut sweep) = self.sweeps.pop_front() else { break };
            if self.sweep_page(&mut sweep)? {
                self.sweeps.push_front(sweep);
            } else {
                self.turn.batch.retained.push(deletion(SWEEP_TABLE, &prefix(sweep.owner)));
            }
        }
        Ok(())
    }

    /// Deletes the next rows, as many as this turn still may. Whether there are more.
    fn sweep_page(&mut self, sweep: &mut Sweep) -> Result<bool, ReadError> {
        let page = |after: Option<&[u8]>, most| self.reader.range(TABLE, &prefix(sweep.owner), after, most);
        let rows: Vec<KeyValue> = match limits::MAX_SWEPT_A_TURN.saturating_sub(self.turn.swept) {
            0 => Vec::new(),
            room => page(sweep.after.as_deref(), room)?,
        };
        if let Some((last, _)) = rows.last() {
            sweep.after = Some(last.clone());
        }
        let more = !page(sweep.after.as_deref(), 1)?.is_empty();
        self.turn.swept += rows.len();
        delete_all(&mut self.turn.batch, &rows);
        Ok(more)
    }
}

fn delete_all(batch: &mut Batch, rows: &[KeyValue]) {
    batch.retained.extend(rows.iter().map(|(key, _)| deletion(TABLE, key)));
}

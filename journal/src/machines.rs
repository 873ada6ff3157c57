//! What the committer knows of each machine: enough to refuse a gap and to tell which rows are still needed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::batch::MachineId;

/// One machine: about 40 bytes of memory each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    /// The latest input's sequence, 0 before the first.
    pub latest: u64,
    /// Inputs up to this sequence are in the snapshot.
    pub covered: u64,
    /// The last row of the log that holds a record of it, 0 for none.
    pub last_row: u64,
    /// The search in which a snapshot was last asked for, 0 for none since the last snapshot.
    pub asked_in: u32,
    pub life: Life,
    pub stored: Stored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Life {
    #[default]
    Alive,
    /// It has a tombstone. It is forgotten once no row holds a record of it.
    Gone,
}

/// Whether the snapshots table has a row for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stored {
    #[default]
    Nothing,
    Snapshot,
}

/// All machines by id. Its order of iteration is never used.
pub(crate) type Machines = HashMap<MachineId, Machine, BuildHasherDefault<IdHasher>>;

/// Up to which input each machine is covered by its snapshot.
pub(crate) type Covered = HashMap<MachineId, u64, BuildHasherDefault<IdHasher>>;

/// Hashes one number: ids are given by this process, so nobody can aim for collisions.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

//! A process's disk, which outlives it. It loses power, fills up, and fails.
//!
//! What was synced survives everything. Of what was written since, a killed process leaves all of it and a power cut any
//! mixture of sectors: kept, lost, or kept without what was written before them.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::seed::Chance;

/// What a disk keeps or loses as one, in bytes.
const SECTOR: usize = 512;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process was killed: what it wrote is with the system, which goes on.
    Kill,
    /// The machine lost power.
    Power,
}

/// What the disk refuses from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    /// No byte past the present length can be stored.
    Full,
    /// The so-manieth sync from now fails, and every operation after it.
    SyncFails { after: u32 },
    /// The so-manieth read from now fails, and every operation after it.
    ReadFails { after: u32 },
}

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Default)]
struct Platter {
    /// What a power cut leaves for sure.
    synced: Vec<u8>,
    /// What the process sees.
    seen: Vec<u8>,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    trouble: Trouble,
    /// An operation failed for good: no other succeeds before the machine is started again.
    broken: bool,
    syncs: u64,
    /// Rises when the process that wrote here is gone.
    life: u64,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a process writes to, until the next [`SimDisk::cut`].
    pub fn backend(&self) -> impl StorageBackend + use<> {
        Backend { platter: Arc::clone(&self.0), life: self.lock().life }
    }

    /// The process ended without closing anything: whatever it still does while it is dropped reaches nobody. Its troubles
    /// end with it.
    pub fn cut(&self, how: Cut, chance: &mut Chance) {
        let mut platter = self.lock();
        let unsynced = std::mem::take(&mut platter.unsynced);
        if how == Cut::Power {
            let mut image = std::mem::take(&mut platter.synced);
            for change in &unsynced {
                change.survive(&mut image, chance);
            }
            platter.seen = image;
        }
        platter.synced = platter.seen.clone();
        platter.trouble = Trouble::None;
        platter.broken = false;
        platter.life += 1;
    }

    /// Trouble from now on, until the next [`SimDisk::cut`] or call of this.
    pub fn trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    /// Whether an operation failed since the machine was last started: the process must have ended by it, or be about to.
    pub fn has_failed(&self) -> bool {
        self.lock().broken
    }

    /// Bytes stored.
    pub fn bytes(&self) -> usize {
        self.lock().seen.len()
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Everything a backup made now would hold.
    pub fn copy(&self) -> SimDisk {
        let seen = self.lock().seen.clone();
        SimDisk(Arc::new(Mutex::new(Platter { synced: seen.clone(), seen, ..Platter::default() })))
    }

    /// Puts a backup back.
    pub fn restore(&self, backup: &SimDisk) {
        let image = backup.lock().seen.clone();
        let mut platter = self.lock();
        let life = platter.life + 1;
        *platter = Platter { synced: image.clone(), seen: image, life, ..Platter::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Change {
    /// Puts into `image` what a power cut leaves of this.
    fn survive(&self, image: &mut Vec<u8>, chance: &mut Chance) {
        match self {
            Change::Length(length) => {
                if chance.one_of(1, 2) {
                    image.resize(*length, 0);
                }
            }
            Change::Write { offset, data } => {
                for (index, sector) in data.chunks(SECTOR).enumerate() {
                    if chance.one_of(1, 2) {
                        put(image, offset + index * SECTOR, sector);
                    }
                }
            }
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

impl Platter {
    fn fail(&mut self, error: impl Into<Error>) -> Error {
        self.broken = true;
        error.into()
    }

    fn check_alive(&self, life: u64) -> Result<(), Error> {
        if self.life != life {
            return Err(Error::other("the process is gone"));
        }
        if self.broken { Err(Error::other("the disk failed before")) } else { Ok(()) }
    }

    fn check_room(&mut self, life: u64, end: usize) -> Result<(), Error> {
        self.check_alive(life)?;
        if self.trouble == Trouble::Full && end > self.seen.len() {
            return Err(self.fail(ErrorKind::StorageFull));
        }
        Ok(())
    }
}

struct Backend {
    platter: Arc<Mutex<Platter>>,
    life: u64,
}

impl Backend {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend(..)")
    }
}

fn place(offset: u64) -> Result<usize, Error> {
    usize::try_from(offset).map_err(Error::other)
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, Error> {
        let platter = self.lock();
        platter.check_alive(self.life)?;
        u64::try_from(platter.seen.len()).map_err(Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut platter = self.lock();
        platter.check_alive(self.life)?;
        if let Trouble::ReadFails { after } = platter.trouble {
            match after.checked_sub(1) {
                Some(after) => platter.trouble = Trouble::ReadFails { after },
                None => return Err(platter.fail(Error::other("a sector cannot be read"))),
            }
        }
        let start = place(offset)?;
        let found = platter.seen.get(start..start.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let length = place(length)?;
        let mut platter = self.lock();
        platter.check_room(self.life, length)?;
        platter.seen.resize(length, 0);
        platter.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut platter = self.lock();
        platter.check_alive(self.life)?;
        if let Trouble::SyncFails { after } = platter.trouble {
            match after.checked_sub(1) {
                Some(after) => platter.trouble = Trouble::SyncFails { after },
                None => return Err(platter.fail(Error::other("the disk does not sync"))),
            }
        }
        platter.syncs += 1;
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Change::Length(length) => platter.synced.resize(length, 0),
                Change::Write { offset, data } => put(&mut platter.synced, offset, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let offset = place(offset)?;
        let mut platter = self.lock();
        platter.check_room(self.life, offset.saturating_add(data.len()))?;
        put(&mut platter.seen, offset, data);
        platter.unsynced.push(Change::Write { offset, data: data.to_vec() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn read(backend: &impl StorageBackend, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        backend.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn what_was_synced_survives_a_power_cut_and_the_rest_may_not() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..32 {
            let disk = SimDisk::new();
            let backend = disk.backend();
            backend.write(0, &[1; SECTOR]).unwrap();
            backend.sync_data().unwrap();
            backend.write(0, &[2; 2 * SECTOR]).unwrap();
            disk.cut(Cut::Power, &mut Seed(seed).stream("cut"));
            let first = read(&disk.backend(), SECTOR);
            assert!(first == [1; SECTOR] || first == [2; SECTOR], "a torn sector");
            let whole = disk.bytes() == 2 * SECTOR;
            if whole && first == [2; SECTOR] { kept += 1 } else { lost += 1 }
        }
        assert!(kept > 0 && lost > 0, "{kept} {lost}");
    }

    #[test]
    fn a_killed_process_loses_nothing_that_it_wrote() {
        let disk = SimDisk::new();
        disk.backend().write(0, &[7; 10]).unwrap();
        disk.cut(Cut::Kill, &mut Seed(1).stream("cut"));
        assert_eq!(read(&disk.backend(), 10), [7; 10]);
    }

    #[test]
    fn a_full_disk_stores_in_place_but_does_not_grow() {
        let disk = SimDisk::new();
        let backend = disk.backend();
        backend.write(0, &[1; 100]).unwrap();
        disk.trouble(Trouble::Full);
        backend.write(50, &[2; 50]).unwrap();
        assert_eq!(backend.write(51, &[2; 50]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(disk.has_failed());
        assert!(backend.write(0, &[3]).is_err(), "a failed disk goes on");
        disk.cut(Cut::Kill, &mut Seed(1).stream("cut"));
        backend.write(0, &[9]).expect_err("the process is gone");
        disk.backend().write(100, &[2; 50]).unwrap();
    }

    #[test]
    fn a_failing_sync_and_a_failing_read_end_the_disk() {
        for (trouble, syncs) in
            [(Trouble::SyncFails { after: 1 }, true), (Trouble::ReadFails { after: 1 }, false)]
        {
            let disk = SimDisk::new();
            let backend = disk.backend();
            backend.write(0, &[1]).unwrap();
            disk.trouble(trouble);
            let act = || if syncs { backend.sync_data() } else { backend.read(0, &mut [0]) };
            act().unwrap();
            act().unwrap_err();
            assert!(backend.len().is_err());
        }
    }

    #[test]
    fn a_backup_holds_what_was_there_and_no_more() {
        let disk = SimDisk::new();
        disk.backend().write(0, b"old").unwrap();
        let backup = disk.copy();
        disk.backend().write(0, b"new").unwrap();
        disk.restore(&backup);
        assert_eq!(read(&disk.backend(), 3), b"old");
    }
}

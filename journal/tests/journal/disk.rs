//! A disk in memory that loses power: writes not yet synced may be lost, torn or kept, in any mixture.

use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex};

use journal::StorageBackend;

/// What can be lost or kept on its own.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What survives a power cut for sure.
    synced: Vec<u8>,
    /// What the process sees.
    seen: Vec<u8>,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    plan: Plan,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// When the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plan {
    #[default]
    Never,
    /// Power goes after so many more operations.
    PowerCutAfter(u32),
    /// The so-manieth sync from now fails; operations after it work.
    FailSyncAfter(u32),
    /// No byte past this length can be stored.
    Capacity(u64),
    /// Nothing can be written at all.
    ReadOnly,
}

impl Disk {
    pub fn new() -> Self {
        Disk(Arc::default())
    }

    pub fn plan(&self, plan: Plan) {
        self.0.lock().unwrap().plan = plan;
    }

    pub fn len(&self) -> u64 {
        self.0.lock().unwrap().seen.len() as u64
    }

    /// What a killed process leaves: every write reached the system.
    pub fn after_kill(&self) -> Disk {
        Disk::holding(self.0.lock().unwrap().seen.clone())
    }

    /// What a power cut leaves. `lottery` decides which unsynced sectors were kept.
    pub fn after_power_cut(&self, mut lottery: u64) -> Disk {
        let inner = self.0.lock().unwrap();
        let mut image = inner.synced.clone();
        for change in &inner.unsynced {
            match change {
                Change::Length(length) => {
                    if toss(&mut lottery) {
                        image.resize(*length, 0);
                    }
                }
                Change::Write { offset, data } => {
                    for (index, sector) in data.chunks(SECTOR).enumerate() {
                        if toss(&mut lottery) {
                            put(&mut image, offset + index * SECTOR, sector);
                        }
                    }
                }
            }
        }
        Disk::holding(image)
    }

    /// Flips one bit of the stored bytes.
    pub fn flip_bit(&self, offset: u64, bit: u32) {
        let mut inner = self.0.lock().unwrap();
        inner.seen[offset as usize] ^= 1 << bit;
        inner.synced[offset as usize] ^= 1 << bit;
    }

    /// Where `needle` is stored.
    pub fn find(&self, needle: &[u8]) -> Vec<u64> {
        let inner = self.0.lock().unwrap();
        let places = inner.seen.windows(needle.len()).enumerate();
        places.filter(|(_, window)| *window == needle).map(|(offset, _)| offset as u64).collect()
    }

    fn holding(image: Vec<u8>) -> Disk {
        let inner = Inner { synced: image.clone(), seen: image, ..Inner::default() };
        Disk(Arc::new(Mutex::new(inner)))
    }
}

/// A fair coin (xorshift).
fn toss(state: &mut u64) -> bool {
    *state = (*state).max(1);
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state & 1 == 1
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

impl Inner {
    /// Counts one operation against a planned power cut.
    fn live(&mut self) -> Result<(), Error> {
        match &mut self.plan {
            Plan::PowerCutAfter(0) => Err(Error::other("power cut")),
            Plan::PowerCutAfter(left) => {
                *left -= 1;
                Ok(())
            }
            Plan::Never | Plan::FailSyncAfter(_) | Plan::Capacity(_) | Plan::ReadOnly => Ok(()),
        }
    }

    /// Refuses a write that ends at `end` if the plan says so.
    fn room(&mut self, end: u64) -> Result<(), Error> {
        self.live()?;
        match self.plan {
            Plan::Capacity(capacity) if end > capacity => Err(Error::from(ErrorKind::StorageFull)),
            Plan::ReadOnly => Err(Error::from(ErrorKind::ReadOnlyFilesystem)),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let inner = self.0.lock().unwrap();
        let start = offset as usize;
        let found = inner.seen.get(start..start + out.len());
        out.copy_from_slice(found.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.room(length)?;
        inner.seen.resize(length as usize, 0);
        inner.unsynced.push(Change::Length(length as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.live()?;
        if let Plan::FailSyncAfter(left) = &mut inner.plan {
            *left = left.wrapping_sub(1);
            if *left == u32::MAX {
                return Err(Error::other("sync failed"));
            }
        }
        let changes = std::mem::take(&mut inner.unsynced);
        for change in changes {
            match change {
                Change::Length(length) => inner.synced.resize(length, 0),
                Change::Write { offset, data } => put(&mut inner.synced, offset, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut inner = self.0.lock().unwrap();
        inner.room(offset + data.len() as u64)?;
        put(&mut inner.seen, offset as usize, data);
        inner.unsynced.push(Change::Write { offset: offset as usize, data: data.to_vec() });
        Ok(())
    }
}

//! A disk in memory that outlives the process using it, and forgets what was not synced when the power fails.

use std::io;
use std::sync::{Arc, Mutex};

/// What a process's journal lies on. Clones of the handle share the disk; [`Disk::copy`] makes another one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    shared: Arc<Mutex<Platter>>,
}

#[derive(Clone, Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// What undoes the writes since the last sync, newest last.
    undo: Vec<Undo>,
}

#[derive(Clone, Debug)]
enum Undo {
    Bytes { offset: usize, old: Vec<u8> },
    Length { old: usize, cut: Vec<u8> },
}

impl Disk {
    /// Another disk with the same bytes, all of them synced.
    pub fn copy(&self) -> Disk {
        let bytes = self.shared.lock().unwrap().bytes.clone();
        Disk { shared: Arc::new(Mutex::new(Platter { bytes, undo: Vec::new() })) }
    }

    /// The disk as it is after the power failed now: what was not synced is gone.
    pub fn after_power_failure(&self) -> Disk {
        let mut platter = self.shared.lock().unwrap().clone();
        while let Some(undo) = platter.undo.pop() {
            match undo {
                Undo::Bytes { offset, old } => {
                    platter.bytes[offset..offset + old.len()].copy_from_slice(&old)
                }
                Undo::Length { old, cut } => {
                    platter.bytes.truncate(old - cut.len());
                    platter.bytes.extend_from_slice(&cut);
                }
            }
        }
        Disk { shared: Arc::new(Mutex::new(platter)) }
    }
}

impl journal::StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.shared.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let platter = self.shared.lock().unwrap();
        let offset = offset as usize;
        out.copy_from_slice(&platter.bytes[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut platter = self.shared.lock().unwrap();
        let (old, new) = (platter.bytes.len(), len as usize);
        let cut = if new < old { platter.bytes[new..].to_vec() } else { Vec::new() };
        platter.undo.push(Undo::Length { old, cut });
        platter.bytes.resize(new, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.shared.lock().unwrap().undo.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut platter = self.shared.lock().unwrap();
        let offset = offset as usize;
        let old = platter.bytes[offset..offset + data.len()].to_vec();
        platter.undo.push(Undo::Bytes { offset, old });
        platter.bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

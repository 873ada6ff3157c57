//! Room on the disk: refused early and by name, before a write fails.

use std::io;
use std::path::{Path, PathBuf};

/// Bytes that this user may still write on the file system that holds `path`, a file or a folder that exists.
/// Costs one system call.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    fs4::available_space(path)
}

/// The least free space with which new work is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// In bytes.
    pub minimum: u64,
}

/// Why new work must be refused.
#[derive(Debug, thiserror::Error)]
pub enum HeadroomError {
    #[error("{} has {free} bytes free, at least {minimum} are needed", path.display())]
    TooLittle { path: PathBuf, free: u64, minimum: u64 },
    #[error("the free space of {} is unknown: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Headroom {
    /// The free bytes of the file system that holds `path`, if they are enough.
    pub fn check(&self, path: &Path) -> Result<u64, HeadroomError> {
        let free = free_bytes(path).map_err(|source| HeadroomError::Io { path: path.to_owned(), source })?;
        if free < self.minimum {
            return Err(HeadroomError::TooLittle { path: path.to_owned(), free, minimum: self.minimum });
        }
        Ok(free)
    }
}

//! The open file, shared by committer, readers and recovery, and the errors of the engine in our words.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use redb::Database;

use crate::error::{Fault, OpenError, ReadError};

/// The open database. The lock is dropped after it.
#[derive(Debug)]
pub(crate) struct Store {
    pub db: Database,
    /// Indices of kept events, as of the last commit.
    pub events: EventBounds,
    /// Holds the lock on the file beside the journal; a simulated storage has none.
    pub _lock: Option<File>,
}

/// The oldest event kept and the next to be written.
#[derive(Debug)]
pub(crate) struct EventBounds {
    oldest: AtomicU64,
    next: AtomicU64,
}

impl EventBounds {
    pub fn new(oldest: u64, next: u64) -> Self {
        EventBounds { oldest: AtomicU64::new(oldest), next: AtomicU64::new(next) }
    }

    /// Called after a commit only, so that what it tells is durable.
    pub fn set(&self, oldest: u64, next: u64) {
        self.next.store(next, Ordering::Release);
        self.oldest.store(oldest, Ordering::Release);
    }

    pub fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }
}

/// Turns an error of the engine into a fault of the committer.
pub(crate) fn fault(error: impl Into<redb::Error>) -> Fault {
    match error.into() {
        redb::Error::Io(error) if is_full(&error) => Fault::DiskFull { reason: error.to_string() },
        other => Fault::Storage { reason: other.to_string() },
    }
}

/// Turns an error of the engine into a read's.
pub(crate) fn read_error(error: impl Into<redb::Error>) -> ReadError {
    ReadError::Storage { reason: error.into().to_string() }
}

/// Turns an error of the engine into a reason why a journal does not open.
pub(crate) fn open_error(file: &Path, error: impl Into<redb::Error>) -> OpenError {
    let file = file.to_owned();
    match error.into() {
        redb::Error::Io(source) => io_error(file, source),
        redb::Error::DatabaseAlreadyOpen => OpenError::AlreadyOpen { file },
        other => OpenError::Damaged { file, reason: other.to_string() },
    }
}

/// Sorts the operating system's errors by what the operator must do about them.
pub(crate) fn io_error(file: PathBuf, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { file, source }
        }
        io::ErrorKind::InvalidData => OpenError::NotAJournal { file, reason: source.to_string() },
        _ if is_full(&source) => OpenError::DiskFull { file, source },
        _ => OpenError::Io { file, source },
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

//! Opening: lock, compare the header, check every row, rebuild what the committer must know.
#![allow(clippy::unimplemented)]

use std::path::Path;

use crate::committer::Committer;
use crate::error::OpenError;
use crate::log::Log;
use crate::options::{Header, Options};
use crate::reader::Reader;
use crate::recovery::Recovery;

/// Opens journals.
#[derive(Debug)]
pub struct Journal;

/// An open journal, in its parts.
#[derive(Debug)]
pub struct Opened {
    pub log: Log,
    pub committer: Committer,
    pub reader: Reader,
    pub recovery: Recovery,
}

impl Journal {
    /// Opens the journal in the file `path`, or creates it there. The file `path` with `.lock` added is locked while any part
    /// of the journal lives.
    pub fn open(_path: &Path, _header: &Header, _options: Options) -> Result<Opened, OpenError> {
        unimplemented!()
    }

    /// Opens or creates a journal in any storage: a simulated disk, memory.
    pub fn open_with_backend(
        _backend: impl redb::StorageBackend,
        _header: &Header,
        _options: Options,
    ) -> Result<Opened, OpenError> {
        unimplemented!()
    }
}

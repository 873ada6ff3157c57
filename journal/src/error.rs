//! What can go wrong: at opening, while committing, while reading. Each variant is one reason and says what
//! was expected and what was found.

use std::path::PathBuf;

use crate::batch::MachineId;

/// A row of the file, named for the person who must find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowName {
    /// Who owns the file.
    Header,
    /// A row of the log, by its number.
    Log(u64),
    /// A machine's snapshot.
    Snapshot(MachineId),
    /// A retained row.
    Retained { table: u8, key: Vec<u8> },
    /// A row of events, by the index of its first.
    Events(u64),
}

impl RowName {
    /// The name of the retained row under a key of the file: the caller's table, then the caller's key.
    pub(crate) fn retained(key: &[u8]) -> RowName {
        let (table, key) = key.split_first().map_or((0, [].as_slice()), |(table, key)| (*table, key));
        RowName::Retained { table, key: key.to_vec() }
    }
}

impl std::fmt::Display for RowName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowName::Header => write!(f, "the header"),
            RowName::Log(number) => write!(f, "log row {number}"),
            RowName::Snapshot(machine) => write!(f, "the snapshot of {machine}"),
            RowName::Retained { table, key } => {
                write!(f, "the retained row of table {table} with key ")?;
                key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            RowName::Events(first) => write!(f, "the events row starting at index {first}"),
        }
    }
}

/// Why a journal did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the journal open: {} is locked", file.display())]
    AlreadyOpen { file: PathBuf },
    #[error("{} is not a journal: {reason}", file.display())]
    NotAJournal { file: PathBuf, reason: String },
    #[error("{} is damaged: {reason}", file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("the journal has format {found}, this program reads format {expected}")]
    WrongFormat { expected: u32, found: u32 },
    #[error(
        "the journal holds inputs of logic version {found}, this program has version {expected}: \
         checkpoint it with the program that wrote it"
    )]
    WrongLogicVersion { expected: u32, found: u32 },
    #[error("the journal belongs to network {found:?}, expected {expected:?}")]
    WrongNetwork { expected: String, found: String },
    #[error("the journal belongs to another owner: expected {expected:02x?}, found {found:02x?}")]
    WrongOwner { expected: Vec<u8>, found: Vec<u8> },
    #[error("{row} is broken: {reason}")]
    BrokenRow { row: RowName, reason: &'static str },
    #[error("{machine} has a gap in log row {row}: expected input {expected}, found {found}")]
    Gap { machine: MachineId, row: u64, expected: u64, found: u64 },
    #[error("{} cannot be written: {source}", file.display())]
    ReadOnly { file: PathBuf, source: std::io::Error },
    #[error("no space is left for {}: {source}", file.display())]
    DiskFull { file: PathBuf, source: std::io::Error },
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: std::io::Error },
    #[error("the header's {field} has {length} bytes, at most {maximum} are allowed")]
    HeaderTooLong { field: &'static str, length: usize, maximum: usize },
}

/// Our disk or our logic is broken. Nothing appended since the last [`Commit`](crate::Commit) is released;
/// every append and turn after it fails. The process must stop.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the journal could not be written: {reason}")]
    Storage { reason: String },
    #[error("no space is left for the journal: {reason}")]
    DiskFull { reason: String },
    #[error("{machine} appended input {found}, expected {expected}")]
    Gap { machine: MachineId, expected: u64, found: u64 },
    #[error("{machine} has a snapshot at input {found}, but its latest input is {latest}")]
    SnapshotAhead { machine: MachineId, latest: u64, found: u64 },
    #[error("{machine} has a tombstone at input {found}, but its latest input is {latest}")]
    TombstoneBehind { machine: MachineId, latest: u64, found: u64 },
    #[error("{machine} appended after its tombstone")]
    AfterTombstone { machine: MachineId },
    #[error("{what} has {length} bytes, at most {maximum} are allowed")]
    TooLarge { what: &'static str, length: usize, maximum: usize },
    #[error("{row} is broken: {reason}")]
    BrokenRow { row: RowName, reason: &'static str },
    #[error("the journal stopped at an earlier fault")]
    Earlier,
}

/// The log takes nothing more: it was closed, or its committer met a fault or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct Closed;

/// Why a batch was not queued by [`Log::try_append`](crate::Log::try_append). The batch comes back.
#[derive(Debug, thiserror::Error)]
pub enum TryAppendError {
    #[error("the journal's queue is full")]
    Full(crate::Batch),
    #[error("the journal is closed")]
    Closed(crate::Batch),
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the journal could not be read: {reason}")]
    Storage { reason: String },
    #[error("{row} is broken: {reason}")]
    BrokenRow { row: RowName, reason: &'static str },
}

/// Why events could not be read from an index.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    #[error("the event asked for is no longer kept, the oldest is {oldest}")]
    TooOld { oldest: u64 },
    #[error("the event asked for is not written yet, the next is {next}")]
    Ahead { next: u64 },
    #[error(transparent)]
    Read(#[from] ReadError),
}

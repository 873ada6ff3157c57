//! Opening: lock, compare the header, check every row, rebuild what the committer must know.
//!
//! Nothing in the file is changed before everything was found right. A new file is made under another name and
//! renamed when it is whole, so a crash while creating leaves no half-made journal.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, TableHandle};

use crate::backend::Metered;
use crate::committer::{Committer, State};
use crate::encoding::{self, EVENTS, HEADER, HEADER_KEY, LOG, RETAINED, SNAPSHOTS, StoredHeader};
use crate::error::{OpenError, RowName};
use crate::limits::{FORMAT_VERSION, MAX_NETWORK_BYTES, MAX_OWNER_BYTES};
use crate::log::{Log, Shared};
use crate::machines::{Covered, Life};
use crate::options::{Header, Options};
use crate::reader::Reader;
use crate::recovery::{Recovery, Transaction, View};
use crate::scan::{Found, find_broken_row, scan};
use crate::stats::Counters;
use crate::store::{EventBounds, Store, io_error, open_error};
use crate::trim::{Graves, Search, Trim};

/// Opens journals.
#[derive(Debug)]
pub struct Journal;

/// An open journal, in its parts. The file is closed and unlocked when committer, reader (and its clones), and
/// recovery (and what it yields from) are dropped; the log does not hold it.
#[derive(Debug)]
pub struct Opened {
    pub log: Log,
    pub committer: Committer,
    pub reader: Reader,
    pub recovery: Recovery,
}

impl Journal {
    /// Opens the journal in the file `path`, or creates it there; its folder must exist. The file `path` with
    /// `.lock` added is locked while any part of the journal lives. A new file has about 1 MB and costs fewer than 20
    /// syncs.
    ///
    /// Reads the file to check it: about 0.3 s for a million records.
    pub fn open(path: &Path, header: &Header, options: Options) -> Result<Opened, OpenError> {
        check_header_lengths(header)?;
        let lock = lock(path)?;
        guarded(path, || {
            let counters = Arc::new(Counters::default());
            let is_new = is_absent(path)?;
            if is_new {
                create_file(path, header, &options, &counters)?;
            }
            let (db, pages) = open_file(path, &options, &counters)?;
            let file = path.to_owned();
            Opening { db, pages, file, lock: Some(lock), counters, is_new }.finish(header, options)
        })
    }

    /// Opens or creates a journal in any storage: a simulated disk, memory.
    pub fn open_with_backend(
        backend: impl redb::StorageBackend,
        header: &Header,
        options: Options,
    ) -> Result<Opened, OpenError> {
        check_header_lengths(header)?;
        let file = PathBuf::from("(storage)");
        guarded(&file, || {
            let counters = Arc::new(Counters::default());
            let (db, pages) = open_engine(&file, backend, &options, &counters)?;
            let file = file.clone();
            Opening { db, pages, file, lock: None, counters, is_new: false }.finish(header, options)
        })
    }
}

/// Runs an opening. The engine trusts its pages and panics on some that are damaged: that becomes an error too.
fn guarded(file: &Path, open: impl FnOnce() -> Result<Opened, OpenError>) -> Result<Opened, OpenError> {
    panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let reason = "its pages contradict each other".to_owned();
        Err(OpenError::Damaged { file: file.to_owned(), reason })
    })
}

/// True when there is no file yet. An empty one is refused: it was a journal once, or is somebody else's.
fn is_absent(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
            Err(OpenError::NotAJournal { file: path.to_owned(), reason: "it is empty".to_owned() })
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(io_error(path.to_owned(), source)),
    }
}

fn check_header_lengths(header: &Header) -> Result<(), OpenError> {
    let fields = [
        ("network", header.network.len(), MAX_NETWORK_BYTES),
        ("owner", header.owner.len(), MAX_OWNER_BYTES),
    ];
    for (field, length, maximum) in fields {
        if length > maximum {
            return Err(OpenError::HeaderTooLong { field, length, maximum });
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Locks the file beside the journal. The engine locks the journal itself too, but this lock also covers its creation.
fn lock(path: &Path) -> Result<File, OpenError> {
    let file = with_suffix(path, ".lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&file);
    let lock = opened.map_err(|source| io_error(file.clone(), source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::AlreadyOpen { file }),
        Err(TryLockError::Error(source)) => Err(io_error(file, source)),
    }
}

/// Opens the engine on a storage.
fn open_engine(
    file: &Path,
    backend: impl redb::StorageBackend,
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<(Database, Pages), OpenError> {
    let repaired = Arc::new(AtomicBool::new(false));
    let told = repaired.clone();
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes).set_repair_callback(move |_| {
        if !told.swap(true, Ordering::Relaxed) {
            tracing::info!("the journal was not closed cleanly: checking it");
        }
    });
    let backend = Metered::new(backend, counters.clone());
    let db = builder.create_with_backend(backend).map_err(|error| open_error(file, error))?;
    let pages = if repaired.load(Ordering::Relaxed) { Pages::Checked } else { Pages::Trusted };
    Ok((db, pages))
}

fn open_file(
    path: &Path,
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<(Database, Pages), OpenError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = opened.map_err(|source| io_error(path.to_owned(), source))?;
    let backend = FileBackend::new(file).map_err(|error| open_error(path, error))?;
    open_engine(path, backend, options, counters)
}

/// Makes a whole journal under another name, then renames it. The caller holds the lock.
fn create_file(
    path: &Path,
    header: &Header,
    options: &Options,
    counters: &Arc<Counters>,
) -> Result<(), OpenError> {
    let new = with_suffix(path, ".new");
    let failed = |source| io_error(new.clone(), source);
    if fs::exists(&new).map_err(failed)? {
        fs::remove_file(&new).map_err(failed)?;
    }
    let (db, _) = open_file(&new, options, counters)?;
    create_tables(&db, header).map_err(|error| open_error(&new, error))?;
    drop(db);
    fs::rename(&new, path).map_err(failed)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| io_error(folder.to_owned(), source))
}

fn create_tables(db: &Database, header: &Header) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    transaction.open_table(LOG)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(RETAINED)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(HEADER)?.insert(HEADER_KEY, encoding::encode_header(header).as_slice())?;
    transaction.commit()?;
    Ok(())
}

/// An opened database that is not yet known to be our journal.
struct Opening {
    db: Database,
    pages: Pages,
    file: PathBuf,
    lock: Option<File>,
    counters: Arc<Counters>,
    /// The file was made by this call.
    is_new: bool,
}

/// What is known of the engine's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    /// The file was not closed cleanly, so the engine compared all checksums.
    Checked,
    /// The file was closed cleanly, so the engine looked at nothing.
    Trusted,
}

impl Opening {
    fn finish(mut self, header: &Header, options: Options) -> Result<Opened, OpenError> {
        let written_by = match self.read_header()? {
            Some(found) => {
                compare(header, &found)?;
                (!self.is_new).then_some(found.logic_version)
            }
            None => {
                create_tables(&self.db, header).map_err(|error| self.error(error))?;
                None
            }
        };
        let found = scan(&self.file, &self.begin_read()?)?;
        self.check_pages()?;
        if let Some(version) = written_by
            && version != header.logic_version
        {
            if found.records > 0 {
                return Err(OpenError::WrongLogicVersion { expected: header.logic_version, found: version });
            }
            self.write_header(header).map_err(|error| self.error(error))?;
        }
        let transaction = self.begin_read()?;
        Ok(self.assemble(transaction, found, written_by, options))
    }

    fn begin_read(&self) -> Result<ReadTransaction, OpenError> {
        self.db.begin_read().map_err(|error| self.error(error))
    }

    /// Compares the checksums of all pages, if the engine did not: a damaged tree would lose rows or, worse, write over
    /// others. It comes after the scan, which names what it finds; then only what the scan leaves out can be wrong.
    fn check_pages(&mut self) -> Result<(), OpenError> {
        if self.pages == Pages::Checked {
            return Ok(());
        }
        match self.db.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => {
                tracing::warn!("the journal's map of free pages was damaged and was made again");
                Ok(())
            }
            Err(error) => {
                let named = self.db.begin_read().ok().and_then(|view| find_broken_row(&view));
                Err(named.unwrap_or_else(|| self.error(error)))
            }
        }
    }

    fn assemble(
        self,
        transaction: ReadTransaction,
        found: Found,
        written_by: Option<u32>,
        options: Options,
    ) -> Opened {
        let mut graves = Graves::default();
        let mut covered = Covered::default();
        for (&id, machine) in &found.machines {
            covered.insert(id, machine.covered);
            if machine.life == Life::Gone {
                graves.add(machine.last_row, id);
            }
        }
        let store = Arc::new(Store {
            db: self.db,
            events: EventBounds::new(found.events.oldest, found.events.next),
            _lock: self.lock,
        });
        let state = State {
            machines: found.machines,
            rows: found.rows,
            events: found.events,
            graves,
            trim: Trim::default(),
            search: Search::default(),
            scratch: Vec::new(),
        };
        let view = View { transaction: Transaction(transaction), covered };
        let shared = Arc::new(Shared::new(options.queue_bytes, self.counters));
        Opened {
            log: Log::new(shared.clone()),
            committer: Committer::new(store.clone(), shared, options, state),
            reader: Reader::new(store),
            recovery: Recovery::new(view, written_by, found.records),
        }
    }

    /// The header; `None` when the storage is new and holds nothing at all.
    fn read_header(&self) -> Result<Option<Header>, OpenError> {
        let transaction = self.begin_read()?;
        let tables: Vec<String> = transaction
            .list_tables()
            .map_err(|error| self.error(error))?
            .map(|table| table.name().to_owned())
            .collect();
        if tables.is_empty() {
            return Ok(None);
        }
        if !tables.iter().any(|name| name == HEADER.name()) {
            return Err(self.not_a_journal("it is a database without a journal's header"));
        }
        let table = transaction.open_table(HEADER).map_err(|error| self.error(error))?;
        let value = table.get(HEADER_KEY).map_err(|error| self.error(error))?;
        let value = value.ok_or_else(|| self.not_a_journal("its header is missing"))?;
        let broken = |reason| OpenError::BrokenRow { row: RowName::Header, reason };
        match encoding::decode_header(value.value()).map_err(broken)? {
            StoredHeader::Ours(header) => Ok(Some(header)),
            StoredHeader::OtherFormat(found) => {
                Err(OpenError::WrongFormat { expected: FORMAT_VERSION, found })
            }
        }
    }

    fn write_header(&self, header: &Header) -> Result<(), redb::Error> {
        let transaction = self.db.begin_write()?;
        transaction.open_table(HEADER)?.insert(HEADER_KEY, encoding::encode_header(header).as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    fn error(&self, error: impl Into<redb::Error>) -> OpenError {
        open_error(&self.file, error)
    }

    fn not_a_journal(&self, reason: &str) -> OpenError {
        OpenError::NotAJournal { file: self.file.clone(), reason: reason.to_owned() }
    }
}

fn compare(expected: &Header, found: &Header) -> Result<(), OpenError> {
    if found.network != expected.network {
        return Err(OpenError::WrongNetwork {
            expected: expected.network.clone(),
            found: found.network.clone(),
        });
    }
    if found.owner != expected.owner {
        return Err(OpenError::WrongOwner { expected: expected.owner.clone(), found: found.owner.clone() });
    }
    Ok(())
}

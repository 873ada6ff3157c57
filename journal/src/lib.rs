//! The durable input log: records of many machines, their snapshots, retained rows and events, in one file.
//!
//! It knows bytes, ids and sequence numbers, never what they mean. What it promises:
//!
//! - **Order.** Batches lie in the file in the order in which they were appended, whoever appended them.
//! - **Durable before visible.** [`Log::durable`], [`Commit`] and [`Reader`] speak only of what was fsynced.
//! - **Whole or not at all.** After a crash at any instant every batch reported durable is there, and no part of
//!   another batch shows without the rest of it.
//! - **Bounded.** The queue, the log and the kept events have limits ([`Options`], [`limits`]).
//!
//! In use: [`Journal::open`], rebuild the machines from [`Recovery`] (snapshots, then records), drop it; hand
//! [`Log`]s to those who append and [`Committer::run`] to a thread, which tells after each commit what may now leave
//! the process and which machines to snapshot. To stop cleanly, append a snapshot of every machine and
//! [`Log::close`]. [`Committer::turn`] does the same without a thread.
//!
//! ```
//! use journal::{Batch, Header, Journal, MachineId, Options};
//!
//! let folder = tempfile::tempdir()?;
//! let header = Header { logic_version: 1, network: "regtest".into(), owner: b"hub".to_vec() };
//! let mut opened = Journal::open(&folder.path().join("journal"), &header, Options::small())?;
//! let mut batch = Batch::default();
//! batch.records.push(MachineId(1), 1, b"the first input");
//! let position = opened.log.append(batch)?;
//! let commit = opened.committer.turn()?.expect("something was appended");
//! assert_eq!(commit.durable, position);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod limits;

mod backend;
mod batch;
mod committer;
mod encoding;
mod error;
mod headroom;
mod log;
mod machines;
mod open;
mod options;
mod reader;
mod recovery;
mod scan;
mod stats;
mod store;
mod trim;
mod write;

pub use batch::{Batch, Content, MachineId, Position, Record, RecordRef, Records, Retained, Snapshot};
pub use committer::{Commit, Committer, EventRange, Finished};
pub use error::{Closed, EventsError, Fault, OpenError, ReadError, RowName, TryAppendError};
pub use headroom::{Headroom, HeadroomError, Room, free_bytes};
pub use log::{Log, Wake};
pub use open::{Journal, Opened};
pub use options::{Header, Options};
pub use reader::{KeyValue, Reader};
pub use recovery::{Recovery, Replay, Snapshots};
pub use redb::StorageBackend;
pub use stats::Stats;

//! The loop that hosts channels: mailbox → `check` → `apply` → journal → outbox. Shared by the hub (many channels, several
//! shards) and the wallet (one shard).
//!
//! ```text
//!  Mail ─▶ Shard::turn ─ check ─ apply ─▶ one Batch ─▶ Log ─▶ (fsync, elsewhere)
//!                 │                                              │
//!                 ├─▶ Outlet::internal (after the append)        ▼
//!                 └─▶ outbox ──────────────────────── Mail::Durable ─▶ sign ─▶ Outlet::send, reply, chain
//! ```
//!
//! What it promises:
//!
//! - **Durable before visible.** Messages to peers, answers (reads too), requests to the chain's side leave only after the
//!   batch they depend on is on the disk. Messages between owners of one process leave once it is appended: what they cause lies
//!   in later rows of the same log.
//! - **A refusal changes nothing** and leaves nothing in the journal.
//! - **The order of the log is that of cause and effect**, and the same mail in the same turns gives the same log.
//! - **Bounded**: see [`limits`]. Messages between owners are bounded by the HTLCs in flight, which the channels limit.
//!
//! What it never does: wait (but for room in the journal's queue, and for a row of the revocation log when somebody cheats), read a clock, draw randomness, start a thread, know a network.
//!
//! In order: [`Shard::recover`] (or [`Shard::new`]), [`Shard::start`], the chain's news up to the tip by [`Shard::turn`]s,
//! [`Shard::resume`], then sessions and everything else by [`Shard::turn`]s. To stop: [`Mail::Stop`], then turns until
//! [`Shard::stopped`]. After a [`Fault`] the process stops; nothing more is released.
//!
//! | module | its part |
//! | --- | --- |
//! | [`mail`], [`outlet`] | what comes in, what goes out |
//! | `shard`, `take`, `apply`, `forwards`, `release` | the turn, in the order in which things happen |
//! | `recover`, `quarantine`, `snapshots` | starting, what does not start, stopping |
//! | `read`, [`events`], [`revoked`], [`load`] | what others see |
//! | [`outbox`], [`machine`], `table`, `map` | the parts; the first two serve the hub's registry and the wallet's ledger too |

pub mod events;
pub mod limits;
pub mod load;
pub mod machine;
pub mod mail;
pub mod outbox;
pub mod outlet;
pub mod revoked;

mod apply;
mod forwards;
mod map;
mod quarantine;
mod read;
mod recover;
mod release;
mod shard;
mod snapshots;
mod table;
mod take;

/// The target of the trace that tells each event of each channel before it is checked: `owner`, `phase`, `event`.
pub const EVENTS_TARGET: &str = "shard::event";

pub use events::{EventRecord, Happening};
pub use load::Load;
pub use machine::{Gap, MachineLog};
pub use mail::{Answer, Credit, Mail, Query, Refused, Reply, ReplyTo};
pub use outbox::Outbox;
pub use outlet::{ChainRequest, DirectoryEntry, Outlet, PeerRefusal};
pub use quarantine::{Evidence, Quarantined};
pub use shard::{Fault, Setup, Shard, Turned};

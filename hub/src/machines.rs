//! The machines as whoever gives them their turns sees them: a thread each in `hubd`, one hand for all in a simulator. A machine
//! never blocks but on a log whose queue is full, and never turns by itself.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use channel::ids::OwnerId;
use crossbeam_channel::Receiver;
use daemon::rising::Raise;
use daemon::world::World;
use journal::{Commit, Position};
use shard::{Fault, Mail, Outlet, Shard};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::control::{ControlMail, DESK_MACHINE, MACHINE};
use crate::mailboxes::Mailboxes;
use crate::placement::Placement;

/// How often a shard tells its load.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// A shard with what its turns need.
pub struct ShardMachine<O> {
    index: usize,
    shard: Shard,
    outlet: O,
    placement: Arc<Placement>,
    world: World,
    told_at: Instant,
    busy: Duration,
}

impl<O: Outlet> ShardMachine<O> {
    pub fn new(index: usize, shard: Shard, outlet: O, placement: Arc<Placement>, world: World) -> Self {
        ShardMachine { index, shard, outlet, placement, world, told_at: Instant::now(), busy: Duration::ZERO }
    }

    /// One turn over `first` and everything that waits; true when another should follow at once.
    pub fn turn(&mut self, first: Option<Mail>, mailbox: &Receiver<Mail>) -> Result<bool, Fault> {
        let start = Instant::now();
        let mut mails = first.into_iter().chain(std::iter::from_fn(|| mailbox.try_recv().ok()));
        let turned = self.shard.turn(self.world.now_ms(), &mut mails, &mut self.outlet)?;
        let end = Instant::now();
        let busy = end - start;
        self.shard.note_busy(busy);
        self.busy += busy;
        self.tell_load(end);
        Ok(turned.again)
    }

    /// The chain was followed to its tip: every unresolved forward is sent again.
    pub fn resume(&mut self) -> Result<(), Fault> {
        self.shard.resume(self.world.now_ms(), &mut self.outlet)?;
        Ok(())
    }

    /// Whether everything of a clean stop is durable and out.
    pub fn stopped(&self) -> bool {
        self.shard.stopped()
    }

    /// The shard, for whoever looks at it between turns.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    fn tell_load(&mut self, now: Instant) {
        use std::sync::atomic::Ordering::Relaxed;
        let load = self.shard.load();
        let cell = self.placement.load(self.index);
        *cell.latest.lock().unwrap_or_else(PoisonError::into_inner) = load;
        let since = now.saturating_duration_since(self.told_at);
        if since < LOAD_INTERVAL {
            return;
        }
        let permille = self.busy.as_nanos().saturating_mul(1000) / since.as_nanos().max(1);
        cell.busy_permille.store(u64::try_from(permille).unwrap_or(1000).min(1000), Relaxed);
        cell.channels.store(u64::try_from(load.channels).unwrap_or(u64::MAX), Relaxed);
        cell.placed.store(0, Relaxed);
        self.told_at = now;
        self.busy = Duration::ZERO;
    }
}

/// Who hears of commits.
pub struct CommitNews {
    pub mailboxes: Mailboxes,
    pub durable: Raise<Position>,
    /// Rises with each event: the index of the next.
    pub next_event: Raise<u64>,
    /// Told when the desk's snapshot is wanted.
    pub desk_snapshot: mpsc::UnboundedSender<()>,
}

impl CommitNews {
    /// Told after each commit, by whoever turns the committer.
    pub fn tell(&self, commit: &Commit) {
        self.mailboxes.every_shard(|| Mail::Durable(commit.durable));
        self.mailboxes.control(ControlMail::Durable(commit.durable));
        self.durable.raise(commit.durable);
        if let Some(events) = commit.events {
            self.next_event.raise(events.last + 1);
        }
        for machine in &commit.wants_snapshot {
            match *machine {
                MACHINE => self.mailboxes.control(ControlMail::SnapshotNow),
                DESK_MACHINE => {
                    let _ = self.desk_snapshot.send(());
                }
                machine => {
                    let owner = OwnerId(machine.0);
                    self.mailboxes.owner(owner, Mail::SnapshotNow(owner));
                }
            }
        }
    }
}

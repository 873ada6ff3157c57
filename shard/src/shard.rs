//! The shard and its turn.
//!
//! Invariant: what a turn hands out was made durable by an earlier turn's batch (or this one's, if the disk was faster);
//! messages between owners are the one exception, and they leave only after the batch that caused them is appended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use channel::amount::Msat;
use channel::channel::{Context, Forwards, GivenUp};
use channel::effect::Effect;
use channel::forward::{Internal, Router};
use channel::ids::{ChannelId, OwnerId};
use channel::policy::Policy;
use channel::signer::Signer;
use journal::{Batch, Log, Position, ReadError, Reader};

use crate::events::Collector;
use crate::limits;
use crate::load::Load;
use crate::mail::Mail;
use crate::outbox::Outbox;
use crate::outlet::Outlet;
use crate::quarantine::Quarantined;
use crate::release::Outgoing;
use crate::revoked::{Fresh, Sweep};
use crate::table::{SlotId, Table};

/// What a host gives a shard for its life.
#[derive(Clone)]
pub struct Setup {
    pub log: Log,
    /// Of the same journal: the revocation log is read when a counterparty publishes what it revoked.
    pub reader: Reader,
    pub signer: Arc<dyn Signer>,
    pub router: Arc<dyn Router + Send + Sync>,
    pub policy: Policy,
    /// The tip's height.
    pub height: u32,
    /// 64 random bits that nobody outside knows: they keep strangers from choosing channel ids whose hashes collide.
    /// Nothing else depends on them, and no result does.
    pub hash_seed: u64,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("height", &self.height).finish_non_exhaustive()
    }
}

/// Hosts channels. See the crate's page for the order in which its functions are called.
pub struct Shard {
    pub(crate) log: Log,
    pub(crate) reader: Reader,
    pub(crate) env: Environment,
    pub(crate) table: Table,
    pub(crate) quarantine: BTreeMap<OwnerId, Quarantined>,
    pub(crate) turn: Turn,
    pub(crate) outbox: Outbox<Outgoing>,
    /// Channels with messages in the release under way.
    pub(crate) releasing: Vec<SlotId>,
    /// Rows of the revocation log on their way to the disk.
    pub(crate) fresh: Fresh,
    /// Channels that ended and have rows of the revocation log left.
    pub(crate) sweeps: VecDeque<Sweep>,
    /// Everything up to here is on the disk.
    pub(crate) durable: Position,
    /// The latest batch of this shard.
    pub(crate) last: Position,
    pub(crate) load: Load,
    pub(crate) run: Run,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("load", &self.load()).field("run", &self.run).finish_non_exhaustive()
    }
}

/// What `check` reads besides the channel.
pub(crate) struct Environment {
    pub signer: Arc<dyn Signer>,
    pub router: Arc<dyn Router + Send + Sync>,
    pub policy: Policy,
    pub height: u32,
}

impl Environment {
    pub fn context(&self) -> Context<'_> {
        Context {
            policy: &self.policy,
            height: self.height,
            signer: self.signer.as_ref(),
            router: self.router.as_ref(),
        }
    }
}

/// Where the shard is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Running,
    /// Every channel is disconnected, snapshots are being taken, everything else is refused.
    Stopping,
    /// The journal took nothing more. Nothing is released any more.
    Faulted,
}

/// What one turn collects. The buffers live as long as the shard.
pub(crate) struct Turn {
    pub now_ms: u64,
    pub batch: Batch,
    /// Scratch for `Channel::apply`; empty between inputs.
    pub effects: Vec<Effect>,
    /// Waits for this turn's batch.
    pub pending: Vec<Outgoing>,
    /// To owners in this shard; may outlive a turn.
    pub local: VecDeque<(OwnerId, Internal)>,
    /// To owners elsewhere; leaves after the append.
    pub remote: Vec<(OwnerId, Internal)>,
    /// Channels with an input in this turn, in the order of their first.
    pub touched: Vec<SlotId>,
    /// Channels that may want to sign.
    pub unsigned: Vec<SlotId>,
    /// Channels that ended in this turn.
    pub ended: Vec<SlotId>,
    pub events: Collector,
    /// Snapshots asked for; may outlive a turn.
    pub snapshots: VecDeque<OwnerId>,
    /// Mails and messages taken in this turn.
    pub work: usize,
    /// Rows of the revocation log deleted in this turn.
    pub swept: usize,
    /// The revocation log could not be read: nothing of this turn is appended.
    pub unread: Option<ReadError>,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// The batch it appended, if anything was to be journaled.
    pub appended: Option<Position>,
    /// There is more to do without any mail: start the next turn at once.
    pub again: bool,
}

/// Our disk or our logic is broken: the process must stop. Nothing that waits is released any more.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the journal takes nothing more")]
    Journal(#[from] journal::Closed),
    #[error("the revocation log: {0}")]
    Revocations(#[from] ReadError),
}

impl Shard {
    /// A shard without channels.
    pub fn new(setup: Setup) -> Self {
        Shard {
            log: setup.log,
            reader: setup.reader,
            env: Environment {
                signer: setup.signer,
                router: setup.router,
                policy: setup.policy,
                height: setup.height,
            },
            table: Table::new(setup.hash_seed),
            quarantine: BTreeMap::new(),
            turn: Turn {
                now_ms: 0,
                batch: Batch::default(),
                effects: Vec::new(),
                pending: Vec::new(),
                local: VecDeque::new(),
                remote: Vec::new(),
                touched: Vec::new(),
                unsigned: Vec::new(),
                ended: Vec::new(),
                events: Collector::new(setup.hash_seed),
                snapshots: VecDeque::new(),
                work: 0,
                swept: 0,
                unread: None,
            },
            outbox: Outbox::new(),
            releasing: Vec::new(),
            fresh: Fresh::default(),
            sweeps: VecDeque::new(),
            durable: Position::default(),
            last: Position::default(),
            load: Load::default(),
            run: Run::Running,
        }
    }

    /// Takes mail until there is none or the turn is full, lets the channels talk to each other and sign, appends one batch, and
    /// hands out what is durable. `now_ms` is the host's clock (milliseconds since 1970); it only dates events.
    ///
    /// Mail that is not taken must stay with the caller: pass an iterator that pops from a queue. Blocks only while the
    /// journal's queue is full.
    pub fn turn(
        &mut self,
        now_ms: u64,
        mail: &mut impl Iterator<Item = Mail>,
        outlet: &mut impl Outlet,
    ) -> Result<Turned, Fault> {
        self.begin(now_ms)?;
        let mut full = false;
        loop {
            full = full
                || self.turn.work >= limits::MAX_WORK_A_TURN
                || self.turn.batch.records.payload_bytes() >= limits::MAX_BATCH_BYTES;
            if full {
                break;
            }
            let Some(mail) = mail.next() else { break };
            self.load.mails += 1;
            self.turn.work += 1;
            self.take(mail);
        }
        self.settle();
        let turned = self.close(outlet)?;
        Ok(Turned { again: turned.again || full, ..turned })
    }

    /// Adds to the busy time in [`Shard::load`]; hosts with a clock time their turns.
    pub fn note_busy(&mut self, time: std::time::Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.load.busy_ns = self.load.busy_ns.saturating_add(ns);
    }

    /// The tip's height, as far as this shard has heard.
    pub fn known_height(&self) -> u32 {
        self.env.height
    }

    /// For an audit: every channel and its part in forwards, in the order of numbers.
    pub fn forwards(&self) -> impl Iterator<Item = (OwnerId, Forwards)> + '_ {
        self.table.after(None).map(|slot| {
            let hosted = self.table.get(slot);
            (hosted.owner, hosted.channel.forwards())
        })
    }

    /// For an audit: the HTLCs that its channels gave up, while they may still be taken.
    pub fn given_up(&self) -> impl Iterator<Item = GivenUp> + '_ {
        self.table.after(None).flat_map(|slot| self.table.get(slot).channel.given_up())
    }

    /// For an audit: what was paid so far of the prices of channels that their peers funded.
    pub fn prices_paid(&self) -> impl Iterator<Item = (ChannelId, Msat)> + '_ {
        let channels = self.table.after(None).map(|slot| &self.table.get(slot).channel);
        let paid = channels.map(|channel| (channel.channel_id(), channel.price_paid()));
        paid.filter(|(_, paid)| !paid.is_zero())
    }

    pub fn load(&self) -> Load {
        Load {
            waiting: self.outbox.len(),
            backlog: self.turn.local.len(),
            channels: self.table.len(),
            ..self.load
        }
    }

    /// After [`Mail::Stop`]: every channel's snapshot is durable and everything that may leave has left.
    pub fn stopped(&self) -> bool {
        self.run == Run::Stopping
            && self.turn.snapshots.is_empty()
            && self.outbox.is_empty()
            && self.durable >= self.last
    }

    pub(crate) fn begin(&mut self, now_ms: u64) -> Result<(), Fault> {
        match self.run {
            Run::Running | Run::Stopping => {}
            Run::Faulted => return Err(Fault::Journal(journal::Closed)),
        }
        self.turn.now_ms = now_ms;
        self.turn.work = 0;
        self.turn.swept = 0;
        self.load.turns += 1;
        Ok(())
    }

    /// Handles what channels of this shard told each other, and signs what is pending, until all is quiet or the turn is full.
    pub(crate) fn settle(&mut self) {
        for _ in 0..limits::MAX_ROUNDS_A_TURN {
            for _ in 0..limits::MAX_INTERNALS_A_TURN {
                let Some((to, message)) = self.turn.local.pop_front() else { break };
                self.internal(to, message);
            }
            self.sign();
            if self.turn.local.is_empty() {
                break;
            }
        }
    }

    /// Appends what the turn collected and hands out what may leave.
    pub(crate) fn close(&mut self, outlet: &mut impl Outlet) -> Result<Turned, Fault> {
        self.turn.events.drain_into(&mut self.turn.batch.events);
        self.publish_touched(outlet);
        let read = match self.turn.unread.take() {
            Some(error) => Err(error),
            None => self.bury_ended(outlet).and_then(|()| self.sweep_on()),
        };
        if let Err(error) = read {
            self.run = Run::Faulted;
            return Err(error.into());
        }
        self.take_snapshots();
        let mut appended = None;
        if !self.turn.batch.is_empty() {
            let batch = std::mem::take(&mut self.turn.batch);
            match self.log.append(batch) {
                Ok(position) => {
                    self.last = position;
                    self.fresh.appended(position);
                    appended = Some(position);
                }
                Err(closed) => {
                    self.run = Run::Faulted;
                    return Err(closed.into());
                }
            }
        }
        for (to, message) in self.turn.remote.drain(..) {
            outlet.internal(to, message);
        }
        for item in self.turn.pending.drain(..) {
            self.outbox.push(self.last, item);
        }
        self.release(outlet);
        let sweeping = self.run == Run::Running && !self.sweeps.is_empty();
        let again = !self.turn.local.is_empty() || !self.turn.snapshots.is_empty() || sweeping;
        Ok(Turned { appended, again })
    }
}

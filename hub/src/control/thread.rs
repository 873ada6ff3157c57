//! The thread's turn: drain mail, collect one batch, append it, release what is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use channel::ids::{OwnerId, StreamId};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use daemon::world::World;
use journal::{Batch, Content, Log, Position, Recovery, Room, Snapshot};
use shard::{MachineLog, Mail, Outbox};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::chain::ToDesk;
use crate::config;
use crate::directory::Directory;
use crate::events::{HubEvent, HubHappening};
use crate::limits::{HEADROOM_INTERVAL, MAILS_A_TURN, TICK};
use crate::mailboxes::Mailboxes;
use crate::router::Gate;
use crate::session::{Outgoing, Sessions, ToWallet};

use super::mail::{ControlMail, RememberError, Remembered};
use super::registry::{Input, Registry, StateError};
use super::{MACHINE, registry};

/// How often old requests and idle streams are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What the control thread needs of the hub.
pub struct ControlSetup {
    pub log: Log,
    pub mailboxes: Mailboxes,
    pub sessions: Arc<Sessions>,
    pub directory: Arc<Directory>,
    pub gate: Arc<Gate>,
    /// Asked what the hub's coins allow.
    pub chain: mpsc::UnboundedSender<ToDesk>,
    pub inbound: config::Inbound,
    pub streams: config::Streams,
    pub max_channels_per_wallet: usize,
    pub min_capacity_sat: u64,
    /// Where the journal is kept: without room there, new work is refused.
    pub room: Room,
    pub world: World,
}

/// The thread's state.
pub struct Control {
    pub(super) setup: ControlSetup,
    pub(super) registry: Registry,
    machine: MachineLog,
    pub(super) turn: Turn,
    outbox: Outbox<Action>,
    durable: Position,
    last: Position,
    /// When a stream was last heard of, in milliseconds since 1970; those not in it since they were opened.
    pub(super) heard: BTreeMap<StreamId, u64>,
    /// The time of the first turn, in milliseconds since 1970; 0 before it.
    pub(super) began_ms: u64,
    sweep_at: Instant,
    headroom_at: Instant,
    run: Run,
}

/// What one turn collects.
#[derive(Default)]
pub(super) struct Turn {
    pub now_ms: u64,
    batch: Batch,
    actions: Vec<Action>,
    /// To shards, once the batch is appended: what it causes lies in later rows.
    mails: Vec<(OwnerId, Mail)>,
}

/// Something that leaves once the turn's batch is durable.
pub(super) enum Action {
    Tell { to: Outgoing, what: ToWallet },
    Remembered { reply: oneshot::Sender<Result<Remembered, RememberError>>, what: Remembered },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Running,
    Stopping,
}

/// The journal takes nothing more, or a row of the registry does not fold: the process must stop.
#[derive(Debug, thiserror::Error)]
pub enum Faulted {
    #[error("the journal takes nothing more")]
    Journal(#[from] journal::Closed),
    #[error("the journal could not be read: {0}")]
    Read(#[from] journal::ReadError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Gap(#[from] shard::Gap),
}

impl Control {
    /// Rebuilds the registry from what the journal held.
    pub fn recover(setup: ControlSetup, recovery: &Recovery) -> Result<Control, Faulted> {
        let (registry, machine) = recover_registry(recovery)?;
        for (id, stream) in registry.streams() {
            setup.directory.add_stream(*id, stream.payee);
        }
        let now = Instant::now();
        Ok(Control {
            setup,
            registry,
            machine,
            turn: Turn::default(),
            outbox: Outbox::new(),
            durable: Position::default(),
            last: Position::default(),
            heard: BTreeMap::new(),
            began_ms: 0,
            sweep_at: now + SWEEP_INTERVAL,
            headroom_at: now,
            run: Run::Running,
        })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The thread's body: until a clean stop, or a fault.
    pub fn run(mut self, mailbox: &Receiver<ControlMail>) -> Result<(), Faulted> {
        while !self.stopped() {
            let first = match mailbox.recv_timeout(TICK) {
                Ok(mail) => Some(mail),
                Err(RecvTimeoutError::Timeout) => None,
                // Everybody who could send is gone: the process is on its way out.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.turn_over(first, mailbox)?;
        }
        Ok(())
    }

    /// One turn over `first` and what waits in the mailbox. Without mail it looks at the timers.
    pub fn turn_over(
        &mut self,
        first: Option<ControlMail>,
        mailbox: &Receiver<ControlMail>,
    ) -> Result<(), Faulted> {
        let more = std::iter::from_fn(|| mailbox.try_recv().ok());
        let mails = first.into_iter().chain(more).take(MAILS_A_TURN);
        self.turn(self.setup.world.now_ms(), Instant::now(), mails)
    }

    /// One turn.
    pub fn turn(
        &mut self,
        now_ms: u64,
        now: Instant,
        mails: impl Iterator<Item = ControlMail>,
    ) -> Result<(), Faulted> {
        self.turn.now_ms = now_ms;
        if self.began_ms == 0 {
            self.began_ms = now_ms;
        }
        for mail in mails {
            self.take(mail);
        }
        if self.run == Run::Running {
            self.look_at_timers(now);
        }
        if !self.turn.batch.is_empty() {
            self.last = self.setup.log.append(std::mem::take(&mut self.turn.batch))?;
        }
        for (owner, mail) in self.turn.mails.drain(..) {
            self.setup.mailboxes.owner(owner, mail);
        }
        for action in self.turn.actions.drain(..) {
            self.outbox.push(self.last, action);
        }
        while let Some(action) = self.outbox.pop(self.durable) {
            perform(action);
        }
        Ok(())
    }

    /// Whether everything of a clean stop is durable and out.
    pub fn stopped(&self) -> bool {
        self.run == Run::Stopping && self.outbox.is_empty() && self.durable >= self.last
    }

    fn take(&mut self, mail: ControlMail) {
        if self.run == Run::Stopping {
            return self.take_while_stopping(mail);
        }
        match mail {
            ControlMail::SessionUp { node, session: _ } => self.event(HubHappening::PeerConnected { node }),
            ControlMail::SessionDown { node, session: _ } => {
                self.event(HubHappening::PeerDisconnected { node })
            }
            ControlMail::Relay { session, node, relay, credit } => {
                self.relay(session, node, relay);
                drop(credit);
            }
            ControlMail::Inbound { session, node, request, credit } => {
                self.inbound(session, node, request);
                drop(credit);
            }
            ControlMail::Funds { session, node, request, spendable } => {
                self.funded(session, node, &request, spendable);
            }
            ControlMail::Opened { node, request, result } => self.opened(node, request, result),
            ControlMail::Finished { owner, channel } => self.finished(owner, channel),
            ControlMail::Remember { request, body, reply } => {
                match self.registry.check_call(request, body, self.turn.now_ms) {
                    Ok((what, input)) => {
                        if let Some(input) = input {
                            self.journal(input);
                        }
                        self.turn.actions.push(Action::Remembered { reply, what });
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            ControlMail::Earned { next_event, total_msat } => {
                self.journal(Input::Earned { next_event, total_msat });
            }
            ControlMail::Event(happening) => self.event(happening),
            ControlMail::Durable(position) => self.durable = self.durable.max(position),
            ControlMail::SnapshotNow => self.snapshot(),
            ControlMail::Started => self.started(),
            ControlMail::Stop => {
                self.snapshot();
                self.run = Run::Stopping;
            }
        }
    }

    fn take_while_stopping(&mut self, mail: ControlMail) {
        match mail {
            ControlMail::Durable(position) => self.durable = self.durable.max(position),
            ControlMail::Remember { reply, .. } => {
                let _ = reply.send(Err(RememberError::Stopping));
            }
            ControlMail::SessionUp { .. }
            | ControlMail::SessionDown { .. }
            | ControlMail::Relay { .. }
            | ControlMail::Inbound { .. }
            | ControlMail::Funds { .. }
            | ControlMail::Opened { .. }
            | ControlMail::Finished { .. }
            | ControlMail::Earned { .. }
            | ControlMail::Event(_)
            | ControlMail::SnapshotNow
            | ControlMail::Started
            | ControlMail::Stop => {}
        }
    }

    /// Applies an input and puts it into the turn's batch.
    pub(super) fn journal(&mut self, input: Input) {
        self.registry.apply(&input);
        self.machine.record(&mut self.turn.batch, |out| input.encode(out));
    }

    pub(super) fn event(&mut self, what: HubHappening) {
        self.turn.batch.events.push(HubEvent { time_ms: self.turn.now_ms, what }.encode());
    }

    /// Tells a wallet, once everything of this turn is durable.
    pub(super) fn tell(&mut self, to: Option<Outgoing>, what: ToWallet) {
        if let Some(to) = to {
            self.turn.actions.push(Action::Tell { to, what });
        }
    }

    /// Mails a channel's shard once this turn's batch is appended.
    pub(super) fn after_append(&mut self, owner: OwnerId, mail: Mail) {
        self.turn.mails.push((owner, mail));
    }

    fn snapshot(&mut self) {
        let payload = self.registry.encode();
        let hash = sha256::Hash::hash(&payload).to_byte_array();
        // A later snapshot in the same batch holds the later state, so an earlier one is of no use.
        self.turn.batch.snapshots.clear();
        self.turn.batch.snapshots.push(self.machine.snapshot(payload, hash));
    }

    fn look_at_timers(&mut self, now: Instant) {
        if now >= self.headroom_at {
            self.headroom_at = now + HEADROOM_INTERVAL;
            self.look_at_disk();
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            if let Some(forget) = self.registry.check_forget(self.turn.now_ms) {
                self.journal(forget);
            }
            self.end_idle_streams();
        }
    }

    /// New work is refused by name before a write fails.
    fn look_at_disk(&mut self) {
        match self.setup.room.check() {
            Ok(free) => {
                if self.setup.gate.set_shut(false) {
                    warn!(free, "the disk has room again: new work is accepted");
                }
            }
            Err(why) => {
                if self.setup.gate.set_shut(true) {
                    error!(%why, "the disk is nearly full: new channels, streams and payments are refused");
                }
            }
        }
    }
}

fn perform(action: Action) {
    match action {
        Action::Tell { to, what } => to.send(what),
        Action::Remembered { reply, what } => {
            // A caller that left learns the same by repeating its call.
            let _ = reply.send(Ok(what));
        }
    }
}

fn recover_registry(recovery: &Recovery) -> Result<(Registry, MachineLog), Faulted> {
    let mut registry = Registry::default();
    let mut machine = MachineLog::new(MACHINE);
    for snapshot in recovery.snapshots()? {
        let Snapshot { machine: of, sequence, content } = snapshot?;
        if of == MACHINE
            && let Content::State { payload, .. } = content
        {
            registry = Registry::decode(&payload)?;
            machine = MachineLog::at(MACHINE, sequence);
        }
    }
    let mut records = recovery.records()?;
    while let Some(record) = records.next()? {
        if record.machine == MACHINE {
            machine.replay(&record)?;
            registry.apply(&registry::Input::decode(record.payload)?);
        }
    }
    Ok((registry, machine))
}

#[cfg(test)]
mod tests;

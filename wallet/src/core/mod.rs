//! The one thread that owns the wallet's state: the shard with the channels, and the ledger.
//!
//! ```text
//!  calls, frames, blocks ─▶ inbox ─▶ ledger ─┬─ batch ─▶ log ─▶ (fsync, elsewhere) ─▶ Durable ─▶ replies, relays
//!                                    shard  ─┘
//! ```
//!
//! Invariants: a batch is in the log before what it causes reaches another owner; answers, relays and notices wait until what
//! they rest on is durable; after a fault nothing more leaves and the process ends.

mod answers;
pub mod assemble;
mod desk_host;
mod gate;
pub mod handle;
mod outlet;
pub mod start;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use channel::amount::Msat;
use channel::bug::{self, Bug};
use channel::channel::GivenUp;
use channel::event::{AcceptRequest, Command, RecoverRequest, Role};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::Message;
use daemon::world::World;
use journal::{Batch, Log, MachineId, Position, Reader};
use proto::frame::{Contents, FrameBuilder};
use proto::hub::v1 as pb;
use shard::{Credit, Mail, Outbox, Shard};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::ledger::apply::Done;
use crate::ledger::state::Ended;
use crate::ledger::{self, Env, Ledger, Prices, Settings};
use gate::Gated;
pub use handle::{CoreHandle, Stopped};
use outlet::WalletOutlet;

/// What comes into the core.
pub enum CoreMail {
    /// Runs on the core's thread.
    Call(Box<dyn FnOnce(&mut Core) + Send>),
    /// Commands of the desk; `done` once their inputs are in the log.
    Deliver {
        commands: Vec<(OwnerId, Command)>,
        done: oneshot::Sender<()>,
    },
    /// What a frame held.
    Frame {
        session: SessionId,
        contents: Box<Contents>,
        permit: Arc<OwnedSemaphorePermit>,
    },
    Durable(Position),
    /// The journal wants these machines' snapshots.
    Snapshots(Vec<MachineId>),
    /// A clean stop: snapshots of everything, then the log is closed.
    Stop,
}

impl std::fmt::Debug for CoreMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CoreMail(..)")
    }
}

/// The connection that is current.
pub struct Session {
    pub id: SessionId,
    pub frames: mpsc::Sender<pb::Frame>,
    /// The connection ends when this is dropped.
    pub hold: oneshot::Sender<()>,
}

/// See the module's page.
pub struct Core {
    pub(crate) shard: Shard,
    pub(crate) ledger: Ledger,
    pub(crate) outlet: WalletOutlet,
    log: Log,
    /// Of the same journal: which channels ended.
    reader: Reader,
    inbox: Receiver<CoreMail>,
    mail: VecDeque<Mail>,
    /// Answered at the end of the round, once what they rest on is durable.
    replies: Vec<Box<dyn FnOnce() + Send>>,
    delivered: Vec<oneshot::Sender<()>>,
    gate: Outbox<Gated>,
    durable: Position,
    /// The latest batch of the ledger.
    last: Position,
    settings: Settings,
    hub: Point,
    /// As told at the last connection, of this process or an earlier one.
    prices: Option<Prices>,
    height: u32,
    /// The chain was followed to its tip, so everything goes on.
    resumed: bool,
    /// The shard is to be resumed in this round.
    wants_resume: bool,
    owners: Owners,
    payments: BTreeMap<u64, Vec<oneshot::Sender<Ended>>>,
    inbound: BTreeMap<[u8; 16], oneshot::Sender<Result<ChannelId, pb::ErrorDetail>>>,
    /// Channels that the hub was asked for over this connection and has not proposed yet.
    agreed: BTreeMap<ChannelId, Agreed>,
    snapshot_wanted: bool,
    pruned_ms: u64,
    began: Instant,
    world: World,
    stopping: bool,
}

/// What this wallet agrees to when the hub proposes a channel that it was asked for. It holds for the connection over which
/// the hub was asked, because the opening does, and for one proposal: then the channel itself knows its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub capacity_sat: u64,
    pub max_price_msat: Msat,
}

/// Bits of a channel's number that count within one start: 16 million, more than a hub that proposes channels without end
/// gets through in days of refusals.
const OWNER_BITS: u32 = 24;

/// Numbers of new channels, never used before (the epoch is durable and rises with each start).
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    pub epoch: u64,
    pub next: u64,
}

impl Owners {
    /// None when this process has used all of its numbers: the next start gets new ones.
    fn take(&mut self) -> Option<OwnerId> {
        if self.next >> OWNER_BITS != 0 {
            return None;
        }
        let owner = OwnerId((self.epoch << OWNER_BITS) | self.next);
        self.next += 1;
        Some(owner)
    }
}

/// Why the core ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CoreFault {
    #[error(transparent)]
    Shard(#[from] shard::Fault),
    #[error("the journal takes nothing more")]
    Journal(#[from] journal::Closed),
}

/// Mails taken before a round, so that rounds stay short.
const MAILS_A_ROUND: usize = 4_096;
/// Without anything to do the core looks around this often.
const IDLE: Duration = Duration::from_millis(500);
/// How often old things are forgotten, in milliseconds.
const PRUNE_INTERVAL_MS: u64 = 60_000;

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// Mail was taken; more may wait.
    Worked,
    /// There was no mail.
    Idle,
    /// It was asked to stop and did: its last snapshot is in the log, which is closed. No turn comes after it.
    Stopped,
}

impl Core {
    /// Runs until it is stopped or a fault.
    pub fn run(mut self) -> Result<(), CoreFault> {
        self.begin()?;
        loop {
            match self.inbox.recv_timeout(self.wait()) {
                Ok(mail) => self.take(mail),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.turn()? == Turned::Stopped {
                return Ok(());
            }
        }
    }

    /// The first steps, once and before any turn: what the channels need of the others is asked for.
    pub fn begin(&mut self) -> Result<(), CoreFault> {
        self.shard.start(self.world.now_ms(), &mut self.outlet)?;
        self.round()
    }

    /// Takes the mail that waits, a round's worth at most, and acts on it. Does not wait for mail, but for the journal if
    /// too much of what was appended is not committed yet.
    pub fn turn(&mut self) -> Result<Turned, CoreFault> {
        let mut turned = Turned::Idle;
        for _ in 0..MAILS_A_ROUND {
            let Ok(mail) = self.inbox.try_recv() else { break };
            self.take(mail);
            turned = Turned::Worked;
        }
        self.round()?;
        if self.stopping && self.shard.stopped() {
            self.finish()?;
            return Ok(Turned::Stopped);
        }
        Ok(turned)
    }

    /// How long the next turn may be put off while no mail comes.
    pub fn wait(&self) -> Duration {
        let now = self.world.now_ms();
        match self.ledger.next_due_ms(now) {
            Some(due) if self.resumed => Duration::from_millis(due.saturating_sub(now)).min(IDLE),
            Some(_) | None => IDLE,
        }
    }

    fn take(&mut self, mail: CoreMail) {
        match mail {
            CoreMail::Call(call) => call(self),
            CoreMail::Deliver { commands, done } => {
                let mails = commands.into_iter().map(|(owner, command)| {
                    let reply = self.outlet.forgets_the_unknown(owner);
                    Mail::Command { owner, command, reply }
                });
                self.mail.extend(mails);
                self.delivered.push(done);
            }
            CoreMail::Frame { session, contents, permit } => self.take_frame(session, *contents, &permit),
            CoreMail::Durable(position) => {
                self.durable = self.durable.max(position);
                self.mail.push_back(Mail::Durable(position));
            }
            CoreMail::Snapshots(machines) => {
                for machine in machines {
                    match machine {
                        ledger::MACHINE => self.snapshot_wanted = true,
                        assemble::DESK => self.outlet.snapshot_desk(),
                        MachineId(channel) => self.mail.push_back(Mail::SnapshotNow(OwnerId(channel))),
                    }
                }
            }
            CoreMail::Stop => {
                self.stopping = true;
                self.mail.push_back(Mail::Stop);
            }
        }
    }

    /// Ledger and shard in turns, until nobody has anything for the other.
    fn round(&mut self) -> Result<(), CoreFault> {
        let now = self.world.now_ms();
        if self.resumed && !self.stopping {
            self.with_ledger(|ledger, env| {
                ledger.drive(env);
                ledger.review_waiting(env);
            });
            if now >= self.pruned_ms + PRUNE_INTERVAL_MS {
                self.pruned_ms = now;
                self.ledger.prune(now);
            }
        }
        if std::mem::take(&mut self.wants_resume) {
            self.close_ledger()?;
            self.shard.resume(now, &mut self.outlet)?;
        }
        let mut replies = std::mem::take(&mut self.replies);
        loop {
            self.close_ledger()?;
            let again = self.shard_turn()?;
            let messages = std::mem::take(&mut self.outlet.to_ledger);
            let ended = std::mem::take(&mut self.outlet.ended);
            let quiet = messages.is_empty() && ended.is_empty();
            for message in messages {
                self.with_ledger(|ledger, env| ledger.internal(message, env));
            }
            for owner in ended {
                self.with_ledger(|ledger, env| ledger.channel_ended(owner, env));
            }
            self.mail
                .extend(self.outlet.to_shard.drain(..).map(|(to, message)| Mail::Internal { to, message }));
            if quiet && !again && self.mail.is_empty() {
                break;
            }
        }
        for reply in replies.drain(..) {
            self.gate.push(self.last, Gated::Run(reply));
        }
        for done in self.delivered.drain(..) {
            let _ = done.send(());
        }
        self.release();
        Ok(())
    }

    fn shard_turn(&mut self) -> Result<bool, CoreFault> {
        let mut mail = std::mem::take(&mut self.mail);
        let began = Instant::now();
        let now = self.world.now_ms();
        let turned = self.shard.turn(now, &mut std::iter::from_fn(|| mail.pop_front()), &mut self.outlet)?;
        self.shard.note_busy(began.elapsed());
        self.mail = mail;
        Ok(turned.again)
    }

    /// How long a paid stream's ticks took.
    pub fn tick_times(&self, id: &channel::ids::StreamId) -> Option<Vec<u64>> {
        self.ledger.tick_times(id).map(<[u64]>::to_vec)
    }

    /// What the ledger knows.
    pub fn ledger_state(&self) -> &crate::ledger::state::State {
        self.ledger.state()
    }

    /// For an audit: the HTLCs that went out, are overdue, and failed for whoever pays, while they may still be taken.
    pub fn given_up(&self) -> impl Iterator<Item = GivenUp> + '_ {
        self.shard.given_up()
    }

    /// For an audit: what was paid so far of the prices of channels that the hub funded.
    pub fn prices_paid(&self) -> impl Iterator<Item = (ChannelId, Msat)> + '_ {
        self.shard.prices_paid()
    }

    /// The hub's policy as it was told last.
    pub fn hub_policy(&self) -> Option<pb::HubPolicy> {
        self.ledger.policy(&self.hub)
    }

    /// The ledger with all that it may look at.
    pub(crate) fn with_ledger<T>(&mut self, act: impl FnOnce(&mut Ledger, &Env<'_>) -> T) -> T {
        let env = Env {
            now_ms: self.world.now_ms(),
            now_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            height: self.height,
            settings: &self.settings,
            hub: self.hub,
            prices: self.prices,
            directory: &self.outlet.directory,
        };
        act(&mut self.ledger, &env)
    }

    /// Appends what the ledger did; then its messages may go to channels, and the rest waits for the disk.
    fn close_ledger(&mut self) -> Result<(), CoreFault> {
        let mut out = self.ledger.close();
        if self.snapshot_wanted {
            self.snapshot_wanted = false;
            out.batch.snapshots.push(self.ledger.snapshot());
        }
        if !out.batch.is_empty() {
            self.last = self.log.append(out.batch)?;
        }
        self.mail.extend(out.internals.into_iter().map(|(to, message)| Mail::Internal { to, message }));
        let relays = out.relays.into_iter().map(Gated::Relay);
        let done = out.done.into_iter().filter_map(|done| match done {
            Done::Payment(ended) if ended.sent => Some(Gated::Paid(ended)),
            Done::Payment(_) | Done::Stream(_) => None,
        });
        for gated in relays.chain(done) {
            self.gate.push(self.last, gated);
        }
        Ok(())
    }

    /// Hands out what is durable.
    fn release(&mut self) {
        let durable = if bug::is(Bug::AnswersBeforeFsync) { self.last } else { self.durable };
        while let Some(gated) = self.gate.pop(durable) {
            match gated {
                Gated::Relay(relay) => self.outlet.frames.relay(&relay),
                Gated::Run(run) => run(),
                Gated::Paid(ended) => {
                    for waiting in self.payments.remove(&ended.number).unwrap_or_default() {
                        let _ = waiting.send(ended.as_ref().clone());
                    }
                }
            }
        }
        self.outlet.send_frames();
    }

    fn take_frame(&mut self, session: SessionId, contents: Contents, permit: &Arc<OwnedSemaphorePermit>) {
        if self.outlet.session.as_ref().is_none_or(|current| current.id != session) {
            return;
        }
        for (channel, messages) in contents.channels {
            // Shared by all mails of the frame: given back when the last was handled.
            let credit = Credit::new(Arc::clone(permit));
            self.take_messages(session, channel, messages, credit);
        }
        for relay in contents.relays {
            self.with_ledger(|ledger, env| ledger.relayed(relay, env));
        }
        for reply in contents.inbound_replies {
            if let Some(waiting) = self.inbound.remove(&reply.request_id) {
                let _ = waiting.send(reply.result);
            }
        }
        if let Some(nonce) = contents.ping {
            self.outlet.frames.pong(nonce);
        }
    }

    /// Messages of one channel. An unknown channel's first message must open it.
    fn take_messages(
        &mut self,
        session: SessionId,
        channel: ChannelId,
        mut messages: Vec<Message>,
        credit: Credit,
    ) {
        let node = self.hub;
        for message in &messages {
            // The channel keeps what it means for it; why the hub did it, only the hub can say.
            if let Message::ChannelError { text, .. } = message {
                tracing::warn!(%channel, ?text, "the hub refused or gave up a channel");
            }
        }
        let known = self.outlet.directory.owner_of(&channel).is_some();
        if !known && self.recovers(session, channel, &messages) {
            return;
        }
        let opens = !known && matches!(messages.first(), Some(Message::OpenChannel(_)));
        if opens && let Message::OpenChannel(message) = messages.remove(0) {
            let max_price_msat = self.take_agreement(&channel, message.capacity_sat);
            let Some(owner) = self.owners.take() else {
                tracing::warn!(%channel, "the hub has proposed more channels than this process can number");
                return;
            };
            let request = AcceptRequest {
                owner,
                channel_id: channel,
                role: Role::Wallet,
                counterparty_node: node,
                key_id: channel::bytes::KeyId::from_bytes(self.world.random()),
                reserve_script: bitcoin::ScriptBuf::new(),
                max_price_msat,
                session,
            };
            if messages.is_empty() {
                return self.outlet.accept_opening(request, message, credit);
            }
            self.outlet.accept_opening(request, message, Credit::none());
        }
        self.mail.push_back(Mail::Peer { session, node, channel, messages, credit });
    }

    /// The most that this wallet pays for a channel of this capacity: nothing unless it asked for just that.
    fn take_agreement(&mut self, channel: &ChannelId, capacity_sat: u64) -> Msat {
        let agreed = self.agreed.remove(channel).filter(|agreed| agreed.capacity_sat == capacity_sat);
        agreed.map_or(Msat::ZERO, |agreed| agreed.max_price_msat)
    }

    /// The hub knows a channel that this wallet does not, and kept what the wallet sealed for itself: its data was lost. The
    /// channel is made again, never to be used, only to be closed by the hub. One that ended here is no such channel.
    fn recovers(&mut self, session: SessionId, channel: ChannelId, messages: &[Message]) -> bool {
        let Some(Message::Reestablish(theirs)) = messages.first() else { return false };
        let Some(essentials) = theirs.essentials.as_ref().filter(|kept| !kept.sealed.is_empty()) else {
            return false;
        };
        match self.reader.get(crate::history::CLOSED, &channel.0) {
            Ok(None) => {}
            Ok(Some(_)) => return false,
            Err(error) => {
                tracing::error!(%channel, %error, "the history of channels cannot be read");
                return false;
            }
        }
        let Some(owner) = self.owners.take() else {
            tracing::warn!(%channel, "the hub has named more channels than this process can number");
            return false;
        };
        let request = RecoverRequest {
            owner,
            channel_id: channel,
            role: Role::Wallet,
            counterparty_node: self.hub,
            session,
        };
        self.mail.push_back(Mail::Recover { request, essentials: Box::new(essentials.clone()) });
        true
    }

    /// Everything stopped: the last snapshot, and the log is closed behind it.
    fn finish(&mut self) -> Result<(), CoreFault> {
        let batch = Batch { snapshots: vec![self.ledger.snapshot()], ..Batch::default() };
        self.log.append(batch)?;
        self.log.close();
        Ok(())
    }
}

/// Frames that wait for [`WalletOutlet::send_frames`].
pub(crate) type Frames = FrameBuilder;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_start_never_reach_into_those_of_another() {
        let last = (1 << OWNER_BITS) - 1;
        let mut owners = Owners { epoch: 2, next: last };
        assert_eq!(owners.take(), Some(OwnerId((2 << OWNER_BITS) | last)));
        assert_eq!(owners.take(), None);
        assert_eq!(owners.take(), None);
    }
}

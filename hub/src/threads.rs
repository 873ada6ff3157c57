//! The threads: one a shard, one for the journal, one for the control. Each tells how it ended, a panic included.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use channel::ids::OwnerId;
use crossbeam_channel::{Receiver, Select, TryRecvError};
use journal::{Commit, Committer, Position};
use shard::{Mail, Outlet, Shard};
use tokio::sync::{mpsc, watch};

use crate::control::{Control, ControlMail, DESK_MACHINE, MACHINE};
use crate::mailboxes::Mailboxes;
use crate::placement::Placement;
use crate::session::now_ms;

/// How often a shard tells its load.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// A thread that ended.
#[derive(Debug)]
pub struct Ended {
    pub who: Who,
    /// Why, if it was not asked to.
    pub fault: Option<String>,
    /// The journal's rows left in the log, from its thread.
    pub rows_left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Shard(usize),
    Control,
    Journal,
    Desk,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Shard(index) => write!(f, "shard {index}"),
            Who::Control => f.write_str("the control thread"),
            Who::Journal => f.write_str("the journal"),
            Who::Desk => f.write_str("the settlement desk"),
        }
    }
}

/// How long the journal's own end is waited for after another part's: it ends in the same moment.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked for.
const CAUSE_POLL: Duration = Duration::from_millis(5);

/// The journal's fault, if that is what ended the others: they only see that it takes nothing more. Blocks for a moment, which
/// nobody minds: nothing leaves a process whose journal has failed.
pub fn journal_fault(ends: &mut mpsc::UnboundedReceiver<Ended>) -> Option<Ended> {
    let deadline = Instant::now() + CAUSE_PATIENCE;
    loop {
        match ends.try_recv() {
            Ok(ended) if ended.who == Who::Journal && ended.fault.is_some() => return Some(ended),
            Ok(_) => {}
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() >= deadline => return None,
            Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(CAUSE_POLL),
        }
    }
}

/// Tells an end even when its thread panics.
pub struct EndTeller {
    pub who: Who,
    pub ends: mpsc::UnboundedSender<Ended>,
    pub told: bool,
}

impl EndTeller {
    pub fn new(who: Who, ends: mpsc::UnboundedSender<Ended>) -> Self {
        EndTeller { who, ends, told: false }
    }

    pub fn tell(mut self, fault: Option<String>, rows_left: Option<u64>) {
        self.told = true;
        let _ = self.ends.send(Ended { who: self.who, fault, rows_left });
    }
}

impl Drop for EndTeller {
    fn drop(&mut self) {
        if !self.told {
            let fault = Some("it panicked; the log has the place".to_owned());
            let _ = self.ends.send(Ended { who: self.who, fault, rows_left: None });
        }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

/// Starts a shard's thread. It turns at once; forwards are resumed when `resume` says so.
pub fn spawn_shard(
    index: usize,
    shard: Shard,
    mailbox: Receiver<Mail>,
    resume: Receiver<()>,
    outlet: impl Outlet + Send + 'static,
    placement: Arc<Placement>,
    ends: mpsc::UnboundedSender<Ended>,
) -> std::io::Result<JoinHandle<()>> {
    spawn(format!("shard-{index}"), move || {
        let end = EndTeller::new(Who::Shard(index), ends);
        let mut thread =
            ShardThread { index, shard, outlet, placement, told_at: Instant::now(), busy: Duration::ZERO };
        let result = thread.run(&mailbox, &resume);
        end.tell(result.err().map(|fault| fault.to_string()), None);
    })
}

struct ShardThread<O> {
    index: usize,
    shard: Shard,
    outlet: O,
    placement: Arc<Placement>,
    told_at: Instant,
    busy: Duration,
}

impl<O: Outlet> ShardThread<O> {
    fn run(&mut self, mailbox: &Receiver<Mail>, resume: &Receiver<()>) -> Result<(), shard::Fault> {
        self.until_resumed(mailbox, resume)?;
        let mut again = true;
        while !self.shard.stopped() {
            let first = if again {
                None
            } else {
                match mailbox.recv() {
                    Ok(mail) => Some(mail),
                    // Everybody who could send is gone: the process is on its way out.
                    Err(_) => return Ok(()),
                }
            };
            again = self.turn(first, mailbox)?;
        }
        Ok(())
    }

    /// Turns until the chain was followed to its tip, then sends every unresolved forward again.
    fn until_resumed(&mut self, mailbox: &Receiver<Mail>, resume: &Receiver<()>) -> Result<(), shard::Fault> {
        let mut select = Select::new();
        let resumed = select.recv(resume);
        select.recv(mailbox);
        loop {
            let ready = select.ready();
            if ready == resumed {
                match resume.try_recv() {
                    Ok(()) => {
                        self.shard.resume(now_ms(), &mut self.outlet)?;
                        return Ok(());
                    }
                    Err(TryRecvError::Empty) => continue,
                    // The start was given up.
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            while self.turn(None, mailbox)? {}
            if self.shard.stopped() {
                return Ok(());
            }
        }
    }

    /// One turn over everything that waits; true when another should follow at once.
    fn turn(&mut self, first: Option<Mail>, mailbox: &Receiver<Mail>) -> Result<bool, shard::Fault> {
        let start = Instant::now();
        let mut mails = first.into_iter().chain(std::iter::from_fn(|| mailbox.try_recv().ok()));
        let turned = self.shard.turn(now_ms(), &mut mails, &mut self.outlet)?;
        let end = Instant::now();
        let busy = end - start;
        self.shard.note_busy(busy);
        self.busy += busy;
        self.tell_load(end);
        Ok(turned.again)
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

/// Starts the control thread.
pub fn spawn_control(
    control: Control,
    mailbox: Receiver<ControlMail>,
    ends: mpsc::UnboundedSender<Ended>,
) -> std::io::Result<JoinHandle<()>> {
    spawn("control".to_owned(), move || {
        let end = EndTeller::new(Who::Control, ends);
        let result = control.run(&mailbox);
        end.tell(result.err().map(|fault| fault.to_string()), None);
    })
}

/// Who hears of commits.
pub struct CommitNews {
    pub mailboxes: Mailboxes,
    pub durable: watch::Sender<Position>,
    /// Rises with each event: the index of the next.
    pub next_event: watch::Sender<u64>,
    /// Told when the desk's snapshot is wanted.
    pub desk_snapshot: mpsc::UnboundedSender<()>,
}

impl CommitNews {
    fn tell(&self, commit: &Commit) {
        self.mailboxes.every_shard(|| Mail::Durable(commit.durable));
        self.mailboxes.control(ControlMail::Durable(commit.durable));
        self.durable.send_replace(commit.durable);
        if let Some(events) = commit.events {
            self.next_event.send_replace(events.last + 1);
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

/// Starts the journal's thread: group commit until the log is closed.
pub fn spawn_journal(
    committer: Committer,
    news: CommitNews,
    ends: mpsc::UnboundedSender<Ended>,
) -> std::io::Result<JoinHandle<()>> {
    spawn("journal".to_owned(), move || {
        let end = EndTeller::new(Who::Journal, ends);
        match committer.run(|commit| news.tell(commit)) {
            Ok(finished) => end.tell(None, Some(finished.log_rows)),
            Err(fault) => end.tell(Some(fault.to_string()), None),
        }
    })
}

//! The threads: one a shard, one for the journal, one for the control. Each tells how it ended, a panic included.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use journal::Committer;
use shard::{Mail, Outlet};
use tokio::sync::mpsc;

use crate::control::{Control, ControlMail};
use crate::machines::{CommitNews, ShardMachine};

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
    machine: ShardMachine<impl Outlet + Send + 'static>,
    mailbox: Receiver<Mail>,
    resume: Receiver<()>,
    ends: mpsc::UnboundedSender<Ended>,
) -> std::io::Result<JoinHandle<()>> {
    spawn(format!("shard-{index}"), move || {
        let end = EndTeller::new(Who::Shard(index), ends);
        let result = run_shard(machine, &mailbox, &resume);
        end.tell(result.err().map(|fault| fault.to_string()), None);
    })
}

fn run_shard(
    mut machine: ShardMachine<impl Outlet>,
    mailbox: &Receiver<Mail>,
    resume: &Receiver<()>,
) -> Result<(), shard::Fault> {
    turn_until_resumed(&mut machine, mailbox, resume)?;
    let mut again = true;
    while !machine.stopped() {
        let first = if again {
            None
        } else {
            match mailbox.recv() {
                Ok(mail) => Some(mail),
                // Everybody who could send is gone: the process is on its way out.
                Err(_) => return Ok(()),
            }
        };
        again = machine.turn(first, mailbox)?;
    }
    Ok(())
}

/// Turns until the chain was followed to its tip, then sends every unresolved forward again.
fn turn_until_resumed(
    machine: &mut ShardMachine<impl Outlet>,
    mailbox: &Receiver<Mail>,
    resume: &Receiver<()>,
) -> Result<(), shard::Fault> {
    let mut select = Select::new();
    let resumed = select.recv(resume);
    select.recv(mailbox);
    loop {
        let ready = select.ready();
        if ready == resumed {
            match resume.try_recv() {
                Ok(()) => return machine.resume(),
                Err(TryRecvError::Empty) => continue,
                // The start was given up.
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        while machine.turn(None, mailbox)? {}
        if machine.stopped() {
            return Ok(());
        }
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

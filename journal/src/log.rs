//! The queue between those who append and the one who commits. The order of appends is the order of the log,
//! so what was caused by an appended batch, and is appended after it, lies behind it in the file too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::batch::{Batch, Position};
use crate::error::{Closed, TryAppendError};
use crate::stats::{Counters, Stats};

/// Appends batches. Cheap to clone; every clone appends to the same log.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when something is queued or the log is closed: the committer waits for it.
    work: Condvar,
    /// Signalled when the queue was taken: blocked appends wait for it.
    space: Condvar,
    /// Signalled when a commit ended: [`Log::wait_durable`] waits for it.
    committed: Condvar,
    durable: AtomicU64,
    queue_bytes: usize,
    pub counters: Arc<Counters>,
}

#[derive(Debug)]
struct Queue {
    batches: Vec<Batch>,
    bytes: usize,
    last: Position,
    gate: Gate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// Takes nothing more; what is queued will still be committed.
    Closed,
    /// Nothing will be committed any more.
    Stopped,
}

/// Why [`Committer::wait`](crate::Committer::wait) returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something is queued.
    Work,
    /// Nothing is queued and the log is closed.
    Closed,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Log { shared }
    }

    /// Queues a batch behind all appended before and returns its position, without waiting for the disk. While
    /// the queue holds [`Options::queue_bytes`](crate::Options::queue_bytes) or more, it blocks until the committer
    /// takes it: whoever drives the committer must therefore not call this, but [`try_append`](Log::try_append).
    pub fn append(&self, batch: Batch) -> Result<Position, Closed> {
        let bytes = batch.queued_bytes();
        let mut queue = self.shared.lock();
        while queue.gate == Gate::Open && queue.bytes >= self.shared.queue_bytes {
            queue = self.shared.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.gate != Gate::Open {
            return Err(Closed);
        }
        Ok(self.shared.push(&mut queue, batch, bytes))
    }

    /// Like [`append`](Log::append), but gives the batch back instead of blocking.
    pub fn try_append(&self, batch: Batch) -> Result<Position, TryAppendError> {
        let bytes = batch.queued_bytes();
        let mut queue = self.shared.lock();
        if queue.gate != Gate::Open {
            return Err(TryAppendError::Closed(batch));
        }
        if queue.bytes >= self.shared.queue_bytes {
            return Err(TryAppendError::Full(batch));
        }
        Ok(self.shared.push(&mut queue, batch, bytes))
    }

    /// The position up to which every batch is on the disk.
    pub fn durable(&self) -> Position {
        self.shared.durable()
    }

    /// Blocks until `position` is durable; `Closed` when it never will be. For those who own a thread.
    pub fn wait_durable(&self, position: Position) -> Result<(), Closed> {
        let mut queue = self.shared.lock();
        loop {
            if self.durable() >= position {
                return Ok(());
            }
            if queue.gate == Gate::Stopped || queue.last < position {
                return Err(Closed);
            }
            queue = self.shared.committed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more. What is queued is still committed; then [`Committer::run`](crate::Committer::run) ends.
    pub fn close(&self) {
        self.shared.close();
    }

    /// What the journal did since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }
}

impl Shared {
    pub fn new(queue_bytes: usize, counters: Arc<Counters>) -> Self {
        Shared {
            queue: Mutex::new(Queue {
                batches: Vec::new(),
                bytes: 0,
                last: Position::default(),
                gate: Gate::Open,
            }),
            work: Condvar::new(),
            space: Condvar::new(),
            committed: Condvar::new(),
            durable: AtomicU64::new(0),
            queue_bytes,
            counters,
        }
    }

    /// A panic while the lock is held leaves the queue whole: every change under it is a single push or swap.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &mut Queue, batch: Batch, bytes: usize) -> Position {
        if queue.batches.is_empty() {
            self.work.notify_one();
        }
        queue.batches.push(batch);
        queue.bytes += bytes;
        queue.last.0 += 1;
        queue.last
    }

    pub fn durable(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    /// Swaps what is queued into `into`, which must be empty and lends its memory to the queue. The position of the last batch,
    /// `None` when nothing is queued.
    pub fn take(&self, into: &mut Vec<Batch>) -> Option<Position> {
        let mut queue = self.lock();
        if queue.batches.is_empty() {
            return None;
        }
        std::mem::swap(&mut queue.batches, into);
        queue.bytes = 0;
        self.space.notify_all();
        Some(queue.last)
    }

    pub fn wait(&self) -> Wake {
        let mut queue = self.lock();
        loop {
            if !queue.batches.is_empty() {
                return Wake::Work;
            }
            if queue.gate != Gate::Open {
                return Wake::Closed;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Publishes a finished commit. Taken under the lock, so that no waiter misses it.
    pub fn set_durable(&self, position: Position) {
        let _queue = self.lock();
        self.durable.store(position.0, Ordering::Release);
        self.committed.notify_all();
    }

    pub fn close(&self) {
        let mut queue = self.lock();
        if queue.gate == Gate::Open {
            queue.gate = Gate::Closed;
        }
        self.wake_all();
    }

    /// Nothing is committed any more: what is queued is dropped and everybody who waits is told.
    pub fn stop(&self) {
        let mut queue = self.lock();
        queue.gate = Gate::Stopped;
        queue.batches = Vec::new();
        queue.bytes = 0;
        self.wake_all();
    }

    fn wake_all(&self) {
        self.work.notify_all();
        self.space.notify_all();
        self.committed.notify_all();
    }
}

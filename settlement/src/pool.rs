//! Verification on all cores.
//!
//! Jobs are spread over the pool's threads by work stealing; a large batch is split by its inputs. Results come in the
//! order of the jobs and are the same as [`CloseJob::verify`]'s, the first flaw included. What may wait is bounded: a full
//! pool refuses at once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tokio::sync::oneshot;

use crate::flaw::Flaw;
use crate::limits;
use crate::verify::{CloseJob, Prepared, VerifiedClose};

/// The result of one job.
pub type Outcome = Result<VerifiedClose, Flaw>;

/// Why jobs were not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Too much waits already.
    #[error("{waiting} tickets and claims wait for verification, {more} more exceed {limit}")]
    Full {
        /// What waits.
        waiting: usize,
        /// What was to be added.
        more: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// The pool was shut down before it came to the jobs.
    #[error("the verification pool was shut down")]
    Stopped,
}

/// The pool could not start its threads.
#[derive(Debug, thiserror::Error)]
#[error("the verification pool cannot start: {0}")]
pub struct PoolStartError(#[from] rayon::ThreadPoolBuildError);

/// Threads that verify.
pub struct VerifyPool {
    workers: Workers,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

enum Workers {
    Threads(rayon::ThreadPool),
    /// Whoever calls verifies.
    Caller,
}

impl VerifyPool {
    /// A pool of `threads` threads, one a core if `None`.
    pub fn new(threads: Option<NonZeroUsize>) -> Result<Self, PoolStartError> {
        let cores = std::thread::available_parallelism().ok();
        let count = threads.or(cores).map_or(1, NonZeroUsize::get);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("verify-{index}"))
            .build()?;
        Ok(Self::of(Workers::Threads(threads)))
    }

    /// No threads: the caller verifies. For processes that have few jobs, or must have one thread.
    pub fn inline() -> Self {
        Self::of(Workers::Caller)
    }

    fn of(workers: Workers) -> Self {
        Self { workers, waiting: Arc::new(AtomicUsize::new(0)), limit: limits::VERIFY_QUEUE }
    }

    /// Verifies `jobs` and returns their results in order. It blocks, so it belongs on a thread of its own.
    pub fn verify_all(&self, jobs: Vec<CloseJob>) -> Result<Vec<Outcome>, PoolError> {
        let _place = self.enter(&jobs)?;
        Ok(match &self.workers {
            Workers::Threads(threads) => threads.install(|| verify_in_parallel(jobs)),
            Workers::Caller => verify_in_turn(jobs),
        })
    }

    /// The same for async callers. Dropping the future does not stop the work.
    pub async fn verify(&self, jobs: Vec<CloseJob>) -> Result<Vec<Outcome>, PoolError> {
        let place = self.enter(&jobs)?;
        let threads = match &self.workers {
            Workers::Threads(threads) => threads,
            Workers::Caller => return Ok(verify_in_turn(jobs)),
        };
        let (sender, receiver) = oneshot::channel();
        threads.spawn(move || {
            let results = verify_in_parallel(jobs);
            drop(place);
            // Nobody may wait for the results any more, which is no trouble of the pool's.
            let _ = sender.send(results);
        });
        receiver.await.map_err(|_| PoolError::Stopped)
    }

    fn enter(&self, jobs: &[CloseJob]) -> Result<Place, PoolError> {
        let more = jobs.iter().map(CloseJob::work).sum();
        let fits = |waiting: usize| waiting.checked_add(more).filter(|sum| *sum <= self.limit);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Place { waiting: Arc::clone(&self.waiting), taken: more }),
            Err(waiting) => Err(PoolError::Full { waiting, more, limit: self.limit }),
        }
    }
}

/// Room in the queue, given back when the jobs are done or their thread panicked.
struct Place {
    waiting: Arc<AtomicUsize>,
    taken: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

fn verify_in_parallel(jobs: Vec<CloseJob>) -> Vec<Outcome> {
    jobs.into_par_iter().with_max_len(1).map(verify_one).collect()
}

fn verify_in_turn(jobs: Vec<CloseJob>) -> Vec<Outcome> {
    jobs.into_iter().map(CloseJob::verify).collect()
}

fn verify_one(job: CloseJob) -> Outcome {
    let fees = {
        let prepared = job.prepare()?;
        match first_flaw(&prepared) {
            Some(flaw) => return Err(flaw),
            None => prepared.finish()?,
        }
    };
    Ok(job.verified(fees))
}

fn first_flaw(prepared: &Prepared<'_>) -> Option<Flaw> {
    (0..prepared.len())
        .into_par_iter()
        .with_min_len(limits::VERIFY_CHUNK)
        .filter_map(|index| prepared.check_signatures(index).err())
        .find_first(|_| true)
}

//! A process's asynchronous part: a runtime on the calling thread, whose clock stands still until it is moved.
//!
//! Nothing runs but within [`Tasks::turn`] and [`Tasks::settle`], in an order that depends only on what was done before.
//! Dropping it drops every task where it stands: a kill.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Tasks under a paused clock.
#[derive(Debug)]
pub struct Tasks {
    runtime: Runtime,
    idle: Arc<Idle>,
    /// The words of a task that panicked.
    panicked: RefCell<Option<String>>,
}

/// Told by the runtime when no task can run.
#[derive(Debug, Default)]
struct Idle {
    parked: AtomicBool,
    word: Notify,
}

impl Tasks {
    pub fn new() -> Self {
        let idle = Arc::new(Idle::default());
        let tell = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // One task's poll between two looks at the future that drives the runtime: `turn` counts them.
            .event_interval(1)
            // What a machine or the net woke goes before what woke itself: a busy task starves nobody.
            .global_queue_interval(1)
            .on_thread_park(move || {
                tell.parked.store(true, Ordering::Relaxed);
                tell.word.notify_one();
            })
            .build()
            .expect("a runtime without threads and sockets needs nothing of the system");
        super::panics::watch();
        Tasks { runtime, idle, panicked: RefCell::default() }
    }

    /// For code that must find a runtime: it spawns, or reads the runtime's clock. Machines are turned within it.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Begins a call into the process; its answer comes while tasks turn.
    pub fn call<F>(&self, call: F) -> Call<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.runtime.spawn(async move {
            // Whoever asked may have gone.
            let _ = answer.send(call.await);
        });
        Call(answered)
    }

    /// What a task's panic said, if one panicked. The runtime goes on without it, and so would a daemon.
    pub fn panicked(&self) -> Option<String> {
        self.panicked.borrow().clone()
    }

    fn drive(&self, what: impl Future<Output = ()>) {
        let before = super::panics::count();
        self.runtime.block_on(what);
        if super::panics::count() > before {
            self.panicked.replace(Some(super::panics::last()));
        }
    }

    /// Lets up to `polls` tasks have a turn each. Time stands still.
    pub fn turn(&self, polls: u32) {
        self.drive(async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Turns until every task waits for something outside, or for time. Time stands still.
    pub fn settle(&self) {
        self.drive(async {
            // The second time nothing was left that the first look at the timers woke.
            for _ in 0..2 {
                self.idle.parked.store(false, Ordering::Relaxed);
                // A word left from an earlier turn says nothing of now.
                while !self.idle.parked.load(Ordering::Relaxed) {
                    self.idle.word.notified().await;
                }
            }
        });
    }

    /// Lets time pass for this process. What waited for it is ready afterwards, and runs when tasks turn.
    pub fn advance_ms(&self, ms: u64) {
        self.drive(tokio::time::advance(Duration::from_millis(ms)));
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Call<T>(oneshot::Receiver<T>);

impl<T> Call<T> {
    /// The answer, once. `None` while there is none; `Some(Err(Lost))` when the process died first.
    pub fn answer(&mut self) -> Option<Result<T, Lost>> {
        match self.0.try_recv() {
            Ok(answer) => Some(Ok(answer)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Lost)),
        }
    }
}

/// The process died before it answered, or the answer was taken already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process died before it answered")]
pub struct Lost;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn log() -> (Arc<Mutex<Vec<&'static str>>>, impl Fn(&'static str) + Clone) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        (lines, move |line| writer.lock().unwrap().push(line))
    }

    #[test]
    fn time_moves_only_when_it_is_moved() {
        let tasks = Tasks::new();
        let (lines, write) = log();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            write("slept");
        });
        tasks.turn(1_000);
        tasks.settle();
        tasks.advance_ms(9);
        tasks.settle();
        assert!(lines.lock().unwrap().is_empty());
        tasks.advance_ms(1);
        tasks.settle();
        assert_eq!(*lines.lock().unwrap(), ["slept"]);
    }

    #[test]
    fn a_turn_polls_as_many_tasks_as_it_says_and_settling_polls_all() {
        let tasks = Tasks::new();
        let (lines, write) = log();
        for name in ["one", "two", "three"] {
            let write = write.clone();
            tasks.spawn(async move {
                write(name);
                tokio::task::yield_now().await;
                write(name);
            });
        }
        tasks.turn(2);
        assert_eq!(*lines.lock().unwrap(), ["one", "two"]);
        tasks.settle();
        assert_eq!(*lines.lock().unwrap(), ["one", "two", "three", "one", "two", "three"]);
        tasks.settle();
        tasks.turn(5);
    }

    #[test]
    fn a_call_is_answered_while_tasks_turn_or_lost_with_the_process() {
        let tasks = Tasks::new();
        let mut call = tasks.call(async { 7 });
        assert_eq!(call.answer(), None);
        tasks.settle();
        assert_eq!(call.answer(), Some(Ok(7)));
        let mut lost = tasks.call(std::future::pending::<()>());
        tasks.settle();
        drop(tasks);
        assert_eq!(lost.answer(), Some(Err(Lost)));
    }

    #[test]
    fn a_task_that_panics_is_noticed() {
        let tasks = Tasks::new();
        tasks.settle();
        assert_eq!(tasks.panicked(), None);
        tasks.spawn(async { panic!("on purpose") });
        tasks.settle();
        assert!(tasks.panicked().unwrap().contains("on purpose"));
    }

    #[test]
    fn what_wakes_a_task_from_outside_is_seen() {
        let tasks = Tasks::new();
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut call = tasks.call(async move { receiver.recv().await });
        tasks.settle();
        sender.send(1).unwrap();
        tasks.settle();
        assert_eq!(call.answer(), Some(Ok(Some(1))));
    }
}

//! What a spectator sees while the story runs: on a terminal lines that move, elsewhere one line a step.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows steps and counts on standard error.
#[derive(Debug)]
pub struct Progress {
    lines: Option<MultiProgress>,
    current: Mutex<Option<(ProgressBar, String)>>,
    quiet: bool,
    started: Instant,
}

/// A count that rises while a step runs.
#[derive(Debug)]
pub struct Counter {
    bar: ProgressBar,
    value: AtomicU64,
}

impl Progress {
    /// Shows everything.
    pub fn shown() -> Progress {
        let lines = std::io::stderr().is_terminal().then(MultiProgress::new);
        Progress { lines, current: Mutex::new(None), quiet: false, started: Instant::now() }
    }

    /// Shows nothing.
    pub fn hidden() -> Progress {
        Progress { lines: None, current: Mutex::new(None), quiet: true, started: Instant::now() }
    }

    /// Begins the next step, which ends the one before.
    pub fn step(&self, what: impl Into<String>) {
        let what = what.into();
        self.end_step();
        let seconds = self.started.elapsed().as_secs_f64();
        match &self.lines {
            Some(lines) => {
                let bar = lines.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {msg} ({elapsed})"));
                bar.set_message(what.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                *self.current() = Some((bar, what));
            }
            None if self.quiet => (),
            None => eprintln!("[{seconds:6.1} s] {what}"),
        }
    }

    /// Says something in between.
    pub fn say(&self, what: &str) {
        match &self.lines {
            // A terminal that is gone is no reason to stop.
            Some(lines) => drop(lines.println(format!("  {what}"))),
            None if self.quiet => (),
            None => eprintln!("[{:6.1} s]   {what}", self.started.elapsed().as_secs_f64()),
        }
    }

    /// A count up to `total`.
    pub fn counter(&self, what: &str, total: u64) -> Counter {
        let bar = match &self.lines {
            Some(lines) => lines.add(ProgressBar::new(total)),
            None => ProgressBar::hidden(),
        };
        bar.set_style(style("  {msg:10} {bar:40} {pos}/{len}"));
        bar.set_message(what.to_owned());
        Counter { bar, value: AtomicU64::new(0) }
    }

    /// Ends the last step.
    pub fn end_step(&self) {
        if let Some((bar, what)) = self.current().take() {
            bar.set_style(style("✓ {msg} ({elapsed})"));
            bar.finish_with_message(what);
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<(ProgressBar, String)>> {
        self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Counter {
    /// Adds to the count and shows it.
    pub fn add(&self, more: u64) {
        self.bar.set_position(self.value.fetch_add(more, Ordering::Relaxed) + more);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Leaves the line as it is now.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates here are well formed")
}

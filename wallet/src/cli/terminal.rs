//! Where a command's words go: results to standard output, progress and errors to standard error, and only on a terminal
//! anything that moves.

use std::future::Future;
use std::io::{BufRead, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::failure::{Failure, READER_GONE};

/// What takes less is not worth a line that moves.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// The streams of this process, or a test's.
pub struct Terminal<'a> {
    pub input: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Print JSON.
    pub json: bool,
    /// Somebody sits there who can be asked.
    pub asks: bool,
    /// Standard error is a terminal: progress may be drawn.
    pub draws: bool,
}

impl Terminal<'_> {
    /// One value: JSON on one line, or the text.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show(&mut self, json: Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            writeln!(self.out, "{json}")?;
        } else {
            self.out.write_all(text().as_bytes())?;
        }
        self.out.flush()?;
        Ok(())
    }

    /// The last words.
    pub fn fail(&mut self, failure: &Failure) {
        if failure.code == READER_GONE {
            return;
        }
        let text = if self.json { format!("{}\n", failure.json()) } else { failure.lines() };
        // Nobody is left to tell when standard error is closed too.
        let _ = self.err.write_all(text.as_bytes());
    }

    /// Asks until the answer is not empty; an empty one takes the default, if there is one.
    ///
    /// # Errors
    /// Input ended.
    pub fn ask(&mut self, question: &str, default: Option<&str>) -> Result<String, Failure> {
        loop {
            match default {
                Some(default) => write!(self.err, "{question} [{default}]: ")?,
                None => write!(self.err, "{question}: ")?,
            }
            self.err.flush()?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(Failure::usage("standard input ended before all was answered"));
            }
            match (line.trim(), default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) => {}
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }

    /// A line that moves while something is waited for.
    pub fn waiting(&self) -> Waiting {
        Waiting { draws: self.draws && !self.json, since: Instant::now(), bar: None }
    }

    /// A bar that fills. Its style shows the message behind the count.
    pub fn bar(&self, length: u64, unit: &str) -> ProgressBar {
        if self.json || !self.draws {
            return ProgressBar::hidden();
        }
        let style = format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{msg}}");
        let style = ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length).with_style(style)
    }
}

/// See [`Terminal::waiting`].
#[derive(Debug)]
pub struct Waiting {
    draws: bool,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Waiting {
    /// What is being waited for now. Nothing is drawn in the first moments.
    pub fn say(&mut self, text: &str) {
        if self.draws && self.bar.is_none() && self.since.elapsed() >= QUIET_FOR {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Waits for the work.
    pub async fn until<T>(&mut self, text: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(QUIET_FOR) => self.say(text),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs with the streams of this process.
pub fn with_process<T>(json: bool, run: impl FnOnce(&mut Terminal<'_>) -> T) -> T {
    let asks = std::io::stdin().is_terminal();
    let draws = std::io::stderr().is_terminal();
    run(&mut Terminal {
        input: &mut std::io::stdin().lock(),
        out: &mut std::io::stdout().lock(),
        err: &mut std::io::stderr(),
        json,
        asks,
        draws,
    })
}

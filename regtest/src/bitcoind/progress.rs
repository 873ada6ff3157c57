//! Progress of a long build on standard error: a bar in a terminal, a line every ten percent elsewhere.
//!
//! It writes to standard error itself rather than by `eprint!`, which the test harness holds back: whoever waits for a
//! first `cargo test` sees what is going on.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// Where a build stands.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The last percentage printed as a plain line.
    printed: u32,
}

impl Progress {
    /// Begins at 0 %.
    pub(super) fn begin(what: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { bar: None, printed: 0 };
        }
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent:>3}% {elapsed_precise}");
        let bar = ProgressBar::new(100).with_message(what.to_owned());
        // A template that cannot be read would only cost the looks.
        let bar = match style {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        };
        Progress { bar: Some(bar), printed: 0 }
    }

    /// Takes note of a line of make's or ninja's output, whose beginning tells how far the build is.
    pub(super) fn see(&mut self, line: &str) {
        let Some(percent) = percent(line) else { return };
        match &self.bar {
            Some(bar) => bar.set_position(u64::from(percent)),
            None if percent >= self.printed + 10 => {
                self.printed = percent - percent % 10;
                say(&format!("building bitcoind: {} %", self.printed));
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line to standard error, past the test harness.
pub(super) fn say(line: &str) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "regtest: {line}");
}

/// make under CMake starts its lines with "[ 42%]", ninja with "[120/345]".
fn percent(line: &str) -> Option<u32> {
    let (inside, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    if let Some(percent) = inside.strip_suffix('%') {
        return percent.trim().parse().ok().filter(|percent| *percent <= 100);
    }
    let (done, total) = inside.split_once('/')?;
    let (done, total): (u32, u32) = (done.trim().parse().ok()?, total.trim().parse().ok()?);
    done.checked_mul(100)?.checked_div(total).filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_from_make_and_from_ninja() {
        let rows = [
            ("[  0%] Generating bitcoin-build-info.h", Some(0)),
            ("[ 42%] Building CXX object src/x.cpp.o", Some(42)),
            ("[100%] Built target bitcoind", Some(100)),
            ("[120/240] Building CXX object src/x.cpp.o", Some(50)),
            ("[0/0] nothing", None),
            ("[ 142%] Building", None),
            ("[5000000000/2]", None),
            ("-- Configuring done", None),
            ("src/x.cpp:1:2: warning: [-Wall]", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(percent(line), expected, "{line:?}");
        }
    }
}

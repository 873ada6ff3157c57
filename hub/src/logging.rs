//! Logs to standard error, as text or as one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Log;
use crate::stop::{Exit, Failed};

/// Starts logging for the whole process. A second start in one process (tests) changes nothing.
pub fn start(log: &Log) -> Result<(), Failed> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| {
        let expected = "a level (error, warn, info, debug, trace) or module=level, separated by commas";
        Failed::new(Exit::Usage, format!("log.filter is {:?}, expected {expected}: {error}", log.filter))
    })?;
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // An error means that logging runs already.
    let _ = if log.json { builder.json().try_init() } else { builder.try_init() };
    Ok(())
}

//! Why the process ends, and its exit code.

/// What ends a process, from the operator's point of view. One code each, so that scripts can tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked; the journal holds snapshots only.
    Clean,
    /// Our disk or our logic is broken: nothing after the last commit was released.
    Fault,
    /// Flags, variables or the file are wrong. (clap uses the same code.)
    Usage,
    /// The data folder, journal, certificate or an address could not be used.
    CannotStart,
    /// bitcoind is of another network, or pruned.
    WrongChain,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Fault => 1,
            Exit::Usage => 2,
            Exit::CannotStart => 3,
            Exit::WrongChain => 4,
        }
    }
}

/// An end other than a clean one, with the sentence that goes to standard error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    pub exit: Exit,
    pub message: String,
}

impl Failed {
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Failed { exit, message: message.to_string() }
    }

    /// For `map_err`: the error's own words with this exit.
    pub fn with<E: std::fmt::Display>(exit: Exit) -> impl Fn(E) -> Failed {
        move |error| Failed::new(exit, error)
    }
}

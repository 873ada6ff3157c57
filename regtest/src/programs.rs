//! `regtest` becomes any program of the product by its first argument: `regtest hubd ...` is `hubd ...`. So one build gives
//! every process that the demo, the benchmarks and the tests run.

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

/// A program of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The hub.
    Hubd,
    /// Its operator's command line.
    Hubctl,
    /// The wallet: daemon and command line.
    Hubwallet,
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 3] = [Name::Hubd, Name::Hubctl, Name::Hubwallet];

    /// As it is typed.
    pub fn text(self) -> &'static str {
        match self {
            Name::Hubd => "hubd",
            Name::Hubctl => "hubctl",
            Name::Hubwallet => "hubwallet",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Runs the program that the first argument names, with the others as its own; `None` when it names none of them.
pub fn become_program(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    let first = arguments.next()?;
    let name = Name::ALL.into_iter().find(|name| first == name.text())?;
    let arguments = std::iter::once(first).chain(arguments);
    Some(match name {
        Name::Hubd => hub::hubd_main(arguments),
        Name::Hubctl => hub::hubctl_main(arguments),
        Name::Hubwallet => wallet::hubwallet_main(arguments),
    })
}

//! What a run is to be: everything that decides it. The same plan gives the same run.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::seed::Seed;

/// What is allowed to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Processes are killed and machines lose power.
    Crash,
    /// Disks fill up and fail.
    Disk,
    /// Connections are late, slow, and cut at any byte.
    Net,
    /// Reorganisations, full mempools, high fees, censorship, a bitcoind that is away.
    Chain,
    /// Some wallets are hostile.
    Hostile,
}

impl Fault {
    pub const ALL: [Fault; 5] = [Fault::Crash, Fault::Disk, Fault::Net, Fault::Chain, Fault::Hostile];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::Disk => "disk",
            Fault::Net => "net",
            Fault::Chain => "chain",
            Fault::Hostile => "hostile",
        }
    }
}

/// A set of faults: "none", "all", or names with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn all() -> Self {
        Faults(Fault::ALL.into_iter().collect())
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    /// The same without one.
    pub fn without(&self, fault: Fault) -> Self {
        Faults(self.0.iter().copied().filter(|other| *other != fault).collect())
    }
}

/// A word that names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no fault: none, all, or some of crash, disk, net, chain, hostile with commas between them"
)]
pub struct UnknownFault(String);

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        match text {
            "none" => return Ok(Faults::none()),
            "all" => return Ok(Faults::all()),
            _ => {}
        }
        let one = |word: &str| {
            let found = Fault::ALL.into_iter().find(|fault| fault.name() == word);
            found.ok_or_else(|| UnknownFault(word.to_owned()))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        if *self == Faults::all() {
            return f.write_str("all");
        }
        let names: Vec<&str> = self.iter().map(Fault::name).collect();
        f.write_str(&names.join(","))
    }
}

/// Fewest and most wallets of a run.
pub const WALLETS: std::ops::RangeInclusive<usize> = 2..=6;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: Seed,
    /// Things that people and faults do before everybody is made honest and the books are closed.
    pub steps: u64,
    pub faults: Faults,
    /// As many wallets; `None`: the seed decides.
    pub wallets: Option<usize>,
}

impl Plan {
    /// The command that runs it again.
    pub fn command(&self) -> String {
        let Plan { seed, steps, faults, wallets } = self;
        let wallets = wallets.map_or_else(String::new, |wallets| format!(" --wallets {wallets}"));
        format!("cargo run --release -p sim -- --seed {} --steps {steps} --faults {faults}{wallets}", seed.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_as_they_are_shown() {
        for text in ["none", "all", "crash", "crash,chain", "disk,net,hostile"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        let error = "crash,meteor".parse::<Faults>().unwrap_err();
        assert!(error.to_string().contains("\"meteor\" is no fault"), "{error}");
        assert_eq!(Faults::all().without(Fault::Disk).to_string(), "crash,net,chain,hostile");
    }
}

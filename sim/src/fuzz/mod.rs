//! The bodies of the fuzz targets: each takes any bytes at all, and panics only if a law is broken.
//!
//! `fuzz/` wraps them for `cargo fuzz`; the ordinary tests replay the stored corpus (`fuzz/corpus/`) and run each target on
//! mutated inputs under a fixed seed. So what a fuzzer finds is kept as a file and stays found.
//!
//! | module | what is fed |
//! | --- | --- |
//! | [`frames`] | frames of a connection |
//! | [`records`] | rows of the journal, of every machine |
//! | [`snapshots`] | snapshots of every machine |
//! | [`invoices`] | what a wallet is asked to pay |
//! | [`check`] | hostile messages and commands, to a real pair of channels |
//! | [`source`], [`mutate`] | bytes as choices; how inputs are changed |
//! | [`seeds`] | the corpus's beginnings: real encodings |

pub mod check;
mod duo;
pub mod frames;
pub mod invoices;
pub mod limits;
pub mod mutate;
pub mod records;
pub mod seeds;
pub mod snapshots;
pub mod source;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its folder in the corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Real encodings, with names.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Mutated inputs in the ordinary tests: some seconds' worth.
    pub rounds: usize,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "frames", run: frames::frames, seeds: seeds::frames, rounds: limits::CHEAP_ROUNDS },
    Target { name: "records", run: records::records, seeds: seeds::records, rounds: limits::CHEAP_ROUNDS },
    Target {
        name: "snapshots",
        run: snapshots::snapshots,
        seeds: seeds::snapshots,
        rounds: limits::CHEAP_ROUNDS,
    },
    Target {
        name: "invoices",
        run: invoices::invoices,
        seeds: seeds::invoices,
        rounds: limits::CHEAP_ROUNDS,
    },
    Target { name: "check", run: check::check, seeds: seeds::check, rounds: limits::COSTLY_ROUNDS },
];

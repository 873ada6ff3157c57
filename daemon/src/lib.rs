//! What both daemons need of the machine they run on: the data folder, its lock and permissions, the token file, the
//! seed file; time and chance; values that rise and who waits for them; and how command lines print.
//!
//! | module | its part |
//! | --- | --- |
//! | [`data_dir`] | one process a folder; secrets readable by their owner alone; files written whole |
//! | [`token`] | the bearer token beside a service, in a file |
//! | [`seed`] | the BIP 39 words from which every key derives, in a file |
//! | [`world`] | the time of day and randomness, handed in |
//! | [`rising`] | a value that only rises, and those who wait for it in turn |
//! | [`text`], [`table`], [`json`] | answers for eyes and for scripts |
//!
//! It knows neither channels nor gRPC, and none of the other crates. What differs between the daemons is handed in:
//! paths, and the [`Program`] that messages name.

pub mod data_dir;
pub mod json;
pub mod rising;
pub mod seed;
pub mod table;
pub mod text;
pub mod token;
pub mod world;

/// How messages name the daemon whose folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// What is started: "hubd".
    pub name: &'static str,
    /// The command that stops it: "hubctl stop".
    pub stop: &'static str,
}

/// The program that the tests name.
#[cfg(test)]
const TESTED: Program = Program { name: "testd", stop: "testctl stop" };

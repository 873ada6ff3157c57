//! Which bitcoind to run: the first that works of the variable `BITCOIND`, the PATH, the user's cache folder; else one
//! is built into the cache folder.
//!
//! A candidate works if it runs and calls itself Bitcoin Core of a version not older than [`OLDEST`]. Each one that was
//! turned down is kept with the reason, and named if in the end none is found.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc;

use super::build::{self, BuildError};
use super::progress::say;
use crate::limits::VERSION_WITHIN;
use crate::process::Supervised;

/// The oldest bitcoind that will do: version 30 brought ephemeral dust for zero-fee commitments to every network, and
/// `current_tip` for `waitfornewblock`, without which a block between two calls is missed.
pub const OLDEST: Version = Version { major: 30, minor: 0 };

/// The folder of ours in the user's cache folder.
const CACHE_NAME: &str = "payment-hub";

/// bitcoind's version; master before release 32 calls itself 31.99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Version {
    /// The release.
    pub major: u32,
    /// Bug fixes to the release; 99 is development.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is not what `bitcoind -version` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    /// Reads the first line of `bitcoind -version`: "Bitcoin Core daemon version v30.0.0 bitcoind"; what follows the
    /// minor number does not matter.
    fn from_str(text: &str) -> Result<Version, NotAVersion> {
        let line = text.lines().next().ok_or(NotAVersion)?;
        let (program, version) = line.split_once(" version v").ok_or(NotAVersion)?;
        if !program.starts_with("Bitcoin") {
            return Err(NotAVersion);
        }
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Version { major, minor }),
            _ => Err(NotAVersion),
        }
    }
}

/// Where a bitcoind was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The variable `BITCOIND`.
    Variable,
    /// A folder named in PATH.
    Path,
    /// Built before into the user's cache folder.
    Cache,
    /// Built just now.
    Built,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Variable => "the variable BITCOIND",
            Origin::Path => "the PATH",
            Origin::Cache => "the cache folder",
            Origin::Built => "the build",
        })
    }
}

/// A bitcoind that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Where it was found.
    pub origin: Origin,
    /// Those that were preferred but do not work.
    pub rejected: Vec<Rejected>,
}

/// A bitcoind that was turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it was found.
    pub origin: Origin,
    /// The program.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Unfit,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (from {}): {}", self.path.display(), self.origin, self.why)
    }
}

/// What is wrong with a candidate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not there, or may not be run.
    #[error("cannot be run: {0}")]
    CannotRun(String),
    /// It does not answer.
    #[error("did not answer `-version` within {VERSION_WITHIN:?}")]
    Hangs,
    /// It ended in an error.
    #[error("`-version` ended with {status}: {output}")]
    Fails {
        /// How it ended.
        status: ExitStatus,
        /// Its first line.
        output: String,
    },
    /// It is another program.
    #[error("`-version` says {output:?}; expected \"Bitcoin Core daemon version v{OLDEST}\" or newer")]
    OtherProgram {
        /// Its first line.
        output: String,
    },
    /// It is Bitcoin Core, but an old one.
    #[error("is version {version}; expected {OLDEST} or newer")]
    TooOld {
        /// Its version.
        version: Version,
    },
}

/// No bitcoind was found, and none could be built.
#[derive(Debug, thiserror::Error)]
#[error("no bitcoind works, and building one failed: {build}{}", list(.rejected))]
pub struct LocateError {
    /// Those that were turned down.
    pub rejected: Vec<Rejected>,
    /// Why none could be built.
    #[source]
    pub build: BuildError,
}

fn list(rejected: &[Rejected]) -> String {
    rejected.iter().map(|rejected| format!("\n  turned down: {rejected}")).collect()
}

/// What the search reads from its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The value of `BITCOIND`.
    pub variable: Option<OsString>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// The folder for what we build; `None` if the user has no cache folder.
    pub cache: Option<PathBuf>,
}

impl Search {
    /// As the environment says. The cache folder follows the XDG specification: `XDG_CACHE_HOME` if it is absolute, else
    /// `.cache` in the home folder.
    pub fn from_environment() -> Search {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        Search {
            variable: std::env::var_os("BITCOIND").filter(|value| !value.is_empty()),
            path: std::env::var_os("PATH"),
            cache: cache.map(|cache| cache.join(CACHE_NAME)),
        }
    }

    /// The first bitcoind that works; builds one if there is none.
    ///
    /// # Errors
    /// [`LocateError`].
    pub fn find_or_build(&self) -> Result<Found, LocateError> {
        let found = self.find();
        let (Ok(Found { rejected, .. }) | Err(rejected)) = &found;
        for rejected in rejected.iter().filter(|rejected| rejected.origin == Origin::Variable) {
            // Whoever set the variable expects another bitcoind than the one that is taken now.
            say(&format!("passing over {rejected}"));
        }
        let rejected = match found {
            Ok(found) => return Ok(found),
            Err(rejected) => rejected,
        };
        let Some(cache) = &self.cache else {
            return Err(LocateError { rejected, build: BuildError::NoCacheFolder });
        };
        match build::build_once(cache) {
            Ok((path, version)) => Ok(Found { path, version, origin: Origin::Built, rejected }),
            Err(build) => Err(LocateError { rejected, build }),
        }
    }

    /// The first bitcoind that works, or all that do not.
    ///
    /// # Errors
    /// The candidates there were, each with what is wrong with it.
    pub fn find(&self) -> Result<Found, Vec<Rejected>> {
        let mut rejected = Vec::new();
        for (origin, path) in self.candidates() {
            match probe(&path) {
                Ok(version) => return Ok(Found { path, version, origin, rejected }),
                Err(why) => rejected.push(Rejected { origin, path, why }),
            }
        }
        Err(rejected)
    }

    /// In order of preference. The variable is a candidate whatever it names, since the user meant something by it;
    /// elsewhere only files that are there.
    fn candidates(&self) -> Vec<(Origin, PathBuf)> {
        let mut candidates = Vec::new();
        if let Some(variable) = &self.variable {
            candidates.push((Origin::Variable, PathBuf::from(variable)));
        }
        let folders = self.path.iter().flat_map(std::env::split_paths);
        let on_path = folders.map(|folder| folder.join("bitcoind")).filter(|path| path.is_file());
        candidates.extend(on_path.map(|path| (Origin::Path, path)));
        let cached = self.cache.as_deref().map(build::installed).filter(|path| path.is_file());
        candidates.extend(cached.map(|path| (Origin::Cache, path)));
        candidates
    }
}

/// Asks a program for its version.
pub(super) fn probe(program: &Path) -> Result<Version, Unfit> {
    let (status, output) = version_output(program)?;
    if !status.success() {
        return Err(Unfit::Fails { status, output: first_line(&output) });
    }
    let version: Version =
        output.parse().map_err(|NotAVersion| Unfit::OtherProgram { output: first_line(&output) })?;
    if version < OLDEST {
        return Err(Unfit::TooOld { version });
    }
    Ok(version)
}

fn version_output(program: &Path) -> Result<(ExitStatus, String), Unfit> {
    let cannot_run = |error: io::Error| Unfit::CannotRun(error.to_string());
    // The shell that supervises would report a missing program only by a number.
    let metadata = std::fs::metadata(program).map_err(cannot_run)?;
    if !metadata.is_file() {
        return Err(Unfit::CannotRun("not a file".to_owned()));
    }
    let program = std::path::absolute(program).map_err(cannot_run)?;
    let (mut reader, writer) = io::pipe().map_err(cannot_run)?;
    let mut command = Command::new(program);
    command.arg("-version");
    let errors = Stdio::from(writer.try_clone().map_err(cannot_run)?);
    let mut process = Supervised::spawn(&command, Stdio::from(writer), errors).map_err(cannot_run)?;
    // Read beside the waiting, so that a program that prints without end neither blocks nor fills the memory.
    let (sender, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error still tells something.
        let _ = reader.by_ref().take(4096).read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).trim().to_owned());
    });
    let status = process.wait_exit(VERSION_WITHIN).map_err(cannot_run)?.ok_or(Unfit::Hangs)?;
    let text = text.recv_timeout(VERSION_WITHIN).map_err(|_| Unfit::Hangs)?;
    Ok((status, text))
}

fn first_line(output: &str) -> String {
    output.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a program by way of another process: while any process of ours holds a file open for writing, running it
    /// fails, and a test that starts a process at that moment hands it a copy.
    fn program(folder: &Path, script: &str) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join("bitcoind");
        let status = Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#, "sh"])
            .arg(&path)
            .arg(script)
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    fn bitcoind(folder: &Path, version: &str) -> PathBuf {
        program(folder, &format!("echo 'Bitcoin Core daemon version {version}'; echo 'Copyright (C)'"))
    }

    #[test]
    fn versions_are_read_from_what_bitcoind_prints() {
        let version = |major, minor| Ok(Version { major, minor });
        let rows = [
            ("Bitcoin Core daemon version v31.99.0-unk bitcoind\nCopyright", version(31, 99)),
            ("Bitcoin Core daemon version v30.0.0 bitcoind", version(30, 0)),
            ("Bitcoin Core daemon version v30.2rc1", version(30, 2)),
            ("Bitcoin Core version v29.1.0", version(29, 1)),
            ("Bitcoin Knots daemon version v29.3.knots20260210", version(29, 3)),
            ("Bitcoin Core daemon version v30", Err(NotAVersion)),
            ("Bitcoin Core daemon version 30.0", Err(NotAVersion)),
            ("Bitcoin Core daemon version v99999999999.0", Err(NotAVersion)),
            ("monerod version v31.0", Err(NotAVersion)),
            ("", Err(NotAVersion)),
            ("\nBitcoin Core daemon version v30.0", Err(NotAVersion)),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Version>(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_variable_wins_over_the_path_and_the_path_over_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let first = bitcoind(&root.join("variable"), "v30.0.0");
        let second = bitcoind(&root.join("path"), "v30.1.0");
        let third = bitcoind(build::installed(root).parent().unwrap(), "v31.99.0");
        let mut search = Search {
            variable: Some(first.clone().into()),
            path: Some(std::env::join_paths([root.join("empty"), root.join("path")]).unwrap()),
            cache: Some(root.to_owned()),
        };
        let found = |search: &Search| search.find().map(|found| (found.origin, found.path));
        assert_eq!(found(&search), Ok((Origin::Variable, first)));
        search.variable = None;
        assert_eq!(found(&search), Ok((Origin::Path, second)));
        search.path = None;
        assert_eq!(found(&search), Ok((Origin::Cache, third)));
        search.cache = None;
        assert_eq!(found(&search), Err(vec![]));
    }

    #[test]
    fn a_candidate_that_does_not_work_is_passed_over_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let missing = root.join("nowhere");
        let old = bitcoind(&root.join("old"), "v29.9.0");
        let good = bitcoind(&root.join("good"), "v30.0.0");
        let search = Search {
            variable: Some(missing.clone().into()),
            path: Some(std::env::join_paths([root.join("old"), root.join("good")]).unwrap()),
            cache: None,
        };
        let found = search.find().unwrap();
        assert_eq!((found.path, found.origin), (good, Origin::Path));
        assert_eq!(found.version, Version { major: 30, minor: 0 });
        let rejected: Vec<_> = found.rejected.iter().map(|rejected| &rejected.path).collect();
        assert_eq!(rejected, [&missing, &old]);
        let message = found.rejected[1].to_string();
        assert!(
            message.ends_with("bitcoind (from the PATH): is version 29.9; expected 30.0 or newer"),
            "{message}"
        );
    }

    #[test]
    fn each_kind_of_broken_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(matches!(probe(&root.join("missing")), Err(Unfit::CannotRun(_))));
        assert_eq!(probe(root), Err(Unfit::CannotRun("not a file".to_owned())));

        let plain = root.join("plain");
        std::fs::write(&plain, "no program").unwrap();
        let Err(Unfit::Fails { status, output }) = probe(&plain) else { panic!("a text file ran") };
        assert_eq!(status.code(), Some(126));
        assert!(output.contains("ermission"), "{output}");

        let failing = program(&root.join("failing"), "echo 'libfoo.so: not found' >&2; exit 127");
        let Err(Unfit::Fails { status, output }) = probe(&failing) else { panic!("a failure passed") };
        assert_eq!((status.code(), output.as_str()), (Some(127), "libfoo.so: not found"));

        let other = program(&root.join("other"), "echo hello; echo world");
        assert_eq!(probe(&other), Err(Unfit::OtherProgram { output: "hello".to_owned() }));
    }

    #[test]
    fn a_program_that_prints_without_end_is_no_bitcoind() {
        let folder = tempfile::tempdir().unwrap();
        let endless = program(folder.path(), "exec yes");
        // It dies of the closed pipe after the first bytes.
        assert!(matches!(probe(&endless), Err(Unfit::Fails { .. })));
    }
}

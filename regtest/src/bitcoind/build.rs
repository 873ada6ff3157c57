//! Builds bitcoind and bitcoin-cli from Bitcoin Core's source, once for a user and a version of the source.
//!
//! The source comes inside the crate named by [`SOURCE_CRATE`]: cargo fetches it through whatever registry the user has
//! set up and checks it against the checksum in the lockfile under `bitcoin-source/`; the crate's own build script
//! never runs.
//!
//! Invariants, for any number of processes at once and however they end:
//!
//! - the folder [`installed`] points into is complete whenever it is there: it appears by one rename;
//! - one build runs at a time, under a file lock that the compilers inherit with their standard input, so that even
//!   those left behind by a killed build are waited for;
//! - a build that was cut off goes on where it stopped.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use super::find::{self, Unfit, Version};
use super::needs::{self, Lacking};
use super::progress::{Progress, say};
use crate::limits::LOG_TAIL_LINES;

/// The crate that carries the source.
pub const SOURCE_CRATE: &str = "libbitcoinkernel-sys";

/// Its version; `bitcoin-source/Cargo.toml` names the same one.
pub const SOURCE_VERSION: &str = "0.4.1";

const SOURCE_MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bitcoin-source/Cargo.toml");

/// A node for regtest and nothing else: what is left out here would only take time, or more libraries.
const FLAGS: [&str; 10] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DENABLE_WALLET=OFF",
    "-DENABLE_IPC=OFF",
    "-DBUILD_TESTS=OFF",
    "-DBUILD_BITCOIN_BIN=OFF",
    "-DBUILD_TX=OFF",
    "-DBUILD_UTIL=OFF",
    "-DENABLE_EXTERNAL_SIGNER=OFF",
    "-DINSTALL_MAN=OFF",
    "-DWITH_EMBEDDED_ASMAP=OFF",
];

const PROGRAMS: [&str; 2] = ["bitcoind", "bitcoin-cli"];

/// Why no bitcoind could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nowhere to build.
    #[error("no cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    NoCacheFolder,
    /// A file of ours cannot be handled.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The machine lacks tools.
    #[error("{lacking} (log: {log})", log = log.display())]
    Lacking {
        /// Which ones.
        lacking: Lacking,
        /// What was found out about them.
        log: PathBuf,
    },
    /// A program cannot be started at all.
    #[error("cannot run {program}: {source}")]
    CannotRun {
        /// Which one.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A step of the build failed.
    #[error("{step} failed ({status}); the whole log is {log}, which ends:\n{tail}", log = log.display())]
    Step {
        /// Which one.
        step: &'static str,
        /// How its program ended.
        status: ExitStatus,
        /// Everything that the build printed.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// cargo does not say where it put the source.
    #[error("cargo metadata does not name the folder of {SOURCE_CRATE} {SOURCE_VERSION}: {0}")]
    NoSource(String),
    /// What was built does not work.
    #[error("the bitcoind just built does not work: {0}")]
    Unfit(#[from] Unfit),
}

/// Where the program lies once built.
pub(super) fn installed(cache: &Path) -> PathBuf {
    Folders::new(cache).installed.join("bitcoind")
}

/// Builds, or waits for another process that does, and gives the program and its version.
pub(super) fn build_once(cache: &Path) -> Result<(PathBuf, Version), BuildError> {
    let folders = Folders::new(cache);
    fs::create_dir_all(cache).map_err(|source| file_error("create", cache, source))?;
    let lock = folders.lock()?;
    let program = installed(cache);
    // Another process may have built it while this one waited.
    if let Ok(version) = find::probe(&program) {
        return Ok((program, version));
    }
    let started = Instant::now();
    let build = Build { log: folders.new_log()?, folders, lock };
    build.ensure_tools()?;
    say(&format!(
        "building bitcoind from {SOURCE_CRATE} {SOURCE_VERSION}, once, about five minutes on two cores; log: {}",
        build.folders.log.display()
    ));
    let source = build.fetch_source()?;
    build.configure(&source)?;
    build.compile()?;
    let version = build.install()?;
    say(&format!("built bitcoind {version} in {} s: {}", started.elapsed().as_secs(), program.display()));
    Ok((program, version))
}

struct Folders {
    installed: PathBuf,
    build: PathBuf,
    scratch: PathBuf,
    log: PathBuf,
    lock: PathBuf,
}

impl Folders {
    fn new(cache: &Path) -> Folders {
        let named = |suffix: &str| cache.join(format!("bitcoind-{SOURCE_VERSION}{suffix}"));
        Folders {
            installed: named(""),
            build: named(".build"),
            scratch: named(".needs"),
            log: named(".log"),
            lock: named(".lock"),
        }
    }

    fn lock(&self) -> Result<File, BuildError> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.lock);
        let file = file.map_err(|source| file_error("open", &self.lock, source))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                say(&format!(
                    "another process is building bitcoind; waiting for it ({})",
                    self.log.display()
                ));
            }
            Err(TryLockError::Error(source)) => return Err(file_error("lock", &self.lock, source)),
        }
        file.lock().map_err(|source| file_error("lock", &self.lock, source))?;
        Ok(file)
    }

    fn new_log(&self) -> Result<File, BuildError> {
        let cannot = |source| file_error("write", &self.log, source);
        File::create(&self.log).map_err(cannot)?;
        // Several programs write to it in turn, each at its end.
        OpenOptions::new().append(true).open(&self.log).map_err(cannot)
    }
}

/// A build under way; it holds the lock.
struct Build {
    folders: Folders,
    lock: File,
    log: File,
}

impl Build {
    fn ensure_tools(&self) -> Result<(), BuildError> {
        let outcome = self.check_tools();
        let scratch = &self.folders.scratch;
        if scratch.exists() {
            fs::remove_dir_all(scratch).map_err(|source| file_error("remove", scratch, source))?;
        }
        outcome
    }

    fn check_tools(&self) -> Result<(), BuildError> {
        let check = || needs::check(&self.folders.scratch, &self.log);
        let error = |lacking| BuildError::Lacking { lacking, log: self.folders.log.clone() };
        let Err(lacking) = check() else { return Ok(()) };
        let Some(commands) = needs::unattended_install(&lacking.needs) else { return Err(error(lacking)) };
        say(&format!("{}; installing it; log: {}", lacking.names(), self.folders.log.display()));
        for command in commands {
            self.run("installing what the build needs", command, |_| ())?;
        }
        check().map_err(error)
    }

    /// Gives the root of Bitcoin Core's source tree.
    fn fetch_source(&self) -> Result<PathBuf, BuildError> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut fetch = Command::new(&cargo);
        fetch.args(["fetch", "--locked", "--manifest-path", SOURCE_MANIFEST]);
        self.run("fetching the source", fetch, |_| ())?;
        let mut metadata = Command::new(&cargo);
        metadata.args(["metadata", "--locked", "--offline", "--format-version", "1", "--manifest-path"]);
        metadata.arg(SOURCE_MANIFEST);
        let mut json = String::new();
        self.run("finding the source", metadata, |line| {
            // Among warnings, should there be any.
            if line.starts_with('{') {
                json.push_str(line);
            }
        })?;
        let source = source_folder(&json).map_err(BuildError::NoSource)?;
        if !source.join("CMakeLists.txt").is_file() {
            return Err(BuildError::NoSource(format!("no CMakeLists.txt in {}", source.display())));
        }
        Ok(source)
    }

    fn configure(&self, source: &Path) -> Result<(), BuildError> {
        let configure = || {
            let mut command = Command::new("cmake");
            command.arg("-S").arg(source).arg("-B").arg(&self.folders.build);
            command.args(needs::generator()).args(FLAGS);
            self.run("configuring the build", command, |_| ())
        };
        if !self.folders.build.exists() {
            return configure();
        }
        // What a build that was cut off left may be of another compiler, or of a source that lay elsewhere.
        configure().or_else(|_| {
            self.remove_build()?;
            configure()
        })
    }

    fn compile(&self) -> Result<(), BuildError> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new("cmake");
        command.arg("--build").arg(&self.folders.build);
        command.args(["--parallel", &jobs.to_string(), "--target"]).args(PROGRAMS);
        let mut progress = Progress::begin("building bitcoind");
        let outcome = self.run("compiling", command, |line| progress.see(line));
        progress.end();
        outcome
    }

    fn install(&self) -> Result<Version, BuildError> {
        let folders = &self.folders;
        let new = folders.build.join("new");
        recreate(&new)?;
        for program in PROGRAMS {
            let built = folders.build.join("bin").join(program);
            // Renamed, not copied: a file that was just written cannot always be run at once, since a process
            // started meanwhile elsewhere may still hold it open.
            fs::rename(&built, new.join(program)).map_err(|source| file_error("move", &built, source))?;
        }
        let version = find::probe(&new.join("bitcoind"))?;
        // There only if what was built before has ceased to work.
        if folders.installed.exists() {
            fs::remove_dir_all(&folders.installed)
                .map_err(|source| file_error("remove", &folders.installed, source))?;
        }
        fs::rename(&new, &folders.installed).map_err(|source| file_error("move", &new, source))?;
        self.remove_build()?;
        Ok(version)
    }

    fn remove_build(&self) -> Result<(), BuildError> {
        fs::remove_dir_all(&self.folders.build)
            .map_err(|source| file_error("remove", &self.folders.build, source))
    }

    /// Runs one program, everything it prints into the log; `see` gets each line of it.
    fn run(
        &self,
        step: &'static str,
        mut command: Command,
        mut see: impl FnMut(&str),
    ) -> Result<(), BuildError> {
        let log_error = |source| file_error("write", &self.folders.log, source);
        let program = command.get_program().to_string_lossy().into_owned();
        let shown: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let mut log = &self.log;
        writeln!(log, "$ {program} {}", shown.join(" ")).map_err(log_error)?;
        let pipe = |source| BuildError::File { action: "pipe into", path: self.folders.log.clone(), source };
        // One pipe for output and errors, so that the log has them in the order they were printed.
        let (output, writer) = io::pipe().map_err(pipe)?;
        // Whoever holds the file holds the lock.
        let lock = self.lock.try_clone().map_err(|source| file_error("lock", &self.folders.lock, source))?;
        command.stdin(lock).stdout(writer.try_clone().map_err(pipe)?).stderr(writer);
        let mut child =
            command.spawn().map_err(|source| BuildError::CannotRun { program: program.clone(), source })?;
        // Its copies of the writing end would keep the output from ever ending.
        drop(command);
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(log_error)?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}").map_err(log_error)?;
            see(&line);
        }
        let status = child.wait().map_err(|source| BuildError::CannotRun { program, source })?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Step { step, status, log: self.folders.log.clone(), tail: tail(&self.folders.log) })
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> BuildError {
    BuildError::File { action, path: path.to_owned(), source }
}

fn recreate(folder: &Path) -> Result<(), BuildError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|source| file_error("remove", folder, source))?;
    }
    fs::create_dir_all(folder).map_err(|source| file_error("create", folder, source))
}

/// The last lines of a file, indented; empty if it cannot be read.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines[first..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Reads the answer of `cargo metadata`.
fn source_folder(json: &str) -> Result<PathBuf, String> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
        manifest_path: PathBuf,
    }
    let metadata: Metadata = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let wanted = |package: &&Package| package.name == SOURCE_CRATE && package.version == SOURCE_VERSION;
    let package = metadata.packages.iter().find(wanted).ok_or("it names other packages only")?;
    Ok(package.manifest_path.with_file_name("bitcoin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_manifest_and_lockfile_pin_the_version_that_the_build_expects() {
        let folder = Path::new(SOURCE_MANIFEST).parent().unwrap();
        let manifest: toml::Table = fs::read_to_string(SOURCE_MANIFEST).unwrap().parse().unwrap();
        assert_eq!(manifest["dependencies"][SOURCE_CRATE].as_str(), Some(&*format!("={SOURCE_VERSION}")));
        let lock: toml::Table = fs::read_to_string(folder.join("Cargo.lock")).unwrap().parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"].as_str() == Some(SOURCE_CRATE)).unwrap();
        assert_eq!(package["version"].as_str(), Some(SOURCE_VERSION));
        assert_eq!(package["checksum"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn the_source_lies_beside_the_manifest_that_cargo_names() {
        let json = r#"{"packages":[
            {"name":"cc","version":"0.4.1","manifest_path":"/r/cc/Cargo.toml"},
            {"name":"libbitcoinkernel-sys","version":"0.4.1","manifest_path":"/r/sys/Cargo.toml"}]}"#;
        assert_eq!(source_folder(json), Ok(PathBuf::from("/r/sys/bitcoin")));
        assert!(source_folder(&json.replace("0.4.1", "0.5.0")).is_err());
        assert!(source_folder("nonsense").is_err());
    }

    #[test]
    fn a_failing_step_names_its_log_and_shows_the_end_of_it() {
        let cache = tempfile::tempdir().unwrap();
        let folders = Folders::new(cache.path());
        let build = Build { log: folders.new_log().unwrap(), lock: folders.lock().unwrap(), folders };
        let mut command = Command::new("sh");
        command.args(["-c", "for i in $(seq 40); do echo line $i; done; echo it broke >&2; exit 3"]);
        let mut seen = 0;
        let error = build.run("compiling", command, |_| seen += 1).unwrap_err();
        assert_eq!(seen, 41);
        let message = error.to_string();
        assert!(message.starts_with("compiling failed (exit status: 3)"), "{message}");
        assert!(message.contains(&build.folders.log.display().to_string()), "{message}");
        assert!(message.contains("it broke") && message.contains("line 40"), "{message}");
        assert!(!message.contains("line 9\n"), "{message}");
    }

    #[test]
    fn a_program_left_behind_by_a_dead_build_keeps_the_lock() {
        let cache = tempfile::tempdir().unwrap();
        let folders = Folders::new(cache.path());
        let lock = folders.lock().unwrap();
        // `read` ends at once at the end of the pipe; until then the child holds its copy of the lock.
        let (reader, writer) = io::pipe().unwrap();
        let mut child =
            Command::new("sh").args(["-c", "read -r line <&2"]).stdin(lock).stderr(reader).spawn().unwrap();
        let other = File::open(&folders.lock).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(writer);
        child.wait().unwrap();
        other.try_lock().unwrap();
    }
}

//! The programs of the product, run as processes of their own: by this executable, which becomes any of them by its first
//! argument (see [`crate::programs`]).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::error::LabError;
use crate::process::Supervised;
use crate::programs::Name;

/// An executable that can become hub, wallet and their command lines.
#[derive(Debug, Clone)]
pub struct Program {
    executable: PathBuf,
}

/// What a command line printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said about errors.
    pub stderr: String,
}

impl Program {
    /// This very executable; right for everything but tests, whose executable is another.
    ///
    /// # Errors
    /// The operating system's.
    pub fn this() -> Result<Program, LabError> {
        let executable = std::env::current_exe().map_err(LabError::system("find this executable"))?;
        Ok(Program { executable })
    }

    /// `regtest` as built at this path.
    pub fn at(executable: impl Into<PathBuf>) -> Program {
        Program { executable: executable.into() }
    }

    /// Starts a process that dies with this one. What it prints is added to the file `log`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(&self, name: Name, arguments: &[OsString], log: &Path) -> Result<Supervised, LabError> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let stdout = open().map_err(LabError::system(format!("open {}", log.display())))?;
        let stderr = open().map_err(LabError::system(format!("open {}", log.display())))?;
        let command = self.command(name, arguments);
        Supervised::spawn(&command, Stdio::from(stdout), Stdio::from(stderr))
            .map_err(LabError::system(format!("start {name}")))
    }

    /// Runs a command line to its end.
    ///
    /// # Errors
    /// The operating system's; how the command ended is in the output.
    pub async fn output(&self, name: Name, arguments: &[OsString]) -> Result<Output, LabError> {
        let mut command = tokio::process::Command::from(self.command(name, arguments));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(LabError::system(format!("run {name}")))?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command line that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// [`LabError::Command`] with what it said.
    pub async fn run(&self, name: Name, arguments: &[OsString]) -> Result<String, LabError> {
        let output = self.output(name, arguments).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let shown: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        Err(LabError::Command {
            command: format!("{name} {}", shown.join(" ")),
            status: output.status,
            stderr: output.stderr.trim().to_owned(),
        })
    }

    /// Variables of the caller's that would configure the programs are kept from them: a run is the same everywhere.
    fn command(&self, name: Name, arguments: &[OsString]) -> Command {
        let mut command = Command::new(&self.executable);
        command.arg(name.text()).args(arguments);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("HUBD_") || text.starts_with("HUBCTL_") || text.starts_with("HUBWALLET_") {
                command.env_remove(&variable);
            }
        }
        command
    }
}

/// Arguments from anything that can be one.
#[macro_export]
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        [$(::std::ffi::OsString::from($argument)),*]
    };
}

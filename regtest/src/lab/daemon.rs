//! What hub and wallet processes share: starting, looking after, killing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::LabError;
use super::program::Program;
use crate::bitcoind::log_tail;
use crate::limits::POLL_EVERY;
use crate::process::{Signal, Supervised};
use crate::programs::Name;

/// One process, running or not, and the folder that outlives it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    kind: Name,
    program: Program,
    folder: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Supervised>>,
}

impl Daemon {
    /// A process that was never started: its data will lie in `root/name`, what it prints in `root/name.log`.
    pub fn new(program: &Program, kind: Name, root: &Path, name: &str) -> Daemon {
        Daemon {
            name: name.to_owned(),
            kind,
            program: program.clone(),
            folder: root.join(name),
            log: root.join(format!("{name}.log")),
            process: Mutex::new(None),
        }
    }

    /// How it is called in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its data lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything it printed, in all its lives.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it is run by.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Copies its data aside, for [`Daemon::go_back`]. It must not run.
    ///
    /// # Errors
    /// The operating system's.
    pub fn copy(&self, name: &str) -> Result<(), LabError> {
        let copy = self.copy_folder(name);
        copy_folder(&self.folder, &copy).map_err(LabError::system(format!("copy to {}", copy.display())))
    }

    /// Puts a copy back in the place of its data: it forgets what has happened since. It must not run.
    ///
    /// # Errors
    /// The operating system's.
    pub fn go_back(&self, name: &str) -> Result<(), LabError> {
        let copy = self.copy_folder(name);
        let swap = || {
            std::fs::remove_dir_all(&self.folder)?;
            copy_folder(&copy, &self.folder)
        };
        swap().map_err(LabError::system(format!("put {} back", copy.display())))
    }

    fn copy_folder(&self, name: &str) -> PathBuf {
        self.folder.with_extension(name)
    }

    /// Starts it. The files that tell its addresses are removed before, since they tell those of its last life.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(&self, arguments: &[OsString], address_files: &[&Path]) -> Result<(), LabError> {
        for file in address_files {
            match std::fs::remove_file(file) {
                Ok(()) => (),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
                Err(error) => return Err(LabError::system(format!("remove {}", file.display()))(error)),
            }
        }
        let process = self.program.start(self.kind, arguments, &self.log)?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Gives an error with its last words if it does not run.
    ///
    /// # Errors
    /// [`LabError::Ended`], [`LabError::NotRunning`].
    pub fn expect_running(&self) -> Result<(), LabError> {
        let mut process = self.process();
        let Some(running) = process.as_mut() else {
            return Err(LabError::NotRunning { name: self.name.clone() });
        };
        match running.try_exit().map_err(LabError::system(format!("look after {}", self.name)))? {
            None => Ok(()),
            Some(status) => {
                *process = None;
                Err(LabError::Ended {
                    name: self.name.clone(),
                    status,
                    log: self.log.clone(),
                    tail: log_tail(&self.log),
                })
            }
        }
    }

    /// The process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process().as_ref().map(Supervised::id)
    }

    /// SIGKILL: it writes nothing any more. Does nothing if it does not run.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill(&self) -> Result<(), LabError> {
        if let Some(mut process) = self.process().take() {
            process.kill().map_err(LabError::system(format!("kill {}", self.name)))?;
        }
        Ok(())
    }

    /// Sends another signal.
    ///
    /// # Errors
    /// The operating system's.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        match self.process().as_mut() {
            Some(process) => {
                process.signal(signal).map_err(LabError::system(format!("signal {}", self.name)))
            }
            None => Err(LabError::NotRunning { name: self.name.clone() }),
        }
    }

    /// Waits until it has ended by itself, and gives its status.
    ///
    /// # Errors
    /// [`LabError::TimedOut`] if it still runs then.
    pub async fn ended(&self, within: Duration) -> Result<ExitStatus, LabError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            {
                let mut process = self.process();
                let Some(running) = process.as_mut() else {
                    return Err(LabError::NotRunning { name: self.name.clone() });
                };
                let exit =
                    running.try_exit().map_err(LabError::system(format!("look after {}", self.name)))?;
                if let Some(status) = exit {
                    *process = None;
                    return Ok(status);
                }
            }
            if tokio::time::Instant::now() >= deadline {
                let what = format!("the end of {}", self.name);
                return Err(LabError::TimedOut { what, within, last: "it runs".to_owned() });
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// The file's text once it is there and whole (ends in a line break or is not being written any more), `None` before.
    pub fn written(file: &Path) -> Option<String> {
        let text = std::fs::read_to_string(file).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn process(&self) -> MutexGuard<'_, Option<Supervised>> {
        // What a panic elsewhere leaves behind is still the process.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files and folders with their permissions, which daemons look at.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), target).map(|_| ())?,
        }
    }
    Ok(())
}

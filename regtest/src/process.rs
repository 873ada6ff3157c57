//! A child process that never outlives this one.
//!
//! The invariant holds however this process ends, SIGKILL included, without unsafe code: the child starts as a small
//! shell script that leaves a watcher behind and then becomes the program (`exec`, so the process id is the
//! program's). The watcher reads a pipe whose other end only this process holds. When this process dies, the kernel
//! closes the pipe and the watcher kills the program. The pipe also carries signals other than SIGKILL, which the
//! standard library cannot send.
//!
//! The child gets a process group of its own, so that Ctrl-C in a terminal reaches this process alone, which then
//! stops its children in the order it likes.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// `$$` stays the script's own process id inside the watcher, and the program's after `exec`.
const SCRIPT: &str = r#"
exec 3<&0 </dev/null
(
    while read -r order; do
        case $order in
            DONE) exit 0 ;;
            *) kill -s "$order" $$ ;;
        esac
    done
    kill -s KILL $$
) <&3 3<&- >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// What can be sent to a supervised process, besides killing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please stop cleanly.
    Terminate,
    /// SIGINT: as by Ctrl-C.
    Interrupt,
    /// SIGSTOP: freeze, to play a process that hangs.
    Freeze,
    /// SIGCONT: go on after [`Signal::Freeze`].
    Resume,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Freeze => "STOP",
            Signal::Resume => "CONT",
        }
    }
}

/// A running child process; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    orders: Option<ChildStdin>,
}

impl Supervised {
    /// Starts what `command` describes: its program, arguments, environment changes and working directory. Its standard
    /// input is empty; where its output goes is said here, since a `Command` does not tell what was set on it.
    ///
    /// # Errors
    /// The operating system's. A program that does not exist shows as exit status 127 of the child.
    pub fn spawn(command: &Command, stdout: Stdio, stderr: Stdio) -> io::Result<Supervised> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SCRIPT).arg("supervised").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let mut child = shell.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).process_group(0).spawn()?;
        let orders = child.stdin.take();
        Ok(Supervised { child, orders })
    }

    /// The program's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program's standard output, if it was started with `Stdio::piped()`; the first call takes it.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The program's standard error, if it was started with `Stdio::piped()`; the first call takes it.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a signal; does nothing if the program has ended.
    ///
    /// # Errors
    /// The operating system's, when the pipe to the watcher is broken although the program runs.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.try_exit()?.is_some() {
            return Ok(());
        }
        self.order(signal.name())
    }

    /// The exit status, if the program has ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn try_exit(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.dismiss_watcher();
        }
        Ok(status)
    }

    /// Waits for the program to end by itself; `None` when it still runs after `within`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn wait_exit(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let outcome = wait::until("exit", within, || self.try_exit().transpose());
        outcome.ok().transpose()
    }

    /// Kills the program with SIGKILL and waits until it is gone; its status tells if it had ended before.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.dismiss_watcher();
        Ok(status)
    }

    /// Once the program has been waited for, its process id may be another's: the watcher must not kill it.
    fn dismiss_watcher(&mut self) {
        if self.orders.is_some() {
            // A broken pipe means that the watcher is gone already, which is what is wanted.
            let _ = self.order("DONE");
            self.orders = None;
        }
    }

    fn order(&mut self, order: &str) -> io::Result<()> {
        match &mut self.orders {
            Some(pipe) => pipe.write_all(format!("{order}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Nobody is left to tell; the watcher kills what could not be killed here.
        let _ = self.kill();
    }
}

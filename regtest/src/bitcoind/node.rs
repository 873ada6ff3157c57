//! A bitcoind in regtest: started on a free port, stopped, killed, started again on the same data and port.
//!
//! It never outlives the process that started it (see [`Supervised`]), connects to no other node, and has no wallet.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::build::tail;
use super::find::LocateError;
use super::rpc::{Rpc, RpcError};
use super::{locate, ports};
use crate::limits::{POLL_EVERY, PORT_TRIES, READY_WITHIN, RPC_QUEUE, RPC_THREADS, STOP_WITHIN};
use crate::process::{Signal, Supervised};

/// How to start a bitcoind; the default is right for a test.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The program; `None` finds or builds one.
    pub program: Option<PathBuf>,
    /// Where it keeps its data, created if need be; `None` takes a folder that is removed in the end.
    pub datadir: Option<PathBuf>,
    /// Where it answers calls, by REST too; `None` takes a free port on 127.0.0.1.
    pub rpc_address: Option<SocketAddr>,
    /// More arguments, for instance `-maxmempool=5`; they come last, and so win over ours.
    pub arguments: Vec<String>,
}

/// Why a bitcoind could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is none to start.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// It ended while it was expected to start.
    #[error("bitcoind ended while starting ({status}); its last words in {log}:\n{tail}", log = log.display())]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of what it printed and logged.
        tail: String,
    },
    /// It did not answer in time.
    #[error("bitcoind did not answer within {within:?}; its last answer: {last}")]
    NotReady {
        /// How long was waited.
        within: Duration,
        /// What the last attempt gave.
        last: String,
    },
    /// It runs, but another chain.
    #[error("bitcoind runs on the network {chain:?}; expected \"regtest\"")]
    OtherNetwork {
        /// The network it runs on.
        chain: String,
    },
    /// It was asked to stop and did not.
    #[error("bitcoind did not stop within {within:?}")]
    NotStopped {
        /// How long was waited.
        within: Duration,
    },
    /// A call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl NodeError {
    fn system(action: &'static str) -> impl FnOnce(io::Error) -> NodeError {
        move |source| NodeError::System { action, source }
    }
}

enum Datadir {
    /// Removed when the node is dropped.
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Datadir {
    fn path(&self) -> &Path {
        match self {
            Datadir::Temporary(folder) => folder.path(),
            Datadir::Given(path) => path,
        }
    }
}

/// A bitcoind of ours, running or stopped. Killed when dropped, and when this process dies.
pub struct Bitcoind {
    // Before the folder, so that it is dropped, and with it killed, before the folder is removed.
    process: Option<Supervised>,
    datadir: Datadir,
    program: PathBuf,
    arguments: Vec<String>,
    rpc: Rpc,
}

impl Bitcoind {
    /// Starts a bitcoind and waits until it answers.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(options: Options) -> Result<Bitcoind, NodeError> {
        let program = match options.program {
            Some(program) => program,
            None => locate()?.path,
        };
        let datadir = match options.datadir {
            Some(path) => {
                std::fs::create_dir_all(&path).map_err(NodeError::system("create the data folder"))?;
                Datadir::Given(std::path::absolute(path).map_err(NodeError::system("find the data folder"))?)
            }
            None => Datadir::Temporary(tempfile::tempdir().map_err(NodeError::system("create a folder"))?),
        };
        let cookie = datadir.path().join("regtest").join(".cookie");
        let unused = || ports::unused().map_err(NodeError::system("find a free port"));
        let address = options.rpc_address.map_or_else(unused, Ok)?;
        let rpc = Rpc::new(address, &cookie);
        let mut node = Bitcoind { process: None, datadir, program, arguments: options.arguments, rpc };
        let mut tries = PORT_TRIES;
        loop {
            match node.start_again() {
                Err(NodeError::Ended { tail, .. })
                    if options.rpc_address.is_none() && tries > 1 && names_port_in_use(&tail) =>
                {
                    tries -= 1;
                    node.rpc = Rpc::new(unused()?, &cookie);
                }
                outcome => return outcome.map(|()| node),
            }
        }
    }

    /// Calls this node. The client stays good over restarts; clone it to keep it.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Where it answers calls, for instance `http://127.0.0.1:20123`; REST lies under the same address.
    pub fn url(&self) -> String {
        format!("http://{}", self.rpc.address())
    }

    /// The file with user and password for calls, written anew at each start.
    pub fn cookie_file(&self) -> &Path {
        self.rpc.cookie_file()
    }

    /// Where its data lies.
    pub fn datadir(&self) -> &Path {
        self.datadir.path()
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Supervised::id)
    }

    /// Asks it to stop and waits until it has written everything and ended. Does nothing if it does not run.
    ///
    /// # Errors
    /// [`NodeError::Rpc`] if it cannot be asked, [`NodeError::NotStopped`] if it does not end; it then still runs.
    pub fn stop(&mut self) -> Result<(), NodeError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if process.try_exit().map_err(NodeError::system("look after bitcoind"))?.is_none() {
            self.rpc.rpc("stop", json!([]))?;
            let status = process.wait_exit(STOP_WITHIN).map_err(NodeError::system("wait for bitcoind"))?;
            status.ok_or(NodeError::NotStopped { within: STOP_WITHIN })?;
        }
        self.process = None;
        Ok(())
    }

    /// Kills it with SIGKILL: no file is written any more. Does nothing if it does not run.
    ///
    /// # Errors
    /// [`NodeError::System`].
    pub fn kill(&mut self) -> Result<(), NodeError> {
        if let Some(mut process) = self.process.take() {
            process.kill().map_err(NodeError::system("kill bitcoind"))?;
        }
        Ok(())
    }

    /// Stops it cleanly if it runs, and starts it on the same data and the same port.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn restart(&mut self) -> Result<(), NodeError> {
        self.stop()?;
        self.start_again()
    }

    /// The same with other arguments (see [`Options::arguments`]) than before.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn restart_with(&mut self, arguments: Vec<String>) -> Result<(), NodeError> {
        self.stop()?;
        self.arguments = arguments;
        self.start_again()
    }

    /// Freezes it: it keeps its connections and answers nothing, until [`Bitcoind::resume`].
    ///
    /// # Errors
    /// [`NodeError::System`].
    pub fn freeze(&mut self) -> Result<(), NodeError> {
        self.signal(Signal::Freeze)
    }

    /// Lets it go on after [`Bitcoind::freeze`].
    ///
    /// # Errors
    /// [`NodeError::System`].
    pub fn resume(&mut self) -> Result<(), NodeError> {
        self.signal(Signal::Resume)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), NodeError> {
        match &mut self.process {
            Some(process) => process.signal(signal).map_err(NodeError::system("signal bitcoind")),
            None => Ok(()),
        }
    }

    /// Starts it after [`Bitcoind::stop`] or [`Bitcoind::kill`], on the same data and the same port. Does nothing if it
    /// runs.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start_again(&mut self) -> Result<(), NodeError> {
        if let Some(process) = &mut self.process
            && process.try_exit().map_err(NodeError::system("look after bitcoind"))?.is_none()
        {
            return Ok(());
        }
        let output = self.open_output().map_err(NodeError::system("open bitcoind's log"))?;
        let errors = output.try_clone().map_err(NodeError::system("open bitcoind's log"))?;
        let process = Supervised::spawn(&self.command(), Stdio::from(output), Stdio::from(errors))
            .map_err(NodeError::system("start bitcoind"))?;
        self.process = Some(process);
        let outcome = self.wait_until_ready();
        if outcome.is_err() {
            self.process = None;
        }
        outcome
    }

    /// Everything it says goes to one file, which each start begins anew.
    fn log(&self) -> PathBuf {
        self.datadir().join("bitcoind.log")
    }

    fn open_output(&self) -> io::Result<File> {
        File::create(self.log())?;
        OpenOptions::new().append(true).open(self.log())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let mut datadir = OsString::from("-datadir=");
        datadir.push(self.datadir());
        command.arg("-regtest").arg(datadir);
        let address = self.rpc.address();
        command.args([
            "-server",
            "-rest",
            &format!("-rpcbind={}", address.ip()),
            &format!("-rpcallowip={}", address.ip()),
            &format!("-rpcport={}", address.port()),
            &format!("-rpcthreads={RPC_THREADS}"),
            &format!("-rpcworkqueue={RPC_QUEUE}"),
            // No other nodes: none to listen for, to look for, or to wait for.
            "-listen=0",
            "-connect=0",
            "-dnsseed=0",
            "-fixedseeds=0",
            "-natpmp=0",
            // A bitcoind from elsewhere may have a wallet, which only takes time to start.
            "-disablewallet",
            // Regtest would check its mempool and block index at every step, 2 ms a transaction under load.
            "-checkmempool=0",
            "-checkblockindex=0",
            "-printtoconsole=1",
            "-nodebuglogfile",
        ]);
        command.args(&self.arguments);
        // The child stays usable if this process's folder goes away.
        command.current_dir(self.datadir());
        command
    }

    fn wait_until_ready(&mut self) -> Result<(), NodeError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_exit().map_err(NodeError::system("look after bitcoind"))?
            {
                return Err(NodeError::Ended { status, log: self.log(), tail: tail(&self.log()) });
            }
            match self.rpc.rpc("getblockchaininfo", json!([])) {
                Ok(info) => return expect_regtest(&info),
                Err(error) if !error.is_starting() => return Err(error.into()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(NodeError::NotReady { within: READY_WITHIN, last: error.to_string() });
                }
                Err(_) => std::thread::sleep(POLL_EVERY),
            }
        }
    }
}

impl std::fmt::Debug for Bitcoind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitcoind({}, {})", self.rpc.address(), self.datadir().display())
    }
}

fn expect_regtest(info: &Value) -> Result<(), NodeError> {
    let chain = info["chain"].as_str().unwrap_or_default();
    if chain == "regtest" { Ok(()) } else { Err(NodeError::OtherNetwork { chain: chain.to_owned() }) }
}

/// bitcoind exits when no RPC address can be listened on; the words differ between versions.
fn names_port_in_use(tail: &str) -> bool {
    tail.contains("Unable to bind") || tail.contains("Unable to start HTTP server")
}

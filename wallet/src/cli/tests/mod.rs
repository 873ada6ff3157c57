//! The command line against a daemon that plays a script.

mod daemon_played;
mod failures;
mod init;
mod parse;
mod results;
mod samples;
mod tables;

use std::fs::Permissions;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use daemon::data_dir::write_public;
use daemon::token::Token;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::args::Cli;
use super::terminal::Terminal;
use crate::data_dir::{Layout, PROGRAM};
use daemon_played::Played;

/// A wallet's folder and the daemon played for it.
struct Stage {
    folder: TempDir,
    played: Arc<Played>,
    runtime: Option<Runtime>,
}

impl Stage {
    fn new() -> Stage {
        let mut stage =
            Stage { folder: private_folder(), played: Arc::new(Played::default()), runtime: None };
        stage.start();
        stage
    }

    fn layout(&self) -> Layout {
        Layout::new(self.folder.path())
    }

    /// Starts the daemon on a free port, another one each time.
    fn start(&mut self) {
        let token = Token::load_or_create(&self.layout().token(), &PROGRAM).unwrap();
        self.runtime = Some(serve(self.folder.path(), token, Arc::clone(&self.played)));
    }

    /// Ends the daemon at once, its connections with it, as SIGKILL would.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(30));
        }
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(self.folder.path(), args, "", false)
    }

    /// The one JSON value that the command prints.
    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        assert_eq!(ran.err, "", "{args:?}");
        assert_eq!(ran.out.lines().count(), 1, "{args:?}: {}", ran.out);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// What the command prints for eyes.
    fn text(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        ran.out
    }

    /// The JSON lines that the command prints.
    fn lines(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}

fn private_folder() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// Serves on a free port and writes it into the folder, as a daemon does.
fn serve(folder: &Path, token: Token, played: Arc<Played>) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(daemon_played::serve(listener, token, played));
    write_public(&Layout::new(folder).address(), address.to_string().as_bytes()).unwrap();
    runtime
}

/// What a command left behind.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    /// The error as scripts read it.
    fn error(&self) -> Value {
        serde_json::from_str::<Value>(&self.err).unwrap()["error"].clone()
    }
}

/// Runs a command on a folder. `asks`: as if somebody sat at a terminal and typed the input.
fn run(folder: &Path, args: &[&str], input: &str, asks: bool) -> Ran {
    let folder = folder.to_str().unwrap();
    let cli = Cli::try_parse_from([&["hubwallet", "--data-dir", folder], args].concat()).unwrap();
    let (mut input, mut out, mut err) = (Cursor::new(input.as_bytes()), Vec::new(), Vec::new());
    let mut terminal =
        Terminal { input: &mut input, out: &mut out, err: &mut err, json: cli.json, asks, draws: false };
    let code = match super::run(&cli, &mut terminal) {
        Ok(()) => 0,
        Err(failure) => {
            terminal.fail(&failure);
            failure.exit.code()
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

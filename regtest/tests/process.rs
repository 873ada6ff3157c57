//! Supervised processes: none outlives the process that started it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use regtest::process::{Signal, Supervised};
use regtest::wait;

const SOON: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn spawn(script: &str) -> Supervised {
    Supervised::spawn(&shell(script), Stdio::piped(), Stdio::inherit()).expect("sh starts")
}

fn is_running(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn the_program_gets_its_arguments_and_environment_and_its_status_comes_back() {
    let mut command = shell(r#"printf '%s|%s|' "$1" "$GREETING"; cat; pwd; exit 7"#);
    command.args(["sh", "one  two 'three'"]).env("GREETING", "hello world").current_dir("/");
    let mut process = Supervised::spawn(&command, Stdio::piped(), Stdio::inherit()).unwrap();
    let mut output = String::new();
    process.take_stdout().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(output, "one  two 'three'|hello world|/\n");
    assert_eq!(process.wait_exit(SOON).unwrap().unwrap().code(), Some(7));
    // The status stays, and a signal to what has ended is no error.
    assert_eq!(process.kill().unwrap().code(), Some(7));
    process.signal(Signal::Terminate).unwrap();
}

#[test]
fn the_process_id_is_that_of_the_program() {
    let mut process = spawn("echo $$; exec cat /dev/zero >/dev/null");
    let mut line = String::new();
    BufReader::new(process.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), process.id().to_string());
}

#[test]
fn signals_reach_the_program() {
    let mut process = spawn("trap 'echo caught; exit 3' TERM; echo ready; while :; do :; done");
    let mut output = BufReader::new(process.take_stdout().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert!(process.try_exit().unwrap().is_none());
    process.signal(Signal::Terminate).unwrap();
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "caught\n");
    assert_eq!(process.wait_exit(SOON).unwrap().unwrap().code(), Some(3));
}

#[test]
fn a_dropped_process_is_gone() {
    let process = spawn("exec cat /dev/zero >/dev/null");
    let id = process.id();
    assert!(is_running(id));
    drop(process);
    assert!(!is_running(id));
}

#[test]
fn a_program_that_does_not_exist_ends_with_127() {
    let command = Command::new("/no/such/program");
    let mut process = Supervised::spawn(&command, Stdio::null(), Stdio::null()).unwrap();
    assert_eq!(process.wait_exit(SOON).unwrap().unwrap().code(), Some(127));
}

/// The parent is `regtest chain`, killed with SIGKILL so that it can tidy up nothing.
#[test]
fn bitcoind_dies_with_a_parent_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_regtest"));
    command.args(["chain", "--json", "--datadir"]).arg(folder.path());
    let mut parent = Supervised::spawn(&command, Stdio::piped(), Stdio::inherit()).unwrap();
    let mut line = String::new();
    BufReader::new(parent.take_stdout().unwrap()).read_line(&mut line).unwrap();
    let chain: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(chain["height"], 109);
    let id = std::fs::read_to_string(folder.path().join("regtest/bitcoind.pid")).unwrap();
    let id: u32 = id.trim().parse().unwrap();
    assert!(is_running(id));
    parent.kill().unwrap();
    wait::until("bitcoind's end", SOON, || (!is_running(id)).then_some(())).unwrap();
}

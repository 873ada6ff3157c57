//! What can be typed, and what the help teaches.

use clap::{CommandFactory, Parser};

use crate::cli::args::Cli;

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const ID: &str = "018f3b6e-8f4a-7c3d-9b1a-0242ac120002";

fn is_accepted(line: &str) -> bool {
    let line = line.replace("KEY", KEY).replace("ID", ID);
    Cli::try_parse_from(std::iter::once("hubwallet").chain(line.split_whitespace())).is_ok()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_takes_what_its_help_says() {
    for line in [
        "daemon",
        "daemon --listen 127.0.0.1:0 --log debug --set channels.minimum_depth=3 --set log.filter=info",
        "init --hub-address h:1 --hub-node-key KEY --bitcoind-url http://b:1 --bitcoind-cookie /c --network regtest",
        "init --bitcoind-cookie-file /c --words",
        "restore --hub-address h:1 --hub-node-key KEY",
        "restore --hub-node-key KEY --words legal --birthday-height 100",
        "scan",
        "info",
        "address",
        "open --amount-sat 1000000",
        "open --inbound-sat 1000000 --wait-seconds 60 --request-id ID",
        "open --inbound-sat 1000000 --max-fee-sat 2000",
        "invoice",
        "invoice --amount-msat 1 --description tea --expiry-seconds 60",
        "decode lnbcrt1",
        "pay lnbcrt1",
        "pay lnbcrt1 --amount-sat 100 --max-fee-msat 0 --wait-seconds 5 --request-id ID",
        "send KEY --amount-msat 1",
        "stream KEY --amount-msat 100 --ticks 1000 --ticks-per-second 50 --max-in-flight 10",
        "channels",
        "channels --closed",
        "balance",
        "payments --direction received --limit 5",
        "streams --limit 5",
        "events",
        "events --from 118 --follow",
        "close 5f0c",
        "close --all --wait-seconds 60",
        "stop",
    ] {
        assert!(is_accepted(line), "{line}");
        assert!(is_accepted(&format!("{line} --json --data-dir /w")), "{line}");
        assert!(is_accepted(&format!("--json --data-dir /w {line}")), "{line}");
    }
}

#[test]
fn what_is_missing_or_contradicts_itself_is_refused() {
    for line in [
        "",
        "dance",
        "daemon --set listen",
        "open",
        "open --amount-sat 1 --inbound-sat 1",
        "open --amount-sat 1 --max-fee-sat 1",
        "open --amount-sat 0",
        "open --amount-sat -1",
        "open --amount-sat 1 --request-id 7",
        "invoice --amount-msat 1 --amount-sat 1",
        "invoice --amount-msat 0",
        "invoice --expiry-seconds 0",
        "invoice --expiry-seconds 31536001",
        "settle",
        "settle 0404",
        "cancel 0404",
        "decode",
        "pay",
        "send KEY",
        "send --amount-msat 1",
        "send 02ab --amount-msat 1",
        "stream KEY --amount-msat 1",
        "stream KEY --ticks 1",
        "stream KEY --amount-msat 1 --ticks 0",
        "stream KEY --amount-msat 1 --ticks 1000000001",
        "payments --direction sideways",
        "payments --limit 0",
        "events --from 0",
        "close",
        "close 5f0c --all",
        "close --all --request-id ID",
    ] {
        assert!(!is_accepted(line), "{line}");
    }
}

#[test]
fn every_command_teaches_with_an_example_and_explains_every_argument() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("hubwallet {name}")), "{name}: {help}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
        }
    }
}

#[test]
fn the_help_documents_every_exit_code() {
    use crate::cli::failure::Exit;
    let help = Cli::command().get_after_help().map(ToString::to_string).unwrap_or_default();
    for exit in [
        Exit::Fault,
        Exit::Usage,
        Exit::NoDaemon,
        Exit::Token,
        Exit::Refused,
        Exit::Failed,
        Exit::Later,
        Exit::Unknown,
    ] {
        assert!(help.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
    }
}

//! `daemon`: the configuration that file, variables and flags make together, the log, and the runtime.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;

use super::args::DaemonArgs;
use super::failure::{Exit, Failure};
use super::init::whole_path;
use crate::config::{self, Override};
use crate::core::start::StartError;
use crate::daemon::{self, DaemonError};
use crate::data_dir::{DataDirError, Layout};

/// Threads of the runtime: calls, the hub's connection and the chain, none of which computes for long.
const THREADS: usize = 2;

pub fn run(args: &DaemonArgs, root: &Path, json: bool) -> Result<(), Failure> {
    let layout = Layout::new(root);
    if !layout.seed().exists() {
        return Err(DataDirError::NoWallet { root: root.to_owned() }.into());
    }
    let overrides = overrides(args)?;
    let checked = config::load_with(&layout.config(), &overrides)?;
    start_log(&checked.config.log.filter, json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(daemon::run(root, &overrides)).map_err(Failure::from)
}

/// Named flags after `--set`: what is said by name wins.
fn overrides(args: &DaemonArgs) -> Result<Vec<Override>, Failure> {
    let given = &args.overrides;
    let cookie = given.bitcoind_cookie.as_deref().map(whole_path).transpose()?;
    let named = [
        ("--listen", "listen", given.listen.clone()),
        ("--network", "network", given.network.clone()),
        ("--hub-address", "hub.address", given.hub_address.clone()),
        ("--hub-node-key", "hub.node_key", given.hub_node_key.clone()),
        ("--bitcoind-url", "bitcoind.url", given.bitcoind_url.clone()),
        ("--bitcoind-cookie", "bitcoind.cookie", cookie),
        ("--log", "log.filter", args.log.clone()),
    ];
    let named = named.into_iter().filter_map(|(origin, key, value)| {
        value.map(|value| Override { origin: origin.to_owned(), key: key.to_owned(), value: value.into() })
    });
    Ok(args.set.iter().map(|setting| setting.0.clone()).chain(named).collect())
}

/// Logs go to standard error, as text or as one JSON object a line. A second start in one process (tests) changes nothing.
fn start_log(filter: &str, json: bool) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        let expected = "a level (error, warn, info, debug, trace) or module=level, separated by commas";
        Failure::usage(format!("log.filter is {filter:?}, expected {expected}: {error}"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // An error means that logging runs already.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
    Ok(())
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::DataDir(error) => error.into(),
            DaemonError::Config(error) => error.into(),
            DaemonError::Start(start) if matches!(*start, StartError::Fault(_)) => {
                Failure::new(Exit::Fault, "FAULT", start.to_string())
            }
            DaemonError::Start(_) => Failure::new(Exit::NoDaemon, "CANNOT_START", error.to_string()),
            DaemonError::Listen { .. } => Failure::new(Exit::NoDaemon, "CANNOT_LISTEN", error.to_string())
                .advise("choose another with --listen; 127.0.0.1:0 takes a free port"),
            DaemonError::Signals(_) | DaemonError::Fault(_) => {
                Failure::new(Exit::Fault, "FAULT", error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Command};
    use super::*;

    fn of(args: &[&str]) -> Vec<(String, String)> {
        let cli = Cli::try_parse_from(["hubwallet", "daemon"].iter().chain(args)).unwrap();
        let Command::Daemon(args) = cli.command else { panic!("not the daemon") };
        let all = overrides(&args).unwrap();
        all.into_iter().map(|given| (given.key, given.value.to_string())).collect()
    }

    #[test]
    fn flags_take_the_place_of_the_configurations_values_by_name() {
        let given = of(&["--set", "channels.minimum_depth=3", "--listen", "127.0.0.1:0", "--log", "debug"]);
        let expected =
            [("channels.minimum_depth", "3"), ("listen", "\"127.0.0.1:0\""), ("log.filter", "\"debug\"")];
        assert_eq!(given, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn every_flag_names_a_key_that_exists() {
        let key = SeedSigner::new(&[1; 64]).node_id().to_string();
        let all = of(&[
            "--listen",
            "127.0.0.1:0",
            "--network",
            "regtest",
            "--hub-address",
            "h:1",
            "--hub-node-key",
            &key,
            "--bitcoind-url",
            "http://b:1",
            "--bitcoind-cookie",
            "/c",
            "--log",
            "info",
        ]);
        let text = config::write(&config::Answers {
            listen: "127.0.0.1:0".into(),
            hub_address: "localhost:9735".into(),
            hub_node_key: key,
            bitcoind_url: "http://127.0.0.1:18443".into(),
            bitcoind_cookie: "/cookie".into(),
        });
        let mut table: toml::Table = text.parse().unwrap();
        for (key, _) in all {
            let place = match key.split_once('.') {
                Some((section, key)) => table[section].as_table_mut().unwrap().get(key),
                None => table.get(&key),
            };
            assert!(place.is_some(), "{key}");
        }
    }

    use channel::seed_signer::SeedSigner;
    use channel::signer::Signer;
}

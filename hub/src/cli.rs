//! The flags of `hubd` and the layers they become.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Layers, load};
use crate::data_dir::Layout;

/// A hub of payment channels.
///
/// Without a subcommand it serves until SIGTERM, SIGINT or `hubctl stop`. Everything that can be set is explained in the
/// file that `hubd --print-config` prints; a key `section.key` can also be set by the variable HUBD_SECTION_KEY or by
/// `--set section.key=value`.
#[derive(Debug, Parser)]
#[command(name = "hubd", version)]
pub struct Cli {
    /// Configuration file [default: hubd.toml in the data folder, if there]
    #[arg(long, value_name = "FILE", env = "HUBD_CONFIG", global = true)]
    config: Option<PathBuf>,

    /// Folder of seed, journal, certificate and token
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,

    /// Network; only regtest is accepted
    #[arg(long, value_name = "NAME", global = true)]
    network: Option<String>,

    /// Address for wallets; port 0 takes a free one, named in the data folder's file wallets.addr
    #[arg(long, value_name = "ADDR", global = true)]
    wallets_listen: Option<String>,

    /// Loopback address for hubctl; port 0 takes a free one, named in the data folder's file operator.addr
    #[arg(long, value_name = "ADDR", global = true)]
    operator_listen: Option<String>,

    /// bitcoind's RPC address
    #[arg(long, value_name = "URL", global = true)]
    bitcoind_url: Option<String>,

    /// bitcoind's cookie file
    #[arg(long, value_name = "FILE", global = true)]
    bitcoind_cookie_file: Option<PathBuf>,

    /// Threads that own channels; 0 takes one a core
    #[arg(long, value_name = "N", global = true)]
    shards: Option<usize>,

    /// What is logged, such as "info" or "info,hub=debug"
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,

    /// Log one JSON object a line
    #[arg(long, global = true)]
    log_json: bool,

    /// Set any key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    set: Vec<String>,

    /// Print the commented default configuration and exit
    #[arg(long)]
    pub print_config: bool,

    #[command(subcommand)]
    pub command: Option<Subcommands>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Subcommands {
    /// Turn the journal into snapshots and exit, without serving: before an upgrade of a hub that did not stop cleanly
    Checkpoint,
}

impl Cli {
    /// The configuration that flags, the given environment, file and defaults make together.
    pub fn config(&self, environment: Vec<(String, String)>) -> Result<Config, ConfigError> {
        let mut layers = Layers {
            file: self.config.clone(),
            variables: environment,
            flags: self.flags()?,
            ..Layers::default()
        };
        if layers.file.is_none() {
            // The default file lies in the data folder, which flags, variables and defaults must name.
            let data_dir = load(&layers)?.data_dir;
            layers.file_if_present = Some(Layout::new(data_dir).config());
        }
        load(&layers)
    }

    fn flags(&self) -> Result<Vec<(String, String, String)>, ConfigError> {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| toml_text(&path.to_string_lossy()));
        let plain = |value: &Option<String>| value.as_ref().map(|value| toml_text(value));
        let named = [
            ("--data-dir", "data_dir", text(&self.data_dir)),
            ("--network", "network", plain(&self.network)),
            ("--wallets-listen", "wallets.listen", plain(&self.wallets_listen)),
            ("--operator-listen", "operator.listen", plain(&self.operator_listen)),
            ("--bitcoind-url", "bitcoind.url", plain(&self.bitcoind_url)),
            ("--bitcoind-cookie-file", "bitcoind.cookie_file", text(&self.bitcoind_cookie_file)),
            ("--shards", "shards.threads", self.shards.map(|count| count.to_string())),
            ("--log", "log.filter", plain(&self.log)),
            ("--log-json", "log.json", self.log_json.then(|| "true".to_owned())),
        ];
        let mut flags = Vec::new();
        for assignment in &self.set {
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| ConfigError::WrongAssignment { found: assignment.clone() })?;
            flags.push(("--set".to_owned(), key.trim().to_owned(), value.trim().to_owned()));
        }
        for (flag, key, value) in named {
            if let Some(value) = value {
                flags.push((flag.to_owned(), key.to_owned(), value));
            }
        }
        Ok(flags)
    }
}

/// Quoted, so that a value that happens to be TOML of another kind stays text.
fn toml_text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

/// Parses the arguments, the program's name first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Cli {
        parse(std::iter::once("hubd").chain(args.iter().copied()).map(OsString::from)).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_reach_their_keys() {
        let cli = parsed(&[
            "--data-dir",
            "/1",
            "--log",
            "debug",
            "--log-json",
            "--shards",
            "3",
            "--set",
            "policy.fee_ppm=7",
        ]);
        let config = cli.config(Vec::new()).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/1"));
        assert_eq!(config.log.filter, "debug");
        assert!(config.log.json);
        assert_eq!(config.shards.count(), 3);
        assert_eq!(config.policy.fee_ppm, 7);
    }

    #[test]
    fn the_file_in_the_data_folder_is_read_without_being_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(Layout::new(folder.path()).config(), "[policy]\nfee_ppm = 9\n").unwrap();
        let config = parsed(&["--data-dir", folder.path().to_str().unwrap()]).config(Vec::new()).unwrap();
        assert_eq!(config.policy.fee_ppm, 9);
    }

    #[test]
    fn a_malformed_assignment_is_named() {
        let text = parsed(&["--set", "policy.fee_ppm"]).config(Vec::new()).unwrap_err().to_string();
        assert!(text.contains("KEY=VALUE"), "{text}");
    }

    #[test]
    fn checkpoint_takes_the_same_flags() {
        let cli = parsed(&["checkpoint", "--data-dir", "/1"]);
        assert_eq!(cli.command, Some(Subcommands::Checkpoint));
    }
}

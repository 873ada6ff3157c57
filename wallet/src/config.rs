//! The wallet's configuration: `wallet.toml` in the data folder, and what the command line sets on top. `init` writes it with
//! every key explained; unknown keys are refused, so that a typing error is not a silent default.

use std::path::{Path, PathBuf};

use bitcoin::Network;
use channel::amount::Msat;
use channel::keys::Point;
use channel::policy::Policy;
use serde::Deserialize;

use crate::ledger::Settings;

/// The file, as `init` writes it. `{...}` are filled in.
const TEMPLATE: &str = r#"# Configuration of a hubwallet. Lines that begin with # are comments; the values shown are the defaults unless a key is needed.

# The bitcoin network. This version knows regtest only.
network = "regtest"

# Where the daemon listens for commands and scripts; loopback only. Port 0: any free one (it is written to wallet.addr).
listen = "{listen}"

[hub]
# Host and port of the hub's wallet-facing listener.
address = "{hub_address}"
# The hub's node key, 66 hexadecimal digits (`hubctl info` shows it). The connection is refused to anybody else.
node_key = "{hub_node_key}"

[bitcoind]
# RPC address of your bitcoind.
url = "{bitcoind_url}"
# Its cookie file. Leave it empty to use user and password instead.
cookie = "{bitcoind_cookie}"
user = ""
password = ""
# How often it is asked for a new block, in milliseconds (50 to 60,000).
poll_ms = 250

[channels]
# Blocks the hub must wait for its own money after it closes a channel alone (1 to 2,016). In that time this wallet must come
# online once, to punish an old state; longer is safer for whoever is often offline.
to_self_delay_blocks = 2016
# Most blocks this wallet accepts to wait after closing alone.
max_to_self_delay_blocks = 2016
# Confirmations of a funding transaction before the channel is used.
minimum_depth = 1
# Most satoshi a cooperative close may cost this wallet.
max_closing_fee_sat = 10000
# Most msat that tiny HTLCs (without an output on the chain) may put at risk in one channel.
max_dust_htlc_exposure_msat = 5000000
# Seconds after a start in which nothing is published that the hub has not confirmed since (0 to 600): a wallet that runs from an
# old copy of its data learns that from the hub, and must not have published what is revoked.
proof_wait_seconds = 60

[payments]
# Highest fee without being asked: the greater of these two.
max_fee_msat = 5000
max_fee_percent = 5
# Blocks that a payment to this wallet must have left when it arrives (18 to 1,000): the time to take it on the chain if the hub
# does not give it up. Invoices ask for it.
min_final_expiry_blocks = 18
# Take payments without an invoice (`hubwallet send`).
accept_spontaneous = true
# Ticks of a stream in flight at a time, unless asked for otherwise (1 to 5,000).
stream_window = 500

[disk]
# Below so much free space where the data folder lies, in MiB, new channels, invoices, payments and streams are refused; what is
# under way goes on (1 to 1,073,741,824).
headroom_mib = 64

[onchain]
# Addresses beyond the last used one that coins are found at (20 to 10,000). More after a restore if many were given out and never
# paid.
address_gap = 200

[log]
# What the daemon writes to standard error, e.g. "info" or "wallet=debug,info".
filter = "info"
"#;

/// What `restore` adds to the file.
const RESTORED: &str = r"
[restore]
# This wallet was restored from its words. No block below this height holds anything of it: coins, and channels that the hub
# names, are looked for from here on.
birthday_height = {birthday_height}
";

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub network: String,
    pub listen: String,
    pub hub: HubConfig,
    pub bitcoind: BitcoindConfig,
    #[serde(default)]
    pub channels: ChannelsConfig,
    #[serde(default)]
    pub payments: PaymentsConfig,
    #[serde(default)]
    pub disk: DiskConfig,
    #[serde(default)]
    pub onchain: OnchainConfig,
    #[serde(default)]
    pub log: LogConfig,
    #[serde(default)]
    pub restore: RestoreConfig,
}

/// Of a wallet that was restored from its words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreConfig {
    /// Height below which no block holds anything of this wallet; none for a wallet that was made here.
    pub birthday_height: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    pub address: String,
    pub node_key: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitcoindConfig {
    pub url: String,
    #[serde(default)]
    pub cookie: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub password: String,
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
}

impl std::fmt::Debug for BitcoindConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BitcoindConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

fn default_poll_ms() -> u64 {
    250
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelsConfig {
    pub to_self_delay_blocks: u16,
    pub max_to_self_delay_blocks: u16,
    pub minimum_depth: u32,
    pub max_closing_fee_sat: u64,
    pub max_dust_htlc_exposure_msat: u64,
    pub proof_wait_seconds: u64,
}

impl Default for ChannelsConfig {
    fn default() -> Self {
        ChannelsConfig {
            to_self_delay_blocks: 2_016,
            max_to_self_delay_blocks: 2_016,
            minimum_depth: 1,
            max_closing_fee_sat: 10_000,
            max_dust_htlc_exposure_msat: 5_000_000,
            proof_wait_seconds: settlement::limits::PROOF_WAIT.as_secs(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaymentsConfig {
    pub max_fee_msat: u64,
    pub max_fee_percent: u32,
    pub min_final_expiry_blocks: u32,
    pub accept_spontaneous: bool,
    pub stream_window: u32,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        PaymentsConfig {
            max_fee_msat: 5_000,
            max_fee_percent: 5,
            min_final_expiry_blocks: channel::limits::MIN_FINAL_EXPIRY_BLOCKS,
            accept_spontaneous: true,
            stream_window: 500,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    pub headroom_mib: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        DiskConfig { headroom_mib: crate::limits::DISK_HEADROOM_MIB }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnchainConfig {
    pub address_gap: u32,
}

impl Default for OnchainConfig {
    fn default() -> Self {
        OnchainConfig { address_gap: settlement::limits::ADDRESS_GAP }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { filter: "info".to_owned() }
    }
}

/// What `init` fills in.
#[derive(Clone, Debug)]
pub struct Answers {
    pub listen: String,
    pub hub_address: String,
    pub hub_node_key: String,
    pub bitcoind_url: String,
    pub bitcoind_cookie: String,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be understood: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },
    #[error("{origin} sets {key} to {found:?}; expected {expected}")]
    WrongOverride { origin: String, key: String, found: String, expected: String },
    #[error("{key} in {} is {found:?}; expected {expected}", path.display())]
    WrongValue { path: PathBuf, key: &'static str, found: String, expected: &'static str },
}

/// The text of a new configuration file.
pub fn write(answers: &Answers) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    TEMPLATE
        .replace("{listen}", &quoted(&answers.listen))
        .replace("{hub_address}", &quoted(&answers.hub_address))
        .replace("{hub_node_key}", &quoted(&answers.hub_node_key))
        .replace("{bitcoind_url}", &quoted(&answers.bitcoind_url))
        .replace("{bitcoind_cookie}", &quoted(&answers.bitcoind_cookie))
}

/// The same for a wallet that is restored from its words.
pub fn write_restored(answers: &Answers, birthday_height: u32) -> String {
    write(answers) + &RESTORED.replace("{birthday_height}", &birthday_height.to_string())
}

/// A value that a flag or a variable sets in place of the file's.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Where it was given, for messages: `--listen`.
    pub origin: String,
    /// `section.key`, or the key alone at the top of the file.
    pub key: String,
    pub value: toml::Value,
}

/// A configuration whose values were all checked.
#[derive(Clone, Debug)]
pub struct Checked {
    pub config: Config,
    pub network: Network,
    pub hub: Point,
    pub listen: std::net::SocketAddr,
    pub settings: Settings,
    pub policy: Policy,
}

/// Reads and checks the file.
pub fn load(path: &Path) -> Result<Checked, ConfigError> {
    load_with(path, &[])
}

/// Reads the file, puts the overrides on top, the last of a key winning, and checks the whole.
pub fn load_with(path: &Path, overrides: &[Override]) -> Result<Checked, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse_with(path, &text, overrides)
}

/// Checks the text of a configuration; `path` is for messages.
pub fn parse(path: &Path, text: &str) -> Result<Checked, ConfigError> {
    parse_with(path, text, &[])
}

fn parse_with(path: &Path, text: &str, overrides: &[Override]) -> Result<Checked, ConfigError> {
    let not_toml = |reason: String| ConfigError::NotToml { path: path.to_owned(), reason };
    let mut config: Config = toml::from_str(text).map_err(|error| not_toml(error.to_string()))?;
    if !overrides.is_empty() {
        // The file was understood by itself, so what is wrong from here on comes from the override just put in.
        let mut table: toml::Table = text.parse().map_err(|error| not_toml(format!("{error}")))?;
        for value in overrides {
            set(&mut table, value)?;
            config = table.clone().try_into().map_err(|error: toml::de::Error| {
                wrong_override(value, error.message().trim_end().to_owned())
            })?;
        }
    }
    check(path, config)
}

fn wrong_override(given: &Override, expected: String) -> ConfigError {
    let found = given.value.to_string();
    ConfigError::WrongOverride { origin: given.origin.clone(), key: given.key.clone(), found, expected }
}

/// Puts one value in. A section that the file leaves out is made; whether the key exists is found when the table is read.
fn set(table: &mut toml::Table, given: &Override) -> Result<(), ConfigError> {
    let (section, key) = match given.key.split_once('.') {
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            (section.as_table_mut(), key)
        }
        None => (Some(table), given.key.as_str()),
    };
    let section = section.ok_or_else(|| wrong_override(given, "a key of wallet.toml".to_owned()))?;
    section.insert(key.to_owned(), given.value.clone());
    Ok(())
}

fn check(path: &Path, config: Config) -> Result<Checked, ConfigError> {
    let wrong = |key, found: &dyn ToString, expected| ConfigError::WrongValue {
        path: path.to_owned(),
        key,
        found: found.to_string(),
        expected,
    };
    if config.network != "regtest" {
        return Err(wrong("network", &config.network, "\"regtest\", the only network of this version"));
    }
    let listen: std::net::SocketAddr = config
        .listen
        .parse()
        .map_err(|_| wrong("listen", &config.listen, "an address and port, such as 127.0.0.1:0"))?;
    if !listen.ip().is_loopback() {
        return Err(wrong("listen", &config.listen, "a loopback address: the daemon holds money"));
    }
    let key = "66 hexadecimal digits, the hub's node key (`hubctl info` shows it)";
    let hub: Point = config
        .hub
        .node_key
        .parse::<Point>()
        .ok()
        .filter(|point| point.parse().is_ok())
        .ok_or_else(|| wrong("hub.node_key", &config.hub.node_key, key))?;
    if config.hub.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(wrong("hub.address", &config.hub.address, "host:port of the hub's listener for wallets"));
    }
    if config.bitcoind.cookie.is_empty() && config.bitcoind.user.is_empty() {
        return Err(wrong("bitcoind.cookie", &"", "bitcoind's cookie file, or a user and a password"));
    }
    if !(50..=60_000).contains(&config.bitcoind.poll_ms) {
        return Err(wrong("bitcoind.poll_ms", &config.bitcoind.poll_ms, "50 to 60,000"));
    }
    let window = config.payments.stream_window;
    if !(1..=crate::limits::MAX_TICKS_IN_FLIGHT).contains(&window) {
        return Err(wrong("payments.stream_window", &window, "1 to 5,000"));
    }
    let least = config.payments.min_final_expiry_blocks;
    if !(channel::limits::MIN_FINAL_EXPIRY_BLOCKS..=1_000).contains(&least) {
        let expected = "18 to 1,000: with less, a payment could expire before it is claimed on the chain";
        return Err(wrong("payments.min_final_expiry_blocks", &least, expected));
    }
    let delay = config.channels.to_self_delay_blocks;
    if !(channel::limits::MIN_TO_SELF_DELAY_BLOCKS..=channel::limits::MAX_TO_SELF_DELAY_BLOCKS)
        .contains(&delay)
    {
        return Err(wrong("channels.to_self_delay_blocks", &delay, "1 to 2,016"));
    }
    let depth = config.channels.minimum_depth;
    if !(1..=channel::limits::MAX_MINIMUM_DEPTH).contains(&depth) {
        return Err(wrong("channels.minimum_depth", &depth, "1 to 200"));
    }
    let headroom = config.disk.headroom_mib;
    if !(1..=crate::limits::MAX_DISK_HEADROOM_MIB).contains(&headroom) {
        return Err(wrong("disk.headroom_mib", &headroom, "1 to 1,073,741,824"));
    }
    let amount =
        |key, msat| Msat::new(msat).ok_or_else(|| wrong(key, &msat, "at most 21 million bitcoin in msat"));
    let settings = Settings {
        network: Network::Regtest,
        min_final_expiry_blocks: least,
        max_fee_msat: amount("payments.max_fee_msat", config.payments.max_fee_msat)?,
        max_fee_percent: config.payments.max_fee_percent,
        accept_spontaneous: config.payments.accept_spontaneous,
        stream_window: window,
    };
    let wait = config.channels.proof_wait_seconds;
    if wait > 600 {
        return Err(wrong("channels.proof_wait_seconds", &wait, "0 to 600"));
    }
    let gap = config.onchain.address_gap;
    if !settlement::limits::ADDRESS_GAPS.contains(&gap) {
        return Err(wrong("onchain.address_gap", &gap, "20 to 10,000"));
    }
    let exposure = config.channels.max_dust_htlc_exposure_msat;
    let policy = policy(&config.channels, amount("channels.max_dust_htlc_exposure_msat", exposure)?);
    Ok(Checked { network: Network::Regtest, hub, listen, settings, policy, config })
}

/// What a wallet asks of its channels. It forwards nothing, so it takes no fee.
fn policy(channels: &ChannelsConfig, exposure: Msat) -> Policy {
    Policy {
        fee_base_msat: 0,
        fee_ppm: 0,
        cltv_expiry_delta: 0,
        max_cltv_expiry_delta: 2_016,
        min_cltv_expiry_ahead: 2,
        htlc_minimum_msat: Msat::from_u32(1),
        max_in_flight_percent: 100,
        max_accepted_htlcs: 114,
        max_accepted_dust_htlcs: channel::limits::MAX_DUST_HTLCS,
        max_dust_htlc_exposure_msat: exposure,
        dust_limit_sat: channel::limits::MIN_DUST_LIMIT.to_sat(),
        to_self_delay_blocks: channels.to_self_delay_blocks,
        max_to_self_delay_blocks: channels.max_to_self_delay_blocks,
        minimum_depth: channels.minimum_depth,
        min_capacity_sat: 20_000,
        max_capacity_sat: bitcoin::Amount::MAX_MONEY.to_sat(),
        max_closing_fee_sat: channels.max_closing_fee_sat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use channel::signer::Signer;

    fn good() -> String {
        write(&Answers {
            listen: "127.0.0.1:0".into(),
            hub_address: "localhost:9735".into(),
            hub_node_key: channel::seed_signer::SeedSigner::new(&[1; 64]).node_id().to_string(),
            bitcoind_url: "http://127.0.0.1:18443".into(),
            bitcoind_cookie: "/tmp/with \"quotes\"/.cookie".into(),
        })
    }

    #[test]
    fn what_init_writes_is_understood_and_agrees_with_the_defaults() {
        let checked = parse(Path::new("wallet.toml"), &good()).unwrap();
        assert_eq!(checked.config.bitcoind.cookie, "/tmp/with \"quotes\"/.cookie");
        let channels = ChannelsConfig::default();
        assert_eq!(checked.config.channels.to_self_delay_blocks, channels.to_self_delay_blocks);
        assert_eq!(checked.config.channels.max_dust_htlc_exposure_msat, channels.max_dust_htlc_exposure_msat);
        assert_eq!(checked.config.channels.proof_wait_seconds, channels.proof_wait_seconds);
        assert_eq!(checked.config.payments.stream_window, PaymentsConfig::default().stream_window);
        assert_eq!(checked.config.disk.headroom_mib, DiskConfig::default().headroom_mib);
        assert_eq!(checked.config.onchain.address_gap, OnchainConfig::default().address_gap);
    }

    fn given(key: &str, value: impl Into<toml::Value>) -> Override {
        Override { origin: "--set".to_owned(), key: key.to_owned(), value: value.into() }
    }

    #[test]
    fn overrides_take_the_place_of_the_files_values_and_the_last_wins() {
        let path = Path::new("wallet.toml");
        let overrides = [
            given("listen", "127.0.0.1:1"),
            given("channels.minimum_depth", 2),
            given("channels.minimum_depth", 3),
        ];
        let checked = parse_with(path, &good(), &overrides).unwrap();
        assert_eq!(checked.listen.port(), 1);
        assert_eq!(checked.policy.minimum_depth, 3);
    }

    #[test]
    fn an_override_that_cannot_be_used_is_named() {
        let path = Path::new("wallet.toml");
        for (wrong, part) in [
            (given("channels.colour", 1), "unknown field"),
            (given("channels.minimum_depth", "two"), "invalid type"),
            (given("listen.port", 1), "a key of wallet.toml"),
        ] {
            let error = parse_with(path, &good(), std::slice::from_ref(&wrong)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set sets {} to", wrong.key)), "{error}");
            assert!(error.contains(part), "{error}");
        }
        let error = parse_with(path, &good(), &[given("channels.minimum_depth", 0)]).unwrap_err().to_string();
        assert!(error.starts_with("channels.minimum_depth in wallet.toml"), "{error}");
    }

    #[test]
    fn wrong_values_are_named() {
        for (from, to, key) in [
            ("\"regtest\"", "\"bitcoin\"", "network"),
            ("127.0.0.1:0", "0.0.0.0:1", "listen"),
            ("localhost:9735", "localhost", "hub.address"),
            ("node_key = \"0", "node_key = \"9", "hub.node_key"),
            ("poll_ms = 250", "poll_ms = 1", "bitcoind.poll_ms"),
            ("stream_window = 500", "stream_window = 0", "payments.stream_window"),
            (
                "min_final_expiry_blocks = 18",
                "min_final_expiry_blocks = 17",
                "payments.min_final_expiry_blocks",
            ),
            ("to_self_delay_blocks = 2016", "to_self_delay_blocks = 0", "channels.to_self_delay_blocks"),
            ("minimum_depth = 1", "minimum_depth = 0", "channels.minimum_depth"),
            ("proof_wait_seconds = 60", "proof_wait_seconds = 601", "channels.proof_wait_seconds"),
            ("headroom_mib = 64", "headroom_mib = 0", "disk.headroom_mib"),
            ("address_gap = 200", "address_gap = 19", "onchain.address_gap"),
        ] {
            let text = good().replacen(from, to, 1);
            let error = parse(Path::new("wallet.toml"), &text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key} in wallet.toml")), "{error}");
        }
        let short = good().replacen("min_final_expiry_blocks = 18", "min_final_expiry_blocks = 17", 1);
        let error = parse(Path::new("wallet.toml"), &short).unwrap_err().to_string();
        assert!(error.contains("17") && error.contains("18 to 1,000"), "{error}");
        let unknown = format!("{}\ncolour = 1\n", good());
        assert!(matches!(parse(Path::new("x"), &unknown), Err(ConfigError::NotToml { .. })));
    }
}

//! The table of keys: name, explanation, default and rule of each, in the order of the default file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use channel::limits::{
    MAX_DUST_HTLCS, MAX_DUST_LIMIT, MAX_TO_SELF_DELAY_BLOCKS, MIN_CLTV_EXPIRY_DELTA, MIN_DUST_LIMIT,
};
use toml::Value;

use super::value::{Expected, address, boolean, integer, loopback_address, network, path, text, texts, url};
use super::{
    Bitcoind, Config, Inbound, JournalSizes, Log, Operator, PolicyConfig, Settlement, Shards, Streams,
    Wallets,
};

/// One thing an operator may set.
pub struct Key {
    /// `section.key`, or `key` at the top.
    pub name: &'static str,
    /// For the default file; lines of prose.
    pub about: &'static str,
    /// In TOML.
    pub default: &'static str,
    pub(super) set: fn(&mut Config, &Value) -> Result<(), Expected>,
}

/// The variable that sets a key: `policy.fee_ppm` is `HUBD_POLICY_FEE_PPM`.
pub fn variable_name(key: &str) -> String {
    format!("HUBD_{}", key.replace('.', "_").to_uppercase())
}

macro_rules! key {
    ($name:literal, $default:literal, $about:literal, $($field:ident).+, $rule:expr) => {
        Key {
            name: $name,
            about: $about,
            default: $default,
            set: |config, value| {
                let rule: fn(&Value) -> Result<_, Expected> = $rule;
                config.$($field).+ = rule(value)?;
                Ok(())
            },
        }
    };
}

/// 21 million bitcoin, in satoshi.
const ALL_COINS_SAT: u64 = 21_000_000 * 100_000_000;

/// The largest coin given away with a channel, in satoshi: pays for a close at 500 sat/vB twice.
const MAX_RESERVE_COIN_SAT: u64 = 1_000_000;

/// Nothing, or a coin that is worth spending.
fn reserve_coin(value: &Value) -> Result<u64, Expected> {
    match integer(value, 0..=MAX_RESERVE_COIN_SAT)? {
        0 => Ok(0),
        _ => integer(value, 1_000..=MAX_RESERVE_COIN_SAT),
    }
}

/// All keys, in the order of the file.
pub fn keys() -> &'static [Key] {
    KEYS
}

static KEYS: &[Key] = &[
    key!(
        "network",
        "\"regtest\"",
        "The bitcoin network. This version runs on regtest only.",
        network,
        network
    ),
    key!(
        "data_dir",
        "\"~/.payment-hub/hub\"",
        "Folder of the seed, the journal, the certificate and the operator's token. Readable by its owner only.",
        data_dir,
        path
    ),
    key!(
        "wallets.listen",
        "\"127.0.0.1:9735\"",
        "Where wallets connect, over TLS. Port 0 takes a free one; the file `wallets.addr` in the data folder names it.",
        wallets.listen,
        address
    ),
    key!(
        "wallets.tls_names",
        "[]",
        "Host names and addresses to put into the certificate besides localhost. Read when the certificate is made.\nWallets know the hub by its node key, so the names matter only to other gRPC clients.",
        wallets.tls_names,
        texts
    ),
    key!(
        "wallets.max_sessions",
        "20000",
        "Wallets connected at once. Each costs a TLS connection and two tasks, about 100 KiB.",
        wallets.max_sessions,
        |v| integer(v, 1..=1_000_000)
    ),
    key!(
        "wallets.max_channels_per_wallet",
        "16",
        "Channels of one wallet, opening ones included.",
        wallets.max_channels_per_wallet,
        |v| integer(v, 1..=10_000)
    ),
    key!(
        "wallets.messages_per_second",
        "200000",
        "Messages a wallet may send in a second on average. A faster one is made to wait, never cut off.",
        wallets.messages_per_second,
        |v| integer(v, 10..=100_000_000)
    ),
    key!(
        "wallets.opens_per_hour",
        "120",
        "Channels a wallet may propose or request in an hour; more are refused with RESOURCE_EXHAUSTED.",
        wallets.opens_per_hour,
        |v| integer(v, 1..=1_000_000)
    ),
    key!(
        "wallets.handshake_timeout_ms",
        "10000",
        "A connection that has not finished TLS and the handshake by then is closed, in milliseconds.",
        wallets.handshake_timeout_ms,
        |v| integer(v, 10..=600_000)
    ),
    key!(
        "operator.listen",
        "\"127.0.0.1:9736\"",
        "Where hubctl connects: loopback only, with the token from `operator.token` in the data folder.\nPort 0 takes a free one; the file `operator.addr` names it.",
        operator.listen,
        loopback_address
    ),
    key!(
        "bitcoind.url",
        "\"http://127.0.0.1:18443\"",
        "bitcoind's RPC address. A pruned node, or one of another network, is refused.",
        bitcoind.url,
        url
    ),
    key!(
        "bitcoind.cookie_file",
        "\"~/.bitcoin/regtest/.cookie\"",
        "bitcoind's cookie, read again whenever bitcoind has restarted. Not used when a user is set.",
        bitcoind.cookie_file,
        path
    ),
    key!("bitcoind.user", "\"\"", "User for RPC, instead of the cookie.", bitcoind.user, text),
    key!("bitcoind.password", "\"\"", "Its password.", bitcoind.password, text),
    key!(
        "bitcoind.connections",
        "8",
        "Connections to bitcoind that calls rotate over. On one alone each call may wait 50 ms for the one before.",
        bitcoind.connections,
        |v| integer(v, 2..=64)
    ),
    key!(
        "log.filter",
        "\"info\"",
        "What is logged: a level, or levels by module such as \"info,hub::session=debug\".",
        log.filter,
        text
    ),
    key!("log.json", "false", "One JSON object a line instead of text.", log.json, boolean),
    key!("shards.threads", "0", "Threads that own the channels; 0 takes one a core.", shards.threads, |v| {
        integer(v, 0..=1024)
    }),
    key!(
        "policy.fee_base_msat",
        "0",
        "What a forwarded payment costs, in msat, plus the share below.",
        policy.fee_base_msat,
        |v| integer(v, 0..=1_000_000_000)
    ),
    key!(
        "policy.fee_ppm",
        "100",
        "Share of the amount a forwarded payment costs, in millionths, rounded down.",
        policy.fee_ppm,
        |v| integer(v, 0..=1_000_000)
    ),
    key!(
        "policy.cltv_expiry_delta",
        "40",
        "Least difference, in blocks, between the expiry of a payment coming in and of the same going out:\nthe time the hub has to claim on the chain. 34 at least (BOLT 2): with less, a preimage that comes late could cost it the payment.",
        policy.cltv_expiry_delta,
        |v| integer(v, u64::from(MIN_CLTV_EXPIRY_DELTA)..=2016)
    ),
    key!(
        "policy.max_cltv_expiry_delta",
        "2016",
        "Furthest a payment may expire from now, in blocks. It bounds how long a payment can hold coins.",
        policy.max_cltv_expiry_delta,
        |v| integer(v, 10..=20_160)
    ),
    key!(
        "policy.min_cltv_expiry_ahead",
        "12",
        "Least number of blocks a payment's expiry must lie ahead to be signed or accepted.",
        policy.min_cltv_expiry_ahead,
        |v| integer(v, 1..=2016)
    ),
    key!(
        "policy.htlc_minimum_msat",
        "1",
        "Smallest payment accepted, in msat.",
        policy.htlc_minimum_msat,
        |v| integer(v, 1..=100_000_000_000)
    ),
    key!(
        "policy.max_in_flight_percent",
        "100",
        "Share of a channel's capacity that may be in flight towards the hub, in percent.",
        policy.max_in_flight_percent,
        |v| integer(v, 1..=100)
    ),
    key!(
        "policy.max_accepted_htlcs",
        "114",
        "Payments with outputs in flight in a channel and direction. The format's 40,000 weight units allow 114.",
        policy.max_accepted_htlcs,
        |v| integer(v, 1..=114)
    ),
    key!(
        "policy.max_accepted_dust_htlcs",
        "4000",
        "Payments without outputs (below the dust limit) in flight in a channel and direction.",
        policy.max_accepted_dust_htlcs,
        |v| integer(v, 0..=u64::from(MAX_DUST_HTLCS))
    ),
    key!(
        "policy.max_dust_htlc_exposure_msat",
        "5000000",
        "Most that payments without outputs may put at risk in a channel, both directions together, in msat.",
        policy.max_dust_htlc_exposure_msat,
        |v| integer(v, 0..=100_000_000_000)
    ),
    key!(
        "policy.dust_limit_sat",
        "354",
        "Payments below it get no output of their own. 354 satoshi at least, so that every output is standard, and 10,000 at most:\nwhoever owns less than it at a close gets nothing.",
        policy.dust_limit_sat,
        |v| integer(v, MIN_DUST_LIMIT.to_sat()..=MAX_DUST_LIMIT.to_sat())
    ),
    key!(
        "policy.to_self_delay_blocks",
        "144",
        "Blocks a wallet that closes alone waits for its coins: the time the hub has to answer a cheat.",
        policy.to_self_delay_blocks,
        |v| integer(v, 1..=u64::from(MAX_TO_SELF_DELAY_BLOCKS))
    ),
    key!(
        "policy.max_to_self_delay_blocks",
        "2016",
        "Most blocks a wallet may make the hub wait.",
        policy.max_to_self_delay_blocks,
        |v| integer(v, 1..=u64::from(MAX_TO_SELF_DELAY_BLOCKS))
    ),
    key!(
        "policy.minimum_depth",
        "3",
        "Confirmations of the funding before a channel is used.",
        policy.minimum_depth,
        |v| integer(v, 1..=144)
    ),
    key!("policy.min_capacity_sat", "20000", "Smallest channel, in satoshi.", policy.min_capacity_sat, |v| {
        integer(v, 1_000..=ALL_COINS_SAT)
    }),
    key!(
        "policy.max_capacity_sat",
        "1000000000",
        "Largest channel, in satoshi.",
        policy.max_capacity_sat,
        |v| integer(v, 1_000..=ALL_COINS_SAT)
    ),
    key!(
        "inbound.max_channel_sat",
        "10000000",
        "Largest channel the hub opens to a wallet that asks for inbound liquidity, in satoshi. 0 opens none.",
        inbound.max_channel_sat,
        |v| integer(v, 0..=ALL_COINS_SAT)
    ),
    key!(
        "inbound.max_sat_per_wallet",
        "50000000",
        "Most the hub puts into channels to one wallet that it funds, in satoshi.",
        inbound.max_sat_per_wallet,
        |v| integer(v, 0..=ALL_COINS_SAT)
    ),
    key!(
        "inbound.max_channels_per_wallet",
        "8",
        "Channels to one wallet that the hub funds.",
        inbound.max_channels_per_wallet,
        |v| integer(v, 0..=10_000)
    ),
    key!(
        "inbound.reserve_sat",
        "10000",
        "A wallet without coins on the chain could not pay for a close of its own. In the first channel that the hub opens\nto it, the funding transaction gives it a coin of so many satoshi, for good, and the channel costs it that much more.\n0 gives none; otherwise 1,000 at least.",
        inbound.reserve_sat,
        reserve_coin
    ),
    key!(
        "inbound.fee_base_sat",
        "1000",
        "What a channel that the hub funds costs its wallet: fee_base_sat + capacity * fee_ppm / 1,000,000 satoshi, and the coin\nabove what it holds. Wallets name the most they pay when they ask. The hub keeps the price of what it pays on through the\nchannel, half of each payment at most: who is never paid never pays, so let the base cover the funding transaction.\nWith both at 0 such channels cost nothing, coins included.",
        inbound.fee_base_sat,
        |v| integer(v, 0..=ALL_COINS_SAT)
    ),
    key!(
        "inbound.fee_ppm",
        "1000",
        "The part that grows with the capacity, in millionths.",
        inbound.fee_ppm,
        |v| integer(v, 0..=1_000_000)
    ),
    key!(
        "streams.max_per_wallet",
        "64",
        "Streams agreed at once by one wallet as payer.",
        streams.max_per_wallet,
        |v| integer(v, 1..=100_000)
    ),
    key!(
        "streams.idle_seconds",
        "86400",
        "A stream without receipt or end for so long is forgotten.",
        streams.idle_seconds,
        |v| integer(v, 1..=31_536_000)
    ),
    key!(
        "settlement.final_depth",
        "6",
        "Confirmations after which a transaction counts as final.",
        settlement.final_depth,
        |v| integer(v, 1..=1000)
    ),
    key!(
        "settlement.batch_wait_ms",
        "2000",
        "A closing ticket waits at most so long for others to share its transaction, in milliseconds.",
        settlement.batch_wait_ms,
        |v| integer(v, 0..=86_400_000)
    ),
    key!(
        "settlement.batch_max_channels",
        "700",
        "Channels closed by one transaction. The relay limit of 400,000 weight units allows 721.",
        settlement.batch_max_channels,
        |v| integer(v, 1..=720)
    ),
    key!(
        "settlement.batch_patience_blocks",
        "6",
        "Blocks after which a closing transaction that is not confirmed is made again at a higher fee rate.",
        settlement.batch_patience_blocks,
        |v| integer(v, 1..=1000)
    ),
    key!(
        "settlement.feerate_floor_sat_per_vb",
        "1",
        "Lowest fee rate paid, whatever bitcoind estimates, in satoshi a virtual byte.",
        settlement.feerate_floor_sat_per_vb,
        |v| integer(v, 1..=10_000)
    ),
    key!(
        "settlement.feerate_ceiling_sat_per_vb",
        "500",
        "Highest fee rate paid, whatever bitcoind estimates, in satoshi a virtual byte.",
        settlement.feerate_ceiling_sat_per_vb,
        |v| integer(v, 1..=10_000)
    ),
    key!(
        "settlement.publish_within_blocks",
        "144",
        "Blocks a wallet waits for the hub's closing transaction before it publishes by itself.",
        settlement.publish_within_blocks,
        |v| integer(v, 1..=1_008)
    ),
    key!(
        "settlement.reserve_sat_per_channel",
        "10000",
        "Coins on the chain that openings leave alone, for each open channel, in satoshi. A close without the wallet's help\nis paid from a confirmed coin: 10,000 satoshi pay for one at 28 sat/vB. `hubctl balances` says when they are short.",
        settlement.reserve_sat_per_channel,
        |v| integer(v, 0..=10_000_000)
    ),
    key!(
        "settlement.reserve_max_channels",
        "10",
        "Channels that the reserve is counted for at most: not all are closed alone at once.",
        settlement.reserve_max_channels,
        |v| integer(v, 0..=1_000_000)
    ),
    key!(
        "settlement.breaker_publications",
        "20",
        "Channels closed without the wallet's help before the hub asks its operator (`hubctl release`), within the blocks\nbelow. So many at once are more likely a fault of the hub than of everybody else. One whose time runs out never\nwaits, nor does what the operator asks for (`hubctl close --force`).",
        settlement.breaker_publications,
        |v| integer(v, 1..=1_000_000)
    ),
    key!(
        "settlement.breaker_window_blocks",
        "144",
        "The blocks in which they are counted.",
        settlement.breaker_window_blocks,
        |v| integer(v, 1..=10_000)
    ),
    key!(
        "settlement.proof_wait_s",
        "60",
        "Seconds after a start in which no commitment is published that its wallet has not confirmed since: a hub that runs from\nan old backup learns that from the first wallet that connects, and must not have published what is revoked.",
        settlement.proof_wait_s,
        |v| integer(v, 0..=600)
    ),
    key!(
        "settlement.address_gap",
        "200",
        "Addresses beyond the last used one that coins are found at: more after a restore from words, if many were given out and never\npaid.",
        settlement.address_gap,
        |v| integer(v, 20..=10_000)
    ),
    key!(
        "journal.log_mib",
        "256",
        "Size of the input log above which snapshots are taken, in MiB. It bounds the time of a restart.",
        journal.log_mib,
        |v| integer(v, 1..=1_048_576)
    ),
    key!(
        "journal.event_mib",
        "64",
        "Size of the kept events, in MiB. A subscriber that was away for longer is told so.",
        journal.event_mib,
        |v| integer(v, 1..=1_048_576)
    ),
    key!("journal.cache_mib", "64", "Cache of the storage engine, in MiB.", journal.cache_mib, |v| integer(
        v,
        4..=1_048_576
    )),
    key!(
        "journal.headroom_mib",
        "256",
        "Below so much free space on the disk new channels, streams and payments are refused, in MiB.",
        journal.headroom_mib,
        |v| integer(v, 1..=1_073_741_824)
    ),
];

/// The commented default file: every key with its explanation, its variable and its default.
pub fn default_file() -> String {
    let mut out = String::from(
        "# Configuration of hubd. Every key is shown with its default; remove the # in front of it to change it.\n\
         # A flag (`--set section.key=value`) wins over a variable (named beside each key), which wins over this file.\n",
    );
    let mut current = "";
    for key in keys() {
        let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if section != current {
            out.push_str(&format!("\n[{section}]\n"));
            current = section;
        }
        out.push('\n');
        for line in key.about.lines() {
            out.push_str(&format!("# {line}\n"));
        }
        out.push_str(&format!("# Variable: {}\n#{name} = {}\n", variable_name(key.name), key.default));
    }
    out
}

/// A configuration to be filled: every field is set from its key's default before anything reads it.
pub(super) fn empty() -> Config {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        network: bitcoin::Network::Regtest,
        data_dir: PathBuf::new(),
        wallets: Wallets {
            listen: nowhere,
            tls_names: Vec::new(),
            max_sessions: 0,
            max_channels_per_wallet: 0,
            messages_per_second: 0,
            opens_per_hour: 0,
            handshake_timeout_ms: 0,
        },
        operator: Operator { listen: nowhere },
        bitcoind: Bitcoind {
            url: String::new(),
            cookie_file: PathBuf::new(),
            user: String::new(),
            password: String::new(),
            connections: 0,
        },
        log: Log { filter: String::new(), json: false },
        shards: Shards { threads: 0 },
        policy: PolicyConfig {
            fee_base_msat: 0,
            fee_ppm: 0,
            cltv_expiry_delta: 0,
            max_cltv_expiry_delta: 0,
            min_cltv_expiry_ahead: 0,
            htlc_minimum_msat: 0,
            max_in_flight_percent: 0,
            max_accepted_htlcs: 0,
            max_accepted_dust_htlcs: 0,
            max_dust_htlc_exposure_msat: 0,
            dust_limit_sat: 0,
            to_self_delay_blocks: 0,
            max_to_self_delay_blocks: 0,
            minimum_depth: 0,
            min_capacity_sat: 0,
            max_capacity_sat: 0,
        },
        inbound: Inbound {
            max_channel_sat: 0,
            max_sat_per_wallet: 0,
            max_channels_per_wallet: 0,
            reserve_sat: 0,
            fee_base_sat: 0,
            fee_ppm: 0,
        },
        streams: Streams { max_per_wallet: 0, idle_seconds: 0 },
        settlement: Settlement {
            final_depth: 0,
            batch_wait_ms: 0,
            batch_max_channels: 0,
            feerate_floor_sat_per_vb: 0,
            feerate_ceiling_sat_per_vb: 0,
            batch_patience_blocks: 0,
            publish_within_blocks: 0,
            reserve_sat_per_channel: 0,
            reserve_max_channels: 0,
            breaker_publications: 0,
            breaker_window_blocks: 0,
            proof_wait_s: 0,
            address_gap: 0,
        },
        journal: JournalSizes { log_mib: 0, event_mib: 0, cache_mib: 0, headroom_mib: 0 },
    }
}

//! What the operator may set: a TOML file, `HUBD_*` variables and flags, later ones winning over earlier ones.
//!
//! Every key is declared once, in [`keys`]: its name, explanation, default and rule. The commented default file
//! (`hubd --print-config`), the variables' names and the errors all come from that table, so they cannot disagree.

mod error;
mod keys;
mod load;
mod policy;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use error::{ConfigError, Source};
pub use keys::{Key, default_file, keys, variable_name};
pub use load::{Layers, load};

/// Everything `hubd` reads from its configuration. All values have passed their rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub network: bitcoin::Network,
    pub data_dir: PathBuf,
    pub wallets: Wallets,
    pub operator: Operator,
    pub bitcoind: Bitcoind,
    pub log: Log,
    pub shards: Shards,
    pub policy: PolicyConfig,
    pub inbound: Inbound,
    pub streams: Streams,
    pub settlement: Settlement,
    pub journal: JournalSizes,
}

/// The listener for wallets and what one wallet may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Wallets {
    pub listen: SocketAddr,
    /// Names and addresses in the certificate, besides `localhost`.
    pub tls_names: Vec<String>,
    pub max_sessions: usize,
    pub max_channels_per_wallet: usize,
    /// Messages a wallet may send in a second on average; more makes it wait.
    pub messages_per_second: u32,
    /// Channels a wallet may propose in an hour.
    pub opens_per_hour: u32,
    pub handshake_timeout_ms: u64,
}

/// The operator's listener, on loopback.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    pub listen: SocketAddr,
}

/// How bitcoind is reached. Either a cookie file or a user with a password.
#[derive(Debug, Clone, PartialEq)]
pub struct Bitcoind {
    pub url: String,
    pub cookie_file: PathBuf,
    /// Empty: the cookie file is used.
    pub user: String,
    pub password: String,
    pub connections: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub filter: String,
    pub json: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Shards {
    /// Threads that own channels; 0 takes one a core.
    pub threads: usize,
}

impl Shards {
    /// The number of threads to start, never 0.
    pub fn count(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    }
}

/// Prices and limits of channels; becomes `channel::Policy`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    pub fee_base_msat: u64,
    pub fee_ppm: u32,
    pub cltv_expiry_delta: u16,
    pub max_cltv_expiry_delta: u32,
    pub min_cltv_expiry_ahead: u32,
    pub htlc_minimum_msat: u64,
    pub max_in_flight_percent: u8,
    pub max_accepted_htlcs: u16,
    pub max_accepted_dust_htlcs: u16,
    pub max_dust_htlc_exposure_msat: u64,
    pub dust_limit_sat: u64,
    pub to_self_delay_blocks: u16,
    pub max_to_self_delay_blocks: u16,
    pub minimum_depth: u32,
    pub min_capacity_sat: u64,
    pub max_capacity_sat: u64,
}

/// What the hub opens on a wallet's request, with the hub's own coins.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    pub max_channel_sat: u64,
    pub max_sat_per_wallet: u64,
    pub max_channels_per_wallet: usize,
    /// The coin added for a wallet that has none.
    pub reserve_sat: u64,
    /// What a channel costs its wallet: `fee_base_sat + capacity * fee_ppm / 1,000,000`, and the coin what it holds. With
    /// both at 0 the coin is free too.
    pub fee_base_sat: u64,
    pub fee_ppm: u32,
}

impl Inbound {
    /// What a channel of this capacity costs, in satoshi, rounded down.
    pub fn fee_sat(&self, capacity_sat: u64) -> u64 {
        let proportional = u128::from(capacity_sat) * u128::from(self.fee_ppm) / 1_000_000;
        self.fee_base_sat.saturating_add(u64::try_from(proportional).unwrap_or(u64::MAX))
    }

    /// What a coin adds to that, in satoshi.
    pub fn coin_fee_sat(&self, coin_sat: u64) -> u64 {
        let free = self.fee_base_sat == 0 && self.fee_ppm == 0;
        if free { 0 } else { coin_sat }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Streams {
    pub max_per_wallet: usize,
    /// An agreed stream without a tick, receipt or end for so long is forgotten.
    pub idle_seconds: u64,
}

/// How tickets become closing transactions.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub final_depth: u32,
    pub batch_wait_ms: u64,
    pub batch_max_channels: usize,
    /// Bounds of every fee rate paid, in satoshi a virtual byte.
    pub feerate_floor_sat_per_vb: u64,
    pub feerate_ceiling_sat_per_vb: u64,
    /// Blocks after which an unconfirmed batch is made again at a higher fee rate.
    pub batch_patience_blocks: u32,
    /// Blocks from the terms to the height at which the wallet publishes by itself.
    pub publish_within_blocks: u32,
    /// Coins that openings leave alone, for each open channel up to so many.
    pub reserve_sat_per_channel: u64,
    pub reserve_max_channels: u32,
    /// Commitments published without asking, within so many blocks.
    pub breaker_publications: u32,
    pub breaker_window_blocks: u32,
    /// How long after a start commitments wait that no wallet confirmed.
    pub proof_wait_s: u64,
    /// Addresses beyond the last used one that coins are found at.
    pub address_gap: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JournalSizes {
    pub log_mib: u64,
    pub event_mib: u64,
    pub cache_mib: u64,
    /// Below so much free space new channels, streams and payments are refused.
    pub headroom_mib: u64,
}

#[cfg(test)]
mod tests;

//! What can be typed after `hubwallet`, and the texts that teach it.

use std::path::PathBuf;

use channel::message::PaymentHash;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::values::{NodeKey, RequestIdText, Setting};
use crate::limits;

/// Shown below `hubwallet --help`.
const OVERVIEW: &str = "\
First steps, on a regtest chain with a hub:
  hubwallet init --hub-address 127.0.0.1:9735 --hub-node-key 02c0...   (`hubctl info` shows the key)
  hubwallet daemon &
  hubwallet address                                   send coins there, then
  hubwallet open --amount-sat 1000000 --wait-seconds 600
  hubwallet pay lnbcrt100u1...

For scripts: every command takes --json and then prints exactly one JSON object or array to standard output (stream and
events: one object a line); errors go to standard error, with --json as one object. Amounts on the chain are in satoshi
(_sat), those in channels in millisatoshi (_msat); keys and hashes are hexadecimal, transaction ids as explorers show them;
times are milliseconds since 1970 (_ms). Whatever changes something may be given a --request-id: repeated under the same
id, it happens once, and the first answer is given again.

Exit codes:
  0  done
  1  a fault: of the wallet, its files or its disk
  2  the command line or the configuration is wrong
  3  the daemon is not running, or cannot start
  4  the daemon does not accept the token
  5  refused, and nothing was changed (the message says why)
  6  the payment or the stream failed for good
  7  hub or bitcoind cannot be reached, or a limit is reached: try again later
  8  not known yet: ask again with the same --request-id";

/// Shown below `hubwallet scan --help`.
const SCAN: &str = "\
For a wallet whose data is lost and whose hub is gone: when a hub closes a channel without the wallet, the wallet's balance
goes to one of a few keys that follow from the words alone. The node's unspent outputs are looked through for them (minutes
on a large chain), and what is found is sent to this wallet's own coins. Nothing is found of a channel that is still open: its
hub must close it. Scan again after a restart if something was not confirmed yet; repeats do no harm.

Example:
  hubwallet scan --json | jq .total_sat";

/// A wallet of bitcoin payment channels with a hub.
///
/// `hubwallet daemon` keeps the channels; every other command asks that daemon.
#[derive(Debug, Parser)]
#[command(name = "hubwallet", version, after_help = OVERVIEW, disable_help_subcommand = true)]
pub struct Cli {
    /// Folder of the wallet: seed, configuration, journal, token [default: ~/.payment-hub/wallet]
    #[arg(long, value_name = "DIR", env = "HUBWALLET_DATA_DIR", global = true, help_heading = "Everywhere")]
    pub data_dir: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the wallet's channels and serve the other commands, until SIGTERM, Ctrl-C or `hubwallet stop`
    Daemon(DaemonArgs),
    /// Make a new wallet, or restore one from its words
    Init(InitArgs),
    /// Restore a wallet from its words alone: its coins, and with the hub's help what its channels hold
    Restore(RestoreArgs),
    /// Find and take what force-closed channels paid to this seed, without any hub's help
    #[command(after_help = SCAN)]
    Scan,
    /// Show the wallet's identity, its hub and its chain
    #[command(after_help = "Example:\n  hubwallet info --json | jq -r .node_key")]
    Info,
    /// Give a new on-chain address
    #[command(after_help = "Example:\n  hubwallet address")]
    Address,
    /// Open a channel, funded by this wallet or by the hub
    Open(OpenArgs),
    /// Make a BOLT 11 invoice
    Invoice(InvoiceArgs),
    /// Take the payment that waits for a hold invoice
    #[command(
        after_help = "Example:\n  hubwallet settle 0001020304...   (the payment hash that `hubwallet held` shows)"
    )]
    Settle(HashArgs),
    /// Refuse the payment that waits for a hold invoice, and every later one
    #[command(after_help = "Example:\n  hubwallet cancel 0001020304...")]
    Cancel(HashArgs),
    /// List payments that wait for `settle` or `cancel`
    #[command(after_help = "Example:\n  hubwallet held --json | jq -r '.[].payment_hash'")]
    Held,
    /// Explain a BOLT 11 invoice and check its signature
    #[command(after_help = "Example:\n  hubwallet decode lnbcrt100u1...")]
    Decode {
        /// BOLT 11
        invoice: String,
    },
    /// Pay an invoice, and wait until it settled or failed
    Pay(PayArgs),
    /// Pay a node without an invoice
    Send(SendArgs),
    /// Stream micropayments to a node, with live progress and a receipt
    Stream(StreamArgs),
    /// List channels
    #[command(after_help = "Example:\n  hubwallet channels --closed")]
    Channels {
        /// Closed and aborted ones too
        #[arg(long, visible_alias = "all")]
        closed: bool,
    },
    /// Show funds on the chain and in channels
    #[command(after_help = "Example:\n  hubwallet balance --json | jq .spendable_msat")]
    Balance,
    /// List payments made and received, newest first
    Payments(PaymentsArgs),
    /// List streams of micropayments in both directions, newest first
    #[command(after_help = "Example:\n  hubwallet streams --limit 10")]
    Streams {
        /// Most rows shown
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// List what happened, or follow it live, none missed
    Events(EventsArgs),
    /// Close a channel with the hub's help, or alone (--force)
    Close(CloseArgs),
    /// Pay for a commitment, this wallet's or anybody's, so that it gets into a block sooner
    Bump(BumpArgs),
    /// Let through the closes that wait because too many were to happen at once
    #[command(
        long_about = "Let through the closes that wait because too many were to happen at once.\n\nMany channels that fail at \
                      once are more likely a fault of this wallet than of everybody else. Look at `hubwallet channels` first. \
                      One whose time runs out never waits.",
        after_help = "Example:\n  hubwallet release"
    )]
    Release,
    /// Publish again after the hub proved that this wallet runs from old data
    #[command(
        long_about = "Publish again after the hub proved that this wallet runs from old data.\n\nA hub that knows more than this \
                      wallet proves that the wallet was restored from an old copy. Its commitments may be revoked: publishing \
                      one loses everything in its channel. So those that the hub has not confirmed since the start wait. Say \
                      so here only if you know that this is the latest data.",
        after_help = "Example:\n  hubwallet resume-publishing --data-is-the-latest"
    )]
    ResumePublishing {
        /// Yes, this is the latest data of this wallet: no older copy was restored
        #[arg(long, required = true)]
        data_is_the_latest: bool,
    },
    /// Stop the daemon, and wait until it has
    #[command(after_help = "Example:\n  hubwallet stop")]
    Stop,
}

/// What may take the place of the configuration's values.
#[derive(Debug, Default, Args)]
pub struct Overrides {
    /// Loopback address for commands and scripts; port 0 takes a free one, the file wallet.addr names it
    #[arg(long, value_name = "ADDR", env = "HUBWALLET_LISTEN")]
    pub listen: Option<String>,

    /// Host and port of the hub
    #[arg(long, value_name = "HOST:PORT", env = "HUBWALLET_HUB_ADDRESS")]
    pub hub_address: Option<String>,

    /// The hub's node key; `hubctl info` shows it
    #[arg(long, value_name = "HEX", env = "HUBWALLET_HUB_NODE_KEY")]
    pub hub_node_key: Option<String>,

    /// bitcoind's RPC address
    #[arg(long, value_name = "URL", env = "HUBWALLET_BITCOIND_URL")]
    pub bitcoind_url: Option<String>,

    /// bitcoind's cookie file
    #[arg(long, value_name = "FILE", alias = "bitcoind-cookie-file", env = "HUBWALLET_BITCOIND_COOKIE")]
    pub bitcoind_cookie: Option<String>,

    /// Bitcoin network; only regtest is accepted
    #[arg(long, value_name = "NAME", env = "HUBWALLET_NETWORK")]
    pub network: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The configuration is wallet.toml in the data folder; flags and variables take the place of its values.

Example:
  hubwallet daemon --log debug --set channels.minimum_depth=3")]
pub struct DaemonArgs {
    #[command(flatten)]
    pub overrides: Overrides,

    /// What is logged to standard error, such as "info" or "info,wallet=debug"
    #[arg(long, value_name = "FILTER", env = "HUBWALLET_LOG")]
    pub log: Option<String>,

    /// Set any key of wallet.toml, the value as TOML; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Shows the 24 words once: write them down, they are the money. What is not given as a flag is asked for on a terminal.

Examples:
  hubwallet init --hub-address 127.0.0.1:9735 --hub-node-key 02c0...
  hubwallet init --words < words.txt --hub-node-key 02c0...          the same as `hubwallet restore`")]
pub struct InitArgs {
    #[command(flatten)]
    pub answers: Overrides,

    /// Restore from these BIP 39 words; without a value they are read from standard input, which keeps them out of the shell's history
    #[arg(long, value_name = "WORDS", num_args = 0..=1, default_missing_value = "-")]
    pub words: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
After this, `hubwallet daemon` does the rest. It looks through the chain for this wallet's coins. The hub then names the
channels it has with this wallet; each is checked against what this wallet sealed for itself, is never used again, and
the hub is asked to close it. Once the hub's commitment is in a block, this wallet's balance is sent to its own coins.
`hubwallet channels` shows how far that is. What was in flight and not yet settled may be lost.

Only if the data is really lost: a wallet whose data folder is there needs no restoring, and the same words must never
run in two places.

If the hub is gone for good and closed the channels, `hubwallet scan` finds the balances without it.

Examples:
  hubwallet restore --hub-address 127.0.0.1:9735 --hub-node-key 02c0... < words.txt
  hubwallet daemon")]
pub struct RestoreArgs {
    #[command(flatten)]
    pub answers: Overrides,

    /// The BIP 39 words; without it they are read from standard input, which keeps them out of the shell's history
    #[arg(long, value_name = "WORDS", default_value = "-", hide_default_value = true)]
    pub words: String,

    /// Height of a block before the wallet was first used; a lower one only takes longer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub birthday_height: u32,
}

/// An amount in channels: one of the two.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct Amount {
    /// In millisatoshi
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub amount_msat: Option<u64>,
    /// In satoshi
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub amount_sat: Option<u64>,
}

/// An amount in channels that may be left out.
#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
pub struct OptionalAmount {
    /// In millisatoshi
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub amount_msat: Option<u64>,
    /// In satoshi
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub amount_sat: Option<u64>,
}

/// For a call that changes something.
#[derive(Debug, Clone, Default, Args)]
pub struct Repeatable {
    /// UUID of version 7: repeated under the same id, the call happens once [default: a new one]
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<RequestIdText>,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("funder").required(true),
    after_help = "\
Examples:
  hubwallet open --amount-sat 1000000 --wait-seconds 600      to pay: all of it is this wallet's at first
  hubwallet open --inbound-sat 1000000                        to be paid: all of it is the hub's at first
  hubwallet open --inbound-sat 1000000 --max-fee-sat 2000     the same, if it costs no more than that

A channel that the hub funds has a price (`hubwallet info` shows the hub's). Nothing is paid at once: the hub keeps it of
what comes in through the channel, half of each payment at most, until it is paid. A first channel also brings a coin to
close it with, which costs what it holds, if this wallet has none and the limit allows for it."
)]
pub struct OpenArgs {
    /// Capacity of a channel that this wallet funds with its coins, fees on top
    #[arg(long, value_name = "N", group = "funder", value_parser = clap::value_parser!(u64).range(1..))]
    pub amount_sat: Option<u64>,

    /// Capacity of a channel that the hub funds, within its policy
    #[arg(long, value_name = "N", group = "funder", value_parser = clap::value_parser!(u64).range(1..))]
    pub inbound_sat: Option<u64>,

    /// The most to pay for the hub's channel, a coin included; without it, what the hub's policy says
    #[arg(long, value_name = "N", conflicts_with = "amount_sat")]
    pub max_fee_sat: Option<u64>,

    /// Wait so long until the channel can be used
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub wait_seconds: u64,

    #[command(flatten)]
    pub repeatable: Repeatable,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hubwallet invoice --amount-sat 100 --description \"two coffees\"")]
pub struct InvoiceArgs {
    /// Without an amount the payer chooses
    #[command(flatten)]
    pub amount: OptionalAmount,

    /// What it is for, at most 639 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,

    /// Seconds until it expires
    #[arg(
        long,
        value_name = "N",
        default_value_t = limits::DEFAULT_INVOICE_EXPIRY_SECONDS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MAX_INVOICE_EXPIRY_SECONDS))
    )]
    pub expiry_seconds: u32,

    /// Let what pays it wait for `hubwallet settle` or `hubwallet cancel`; undecided, it fails by itself in time
    #[arg(long)]
    pub hold: bool,

    #[command(flatten)]
    pub repeatable: Repeatable,
}

/// Names an invoice.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// The invoice's payment hash, 64 hexadecimal digits
    #[arg(value_parser = hash)]
    pub payment_hash: PaymentHash,
}

fn hash(text: &str) -> Result<PaymentHash, String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(PaymentHash::from_bytes).ok_or_else(|| "64 hexadecimal digits are expected".to_owned())
}

/// How a payment is made.
#[derive(Debug, Args)]
pub struct Paying {
    /// Most to pay the hub on top, in millisatoshi [default: see wallet.toml]
    #[arg(long, value_name = "N")]
    pub max_fee_msat: Option<u64>,

    /// Wait so long for the end; after it the payment goes on, and the exit code is 8
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub wait_seconds: u64,

    #[command(flatten)]
    pub repeatable: Repeatable,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubwallet pay lnbcrt100u1...
  hubwallet pay lnbcrt1... --amount-sat 100        for an invoice without an amount")]
pub struct PayArgs {
    /// BOLT 11
    pub invoice: String,

    #[command(flatten)]
    pub amount: OptionalAmount,

    #[command(flatten)]
    pub paying: Paying,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hubwallet send 02ab... --amount-sat 10")]
pub struct SendArgs {
    /// The payee's node key; its `hubwallet info` shows it
    #[arg(value_name = "NODE_KEY")]
    pub payee: NodeKey,

    #[command(flatten)]
    pub amount: Amount,

    #[command(flatten)]
    pub paying: Paying,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With --json: progress, one object a line, of \"kind\" \"progress\"; the last line is the \"receipt\". Ctrl-C ends the watching,
not the stream; repeat the command with the same --request-id to watch on.

Example:
  hubwallet stream 02ab... --amount-msat 100 --ticks 1000 --ticks-per-second 50")]
pub struct StreamArgs {
    /// The payee's node key; its `hubwallet info` shows it
    #[arg(value_name = "NODE_KEY")]
    pub payee: NodeKey,

    /// What the payee gets with each tick
    #[command(flatten)]
    pub amount: Amount,

    /// Number of ticks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::MAX_TICKS))]
    pub ticks: u64,

    /// Pace; 0: as fast as the window allows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ticks_per_second: u32,

    /// Most ticks in flight at a time [default: see wallet.toml]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub max_in_flight: u32,

    #[command(flatten)]
    pub repeatable: Repeatable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    Sent,
    Received,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hubwallet payments --direction received --limit 20")]
pub struct PaymentsArgs {
    /// Only these
    #[arg(long, value_name = "WHICH")]
    pub direction: Option<Direction>,

    /// Most rows shown
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Events are numbered from 1. A script remembers the last index it handled and asks from the next: none is missed, and an
index that is no longer kept is an error, never a gap.

Examples:
  hubwallet events                          the last 20
  hubwallet events --from 118 --follow --json")]
pub struct EventsArgs {
    /// The first index wanted [default: the last 20, with --follow only new ones]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,

    /// Go on with events as they happen, until Ctrl-C
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true),
    after_help = "\
Examples:
  hubwallet close 5f0c                      the first digits suffice
  hubwallet close --all --wait-seconds 3600
  hubwallet close 5f0c --force              the hub is gone or does not answer"
)]
pub struct CloseArgs {
    /// The channel's id, or its first digits
    #[arg(value_name = "CHANNEL", group = "which")]
    pub channel: Option<String>,

    /// Every channel that can be closed; --json prints an array
    #[arg(long, group = "which", conflicts_with = "request_id")]
    pub all: bool,

    /// Without the hub: publish this wallet's latest commitment. It costs more in fees, the balance comes back after the delay
    /// the hub demands, and payments in flight end on the chain. It cannot be taken back
    #[arg(long)]
    pub force: bool,

    /// Wait so long until the close is final on the chain
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub wait_seconds: u64,

    #[command(flatten)]
    pub repeatable: Repeatable,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A commitment pays no fee itself; its shared anchor lets anybody pay for it with a child. The daemon does so by itself, by what
bitcoind estimates and by how near a deadline is. This is for when you know better, or to help somebody without coins.

Examples:
  hubwallet bump 6f1c... --feerate 40                  this wallet's commitment, as `hubwallet channels` shows it
  hubwallet bump --transaction 0300... --feerate 40    somebody's, given whole (onchain.own.transaction of its `channels --json`)")]
pub struct BumpArgs {
    /// The commitment's id, as explorers show it: this wallet's own, or one in bitcoind's mempool
    #[arg(value_name = "TXID", required_unless_present = "transaction", conflicts_with = "transaction")]
    pub txid: Option<String>,

    /// The whole commitment in hexadecimal digits, of anybody, if bitcoind does not have it
    #[arg(long, value_name = "HEX")]
    pub transaction: Option<String>,

    /// What to pay for it and the child that pays, together, in satoshi a virtual byte
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub feerate: u64,
}

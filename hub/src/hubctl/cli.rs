//! Subcommands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Operate a hub: look at it, close channels, stop it.
///
/// Speaks to the hubd of the same data folder: address and token are read from there. Add --json for one JSON object (events:
/// one a line), which scripts should use.
#[derive(Debug, Parser)]
#[command(name = "hubctl", version, after_help = EXAMPLES)]
pub struct Cli {
    /// hubd's data folder
    #[arg(long, value_name = "DIR", env = "HUBD_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Operator's address [default: from operator.addr in the data folder]
    #[arg(long, value_name = "ADDR", env = "HUBCTL_ADDRESS", global = true)]
    pub address: Option<String>,

    /// File of the token [default: operator.token in the data folder]
    #[arg(long, value_name = "FILE", env = "HUBCTL_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  hubctl info                       is it up, and at the chain's tip?
  hubctl address                    where to send coins that fund channels
  hubctl channels --json            every channel, for a script
  hubctl close --all                drain the hub: close every channel cooperatively
  hubctl events --from 1 --follow   everything that ever happened, then live";

const BUMP_EXAMPLES: &str = "A commitment pays no fee itself; its shared anchor lets anybody pay for it with a child. The hub does so by itself, by \
what bitcoind estimates and by how near a deadline is. This is for when you know better, or to help a wallet without coins.

Examples:
  hubctl bump 6f1c… --feerate 40                   the hub's own commitment, from `hubctl channels --json`
  hubctl bump --transaction 0300… --feerate 40     somebody's, given whole (`onchain.own.transaction` of its `channels --json`)";

const RELEASE: &str = "Let through the closes that wait because too many were to happen at once.

When more channels than settlement.breaker_publications are to be closed without their wallets within \
settlement.breaker_window_blocks, the rest waits: so many at once are more likely a fault of the hub than of everybody else. Look \
at `hubctl channels` and the log first. One whose time runs out never waits.";

const RESUME: &str = "Publish again after a wallet proved that this hub runs from old data.

A wallet that knows more than the hub proves that the hub was restored from an old copy. Its commitments may be revoked: publishing \
one loses everything in its channel. So commitments that no wallet has confirmed since the start wait. Only if you know that this is \
the hub's latest data (and the wallet found a fault of its own) say so here. Otherwise leave it: wallets that connect close or \
confirm their channels.";

const CLOSE_EXAMPLES: &str = "Examples:
  hubctl close 5f0c…                every wallet is asked; one that is away closes when it returns
  hubctl close --all                drain the hub
  hubctl close --all --force        drain it now, alone; `hubctl channels` shows what each one waits for";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Identity, chain, policy, load
    Info,
    /// Funds on the chain and in channels
    Balances,
    /// A new address that funds the hub
    Address,
    /// Wallets with channels or connected
    Peers,
    /// Channels, oldest first
    Channels(Channels),
    /// Close channels: with the wallets that answer, in a shared transaction, or alone (--force)
    #[command(after_help = CLOSE_EXAMPLES)]
    Close(Close),
    /// Pay for a commitment, the hub's or anybody's, so that it gets into a block sooner
    #[command(after_help = BUMP_EXAMPLES)]
    Bump(Bump),
    /// Let through the closes that wait because too many were to happen at once
    #[command(long_about = RELEASE)]
    Release,
    /// Publish again after a wallet proved that this hub runs from old data
    #[command(long_about = RESUME)]
    ResumePublishing(ResumePublishing),
    /// Forwards that ended, newest first
    Forwards(Forwards),
    /// What happened, in order; nothing is missed
    Events(Events),
    /// Stop hubd cleanly
    Stop,
}

#[derive(Debug, Args)]
pub struct Channels {
    /// Closed and aborted ones too
    #[arg(long)]
    pub closed: bool,
    /// Only this wallet's (node key in hex)
    #[arg(long, value_name = "KEY")]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
pub struct Close {
    /// The channel's id in hex, as `hubctl channels` shows it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub channel: Option<String>,
    /// Every channel
    #[arg(long)]
    pub all: bool,
    /// Without the wallet: publish the hub's latest commitment. Each channel costs transactions of its own, the hub waits for
    /// its balance as long as the wallet demands, and payments in flight end on the chain. It cannot be taken back
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Bump {
    /// The commitment's id, as explorers show it: the hub's own, or one in bitcoind's mempool
    #[arg(required_unless_present = "transaction", conflicts_with = "transaction")]
    pub txid: Option<String>,
    /// The whole commitment in hex, of anybody, if bitcoind does not have it
    #[arg(long, value_name = "HEX")]
    pub transaction: Option<String>,
    /// What to pay for it and the child that pays, together, in satoshi a virtual byte
    #[arg(long, value_name = "SAT_PER_VB")]
    pub feerate: u64,
}

#[derive(Debug, Args)]
pub struct ResumePublishing {
    /// Yes, this is the latest data of this hub: no older copy was restored
    #[arg(long, required = true)]
    pub data_is_the_latest: bool,
}

#[derive(Debug, Args)]
pub struct Forwards {
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct Events {
    /// First index wanted: one above the last seen
    #[arg(long, value_name = "INDEX", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
    /// Go on with what happens from now on, until interrupted
    #[arg(long)]
    pub follow: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn close_takes_one_channel_or_all_and_not_nothing() {
        for (args, fits) in [
            (&["hubctl", "close", "00"][..], true),
            (&["hubctl", "close", "--all"], true),
            (&["hubctl", "close"], false),
            (&["hubctl", "close", "00", "--all"], false),
            (&["hubctl", "close", "00", "--force"], true),
            (&["hubctl", "close", "--all", "--force"], true),
            (&["hubctl", "close", "--force"], false),
        ] {
            assert_eq!(Cli::try_parse_from(args).is_ok(), fits, "{args:?}");
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_asked_for_in_full() {
        for (args, fits) in [
            (&["hubctl", "bump", "00", "--feerate", "4"][..], true),
            (&["hubctl", "bump", "--transaction", "00", "--feerate", "4"], true),
            (&["hubctl", "bump", "00", "--transaction", "00", "--feerate", "4"], false),
            (&["hubctl", "bump", "--feerate", "4"], false),
            (&["hubctl", "bump", "00"], false),
            (&["hubctl", "release"], true),
            (&["hubctl", "resume-publishing"], false),
            (&["hubctl", "resume-publishing", "--data-is-the-latest"], true),
        ] {
            assert_eq!(Cli::try_parse_from(args).is_ok(), fits, "{args:?}");
        }
    }
}

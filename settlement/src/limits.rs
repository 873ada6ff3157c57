//! Every limit of this crate, each with its reason.

use std::time::Duration;

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, Weight};

/// RPC connections kept to bitcoind, used in rotation. One connection stalls about 50 ms between two requests
/// that follow each other at once; four reach most of what sixteen do and leave bitcoind's threads to others.
pub const RPC_CONNECTIONS: usize = 4;

/// Calls waiting for a connection, beyond those in flight. More than this means that bitcoind cannot keep up,
/// and a queue that grows without end would only hide it.
pub const RPC_MAX_WAITING: usize = 4_096;

/// An idle connection older than this is not used again: bitcoind closes idle ones after 30 seconds.
pub const RPC_IDLE: Duration = Duration::from_secs(25);

/// A TCP connection to a node on the same network is made well within this.
pub const RPC_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest a call may take. A full block with `getblock` takes 6-16 ms; a node busy writing its cache to disk
/// answers nothing for seconds.
pub const RPC_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// `scantxoutset` reads the whole UTXO set, which takes minutes on mainnet.
pub const RPC_SCAN_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The largest reply read. A block of 4,000,000 bytes is 8,000,000 hex characters; batches are kept below it.
pub const RPC_MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Calls in one batch. Larger batches gain nothing and hold a bitcoind thread longer.
pub const RPC_MAX_BATCH: usize = 100;

/// Outputs asked about in one `gettxspendingprevout`: bitcoind holds the mempool's lock meanwhile, about a microsecond
/// an output.
pub const PREVOUTS_PER_CALL: usize = 1_000;

/// `testmempoolaccept` takes at most 25 transactions in one call.
pub const TEST_ACCEPT_MAX: usize = 25;

/// The oldest bitcoind that has ephemeral dust and `waitfornewblock` with `current_tip`.
pub const MIN_NODE_VERSION: u64 = 300_000;

/// How long bitcoind holds a `waitfornewblock`. The connection is idle meanwhile; a shorter wait costs a call more,
/// a longer one finds a dead peer later.
pub const LONG_POLL: Duration = Duration::from_secs(30);

/// First pause after bitcoind failed to answer, doubled each time up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to reach bitcoind: short enough that a restarted node is found at once
/// in human terms, long enough to be no load.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// Blocks fetched ahead of the consumer while catching up: enough to keep every connection busy, few enough
/// that full blocks stay below 64 MB of memory.
pub const BLOCKS_AHEAD: usize = 8;

/// How long a connection must rest before it is used again while another may still be opened (see
/// [`RPC_CONNECTIONS`]).
pub const RPC_STALL: Duration = Duration::from_millis(60);

/// The heaviest transaction that nodes relay (Bitcoin Core's `MAX_STANDARD_TX_WEIGHT`).
pub const STANDARD_WEIGHT: Weight = Weight::from_wu(400_000);

/// Unconfirmed transactions of our own beyond which unconfirmed change is not spent: version 30 of bitcoind still
/// refuses a chain of more than 25 (31 allows 64 in a cluster).
pub const MAX_UNCONFIRMED_CHAIN: usize = 24;

/// Addresses beyond the last used one that coins are found at, by a wallet restored from its seed too, unless the
/// configuration says otherwise. Claims that were made again took a new address each, and those of the older ones stay unused.
pub const ADDRESS_GAP: u32 = 200;
/// At least what others look for (BIP 44), and so many that deriving them all takes a second.
pub const ADDRESS_GAPS: std::ops::RangeInclusive<u32> = 20..=10_000;

/// Checkpoints kept in a snapshot of the on-chain wallet, a week of blocks; older ones stay only where one of our
/// transactions is anchored. Transactions whose coins were all spent so long ago are left out. The final depth is below it.
pub const ONCHAIN_CHECKPOINTS: u32 = 1_008;

/// Seconds after which a transaction is left out of such a snapshot that was given up, or whose coins something else took: two
/// weeks, as long as nodes keep what no block holds.
pub const ONCHAIN_HISTORY_SECONDS: u64 = 14 * 24 * 3_600;

/// Lowest feerate offered by default: 1 sat/vB, rounded up in sat per 1000 weight units. Nodes accept 0.1 sat/vB from
/// version 30 on, but such a transaction waits long.
pub const FEERATE_FLOOR: FeeRate = FeeRate::from_sat_per_kwu(253);

/// Highest feerate paid by default, 500 sat/vB: more than any past congestion, far below losing the funds to fees.
pub const FEERATE_CEILING: FeeRate = FeeRate::from_sat_per_kwu(125_000);

/// Feerate while bitcoind cannot estimate, 5 sat/vB.
pub const FEERATE_FALLBACK: FeeRate = FeeRate::from_sat_per_kwu(1_250);

/// Blocks within which funding and cooperative closes should confirm: nothing is at stake but patience.
pub const FEE_TARGET_BLOCKS: u16 = 6;

/// Seconds for which a fee estimate is used again; bitcoind's own changes with blocks only.
pub const FEE_ESTIMATE_AGE: Duration = Duration::from_secs(30);

/// Separate unconfirmed transactions that one transaction may replace; nodes refuse more at any fee.
pub const MAX_REPLACEMENTS: usize = 100;

/// Coins that the hub adds to one batch at most. One suffices in practice; more means that the hub's coins are dust.
pub const MAX_BATCH_COINS: usize = 8;

/// A standard DER signature with its sighash type is at most this long (low S, R not ground).
pub const MAX_SIGNATURE_BYTES: usize = 72;

/// Ticket signatures that may wait for verification, about 12 seconds of work for two cores. A drain hands over what
/// fits and comes back with the rest.
pub const VERIFY_QUEUE: usize = 500_000;

/// Tickets checked in one go before another core may take some: about a millisecond, so that splitting costs nothing.
pub const VERIFY_CHUNK: usize = 16;

/// Unconfirmed transactions of ours that are resubmitted: the most that one process settles between two blocks.
pub const MAX_PENDING: usize = 16_384;

/// What a replacement pays for its own size: bitcoind's default `incrementalrelayfee`, 0.1 sat/vB, and as much as
/// version 29 asked, 1 sat/vB, so that every node takes it.
pub const INCREMENTAL_FEERATE: FeeRate = FeeRate::from_sat_per_kwu(250);

/// The most that the hub adds to one batch beyond what its wallets agreed to: enough for a full batch at 20 sat/vB more
/// than agreed. Above it an operator should look.
pub const MAX_HUB_BATCH_FEE: Amount = Amount::from_sat(2_000_000);

/// Blocks an accepter waits for the funding transaction (BOLT 2: 2016).
pub const FUNDING_TIMEOUT_BLOCKS: u32 = channel::limits::FUNDING_TIMEOUT_BLOCKS;

/// The desk looks around at least this often; nothing depends on it.
pub const DESK_IDLE: Duration = Duration::from_secs(3_600);

/// How long bitcoind is not asked for a feerate after it had no answer: requests come by the thousand after a start,
/// and none of them should wait for a node that hangs.
pub const FEE_ESTIMATE_PAUSE: Duration = Duration::from_secs(10);

/// How long a request waits for bitcoind's fee estimate before the last one serves, or the fallback.
pub const FEE_ESTIMATE_WAIT: Duration = Duration::from_secs(2);

/// The version of transactions that follow the TRUC rules (BIP 431).
pub const TRUC_VERSION: Version = Version(3);

/// The heaviest version-3 transaction: 10,000 virtual bytes (BIP 431).
pub const MAX_TRUC_WEIGHT: Weight = channel::limits::MAX_COMMITMENT_WEIGHT;

/// The heaviest transaction of this version that nodes relay.
pub fn maximum_weight(version: Version) -> Weight {
    if version == TRUC_VERSION { MAX_TRUC_WEIGHT } else { STANDARD_WEIGHT }
}

/// The heaviest child of an unconfirmed version-3 transaction: 1,000 virtual bytes (BIP 431).
pub const MAX_TRUC_CHILD_WEIGHT: Weight = channel::limits::MAX_ANCHOR_CHILD_WEIGHT;

/// Coins that pay the fee of one claim or child at most: eight P2WPKH inputs leave a child below its 4,000 weight units.
pub const MAX_FEE_COINS: usize = 8;

/// Claims in one transaction: beyond it, sharing saves less than half a virtual byte a claim.
pub const MAX_GROUPED_CLAIMS: usize = 100;

/// Claims in one transaction that the counterparty can contest at once: it invalidates all of them by spending one, and
/// must outbid them all to replace them.
pub const MAX_CONTESTED_CLAIMS: usize = 32;

/// Outputs that become contestable within as many blocks share a transaction: as many as a claim has to confirm.
pub const CONTEST_BUCKET_BLOCKS: u32 = 12;

/// Claims whose deadlines lie within as many blocks share a transaction and pay the feerate of the most urgent.
pub const DEADLINE_SPREAD_BLOCKS: u32 = 12;

/// Blocks before a deadline in which the feerate rises from the estimate to the budget: what channels leave a claim of an
/// HTLC ([`channel::limits::CLAIM_MARGIN_BLOCKS`]).
pub const FEE_PRESSURE_BLOCKS: u32 = channel::limits::CLAIM_MARGIN_BLOCKS;

/// What has no deadline should confirm within a day.
pub const PATIENT_TARGET_BLOCKS: u16 = 144;

/// The soonest that bitcoind estimates for.
pub const URGENT_TARGET_BLOCKS: u16 = 2;

/// A fee is at most half of what it saves: then taking it is worth at least as much as it costs.
pub const BUDGET_DIVISOR: u64 = 2;

/// The least that may be spent on taking back an HTLC that we offered: until its output is spent for good, the HTLC that it
/// pays for stays open, and whoever offered that one closes a channel over it. Enough for 5 sat/vB, little enough
/// that a hundred small ones that go unanswered cost no fortune.
pub const RESOLUTION_BUDGET: Amount = Amount::from_sat(1_000);

/// What a commitment pays that a counterparty without data asked for, however little of it is ours: 5 sat/vB, what
/// [`FEERATE_FALLBACK`] pays. Otherwise whoever owns nothing in a channel would never publish, and the other side, which may
/// not, would never get what it owns. About 1,500 sat for a commitment with one balance, out of our own coins; for more
/// outputs, more. When that buys no place in a block it waits for fees to fall. A counterparty that only pretends
/// gains nothing and loses the channel: it makes us spend that much once, and pays a third of it at least by itself, to fund the
/// channel and to take its balance out. Each HTLC output that makes the commitment heavier holds more of its money than the
/// output costs us (354 sat against 215).
pub const OBLIGING_FEERATE: FeeRate = FEERATE_FALLBACK;

/// Blocks after which an output that cannot be taken by itself, however low the fees, is given up: a week, over which company
/// or a coin to spare turns up, and fees fall. Counted from the first block that could have held its claim. Its channel must
/// not stay for ever: a peer could leave any number of such outputs.
pub const GIVE_UP_BLOCKS: u32 = 1_008;

/// Blocks of those that this process has seen it wait, without a break: a day. What was offline for weeks still tries first.
pub const GIVE_UP_LOOK_BLOCKS: u32 = 144;

/// A DER signature that is shorter has a chance below 1 in 2^50: what a transaction weighs at least is counted with it.
pub const SHORTEST_SIGNATURE_BYTES: usize = 64;
/// Refusals for too low a fee after which one transaction waits for the next block: 16 raises by a quarter are 35 times the
/// first bid.
pub const FEE_RAISES_PER_BLOCK: u32 = 16;

/// Blocks read besides, when a funding is looked for whose depth the node told: more than a reorganisation takes away
/// between two questions.
pub const LOOK_BACK_MARGIN: u32 = 10;

/// How long plans wait for company before the desk acts on them: channels that fail together share claims.
pub const SETTLE_WAIT: Duration = Duration::from_millis(100);

/// Blocks for which another's commitment is paid for by a person's word: a day. It may be replaced by a third one, which
/// nobody here would notice.
pub const BUMP_PATIENCE_BLOCKS: u32 = 144;

/// Transactions of the mempool that one channel was told of and that are remembered, so as not to tell it again. Each costs
/// whoever makes it a replacement's fee.
pub const MEMPOOL_SIGHTINGS: usize = 1_000;

/// Commitments published without asking within [`BREAKER_WINDOW_BLOCKS`]: peers that vanish for good are few a day, a fault
/// of ours fails hundreds.
pub const BREAKER_PUBLICATIONS: u32 = 20;

/// A day.
pub const BREAKER_WINDOW_BLOCKS: u32 = 144;

/// How long commitments that no peer confirmed since the start wait by default for a peer that may prove them old: the time in
/// which those who are awake connect again, and a tenth of what a block takes.
pub const PROOF_WAIT: Duration = Duration::from_secs(60);

/// Blocks that a commitment of ours leaves to another one that a reorganisation took out of the chain. The mempools have that
/// again, so it is usually in the next block; a miner that lacks it, or a second reorganisation, takes a few more.
pub const COME_BACK_BLOCKS: u32 = 6;

/// Blocks before a deadline in which nobody is asked any more: as many as a person may sleep, and the time that fees need to
/// rise ([`FEE_PRESSURE_BLOCKS`]).
pub const BREAKER_URGENT_BLOCKS: u32 = 48 + FEE_PRESSURE_BLOCKS;

/// Kept for each open channel: a commitment without HTLCs and its child weigh about 350 vB, so 10,000 sat pay for 28 sat/vB.
pub const RESERVE_PER_CHANNEL: Amount = Amount::from_sat(10_000);

/// Channels that the reserve is counted for at most: more than so many closes at once are an operator's matter.
pub const RESERVE_MAX_CHANNELS: u32 = 10;

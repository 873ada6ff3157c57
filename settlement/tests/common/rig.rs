//! A desk with its journal and a chain that only it sees, for tests.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Block, CompactTarget, FeeRate, Network, NetworkKind, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use channel::bytes::KeyId;
use channel::channel::ReadyTicket;
use channel::closing::ClosingTerms;
use channel::event::{ChainEvent, Command};
use channel::ids::{ChannelId, OwnerId};
use settlement::desk::{
    Breaker, Broadcast, Desk, DeskConfig, DeskReport, DeskRequest, Estimates, Moment, Outcome, Replay,
    ReservePolicy,
};
use settlement::fees::FeeBounds;
use settlement::follow::{BlockRef, ChainMemory, ChainStep};
use settlement::onchain::AddressKind;
use settlement::pool::VerifyPool;

use super::{Shape, hub, sat, ticket};

pub const FINAL_DEPTH: u32 = 3;

/// A desk, its journal, and a chain that only it sees.
pub struct Rig {
    pub config: DeskConfig,
    pub desk: Desk,
    pub snapshot: Option<Vec<u8>>,
    pub journal: Vec<Vec<u8>>,
    /// The blocks so far, the genesis block first.
    pub chain: Vec<BlockRef>,
    pub salt: u32,
}

/// What the channels and the broadcaster were told.
#[derive(Debug, Default)]
pub struct Told {
    pub commands: Vec<(OwnerId, Command)>,
    pub broadcasts: Vec<Broadcast>,
    pub reports: Vec<DeskReport>,
}

pub fn config() -> DeskConfig {
    DeskConfig {
        network: Network::Regtest,
        master: hub().onchain_master(NetworkKind::Test),
        address_gap: settlement::limits::ADDRESS_GAP,
        addresses: AddressKind::P2tr,
        final_depth: FINAL_DEPTH,
        fees: FeeBounds::default(),
        max_batch_tickets: 100,
        batch_patience_blocks: 2,
        reserve: ReservePolicy::default(),
        breaker: Breaker { publications: 2, window_blocks: 4 },
        proof_wait: Duration::ZERO,
    }
}

pub fn open(config: &DeskConfig, replay: Replay, tip: BlockRef) -> (Desk, Outcome) {
    let pool = Arc::new(VerifyPool::new(NonZeroUsize::new(2)).unwrap());
    let start = ChainMemory::starting_at(tip, FINAL_DEPTH);
    Desk::open(config.clone(), replay, start, Arc::new(hub()), pool).unwrap()
}

impl Rig {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: DeskConfig) -> Self {
        let hash = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
        let tip = BlockRef { height: 0, hash };
        let (desk, outcome) = open(&config, Replay::default(), tip);
        Self { config, desk, snapshot: None, journal: outcome.records, chain: vec![tip], salt: 0 }
    }

    /// Kills the desk and opens it from its snapshot and rows: equal to the one that lived on.
    pub fn restart(&mut self) -> Told {
        let (desk, outcome) = self.reopened();
        self.desk = desk;
        self.perform(outcome)
    }

    /// The desk that would be opened from the snapshot and rows so far: equal to the one that lives on.
    pub fn reopened(&self) -> (Desk, Outcome) {
        let lived_on = self.desk.snapshot();
        let mut replay = self
            .snapshot
            .as_deref()
            .map_or_else(Replay::default, |bytes| Replay::from_snapshot(bytes).unwrap());
        self.journal.iter().for_each(|record| replay.apply(record).unwrap());
        let (desk, outcome) = open(&self.config, replay, self.chain[0]);
        assert!(outcome.records.is_empty(), "opening again changes nothing");
        assert_eq!(desk.snapshot(), lived_on);
        (desk, outcome)
    }

    /// Replaces the rows so far by a snapshot.
    pub fn take_snapshot(&mut self) {
        self.snapshot = Some(self.desk.snapshot());
        self.journal.clear();
    }

    /// Kills the desk after the channels heard of a step and before its row; what the next one tells them.
    pub fn die_telling(&mut self, step: &ChainStep) -> Told {
        let outcome = self.desk.step(step).unwrap();
        assert!(!outcome.first.is_empty(), "there is nothing to tell");
        self.journal.extend(outcome.before);
        let mut replay = Replay::default();
        self.journal.iter().for_each(|record| replay.apply(record).unwrap());
        // A checkpoint in between changes nothing.
        let written_down = Replay::from_snapshot(&replay.snapshot().unwrap()).unwrap();
        let (desk, outcome) = open(&self.config, replay, self.chain[0]);
        let (other, same) = open(&self.config, written_down, self.chain[0]);
        assert_eq!(format!("{:?}", same.first), format!("{:?}", outcome.first));
        assert_eq!(same.records, outcome.records);
        assert_eq!(other.snapshot(), desk.snapshot());
        self.desk = desk;
        self.perform(outcome)
    }

    pub fn perform(&mut self, outcome: Outcome) -> Told {
        self.journal.extend(outcome.before);
        self.journal.extend(outcome.records);
        let commands = outcome.first.into_iter().chain(outcome.then).collect();
        Told { commands, broadcasts: outcome.broadcasts, reports: outcome.reports }
    }

    pub fn mine(&mut self, txdata: Vec<Transaction>) -> Told {
        let (tip, step) = self.block(txdata);
        self.chain.push(tip);
        let outcome = self.desk.step(&step).unwrap();
        self.perform(outcome)
    }

    /// A block on the tip.
    pub fn block(&mut self, txdata: Vec<Transaction>) -> (BlockRef, ChainStep) {
        self.salt += 1;
        let prev = self.tip().hash;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: prev,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        let tip = BlockRef { height: self.tip().height + 1, hash: header.block_hash() };
        let step = ChainStep::Connected {
            height: tip.height,
            hash: tip.hash,
            prev,
            time: self.salt,
            block: Arc::new(Block { header, txdata }),
        };
        (tip, step)
    }

    pub fn tip(&self) -> BlockRef {
        *self.chain.last().unwrap()
    }

    /// Takes the tip back.
    pub fn unmine(&mut self) -> Told {
        let tip = self.chain.pop().unwrap();
        let step = ChainStep::Disconnected { height: tip.height, hash: tip.hash };
        let outcome = self.desk.step(&step).unwrap();
        self.perform(outcome)
    }

    pub fn ask(&mut self, owner: OwnerId, request: DeskRequest) -> Told {
        let outcome = self.desk.request(owner, request, &moment());
        self.perform(outcome)
    }

    /// Gives the desk a confirmed coin.
    pub fn receive(&mut self, amount: u64) {
        let (address, outcome) = self.desk.new_address();
        self.perform(outcome);
        let output = TxOut { value: sat(amount), script_pubkey: address.script_pubkey() };
        let mut payment = strangers_payment(output);
        // Of two payments that spend the same, only one would count.
        payment.input[0].previous_output.vout = self.salt;
        self.mine(vec![payment]);
    }
}

pub fn moment() -> Moment {
    Moment {
        unix_seconds: 1_700_000_000,
        feerate: FeeRate::from_sat_per_kwu(500),
        estimates: Estimates::flat(FeeRate::from_sat_per_kwu(500)),
        randomness: [3; 32],
    }
}

pub fn strangers_payment(output: TxOut) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![output],
    }
}

pub fn events(told: &Told) -> Vec<&ChainEvent> {
    told.commands
        .iter()
        .filter_map(|(_, command)| if let Command::Chain(event) = command { Some(event) } else { None })
        .collect()
}

/// A frozen channel of the rig's, watched; the hub has a share in it that pays any fee.
pub fn frozen(rig: &mut Rig, number: u32) -> ReadyTicket {
    frozen_as(rig, number, Shape { funding_sat: 100_000, balance_msat: 60_000_000, fee_sat: 300 })
}

/// The same, with a share for the hub or without.
pub fn frozen_as(rig: &mut Rig, number: u32, shape: Shape) -> ReadyTicket {
    let made = ticket(number, shape);
    let owner = OwnerId(u64::from(number) + 5_000);
    let (outpoint, output) = (made.spec.funding_outpoint, made.spec.spent_output());
    rig.ask(owner, DeskRequest::WatchFunding { outpoint, output, minimum_depth: 1 });
    let key_id: KeyId = made.key_id;
    ReadyTicket {
        owner,
        channel_id: ChannelId([number as u8; 32]),
        key_id,
        terms: ClosingTerms { fee: sat(shape.fee_sat), publish_by_height: 100 },
        spec: made.spec,
        signature: made.signature,
    }
}

/// The one batch that is to be broadcast.
pub fn batch_of(told: &Told) -> Transaction {
    let closes: Vec<&Transaction> = told
        .broadcasts
        .iter()
        .filter_map(|broadcast| match broadcast {
            Broadcast::Close(verified) => Some(verified.transaction()),
            _ => None,
        })
        .collect();
    let [batch] = closes[..] else { panic!("{told:?}") };
    batch.clone()
}

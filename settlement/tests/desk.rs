//! The desk from outside: what it tells channels, what it broadcasts, and that a restart changes none of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, FeeRate, Network, NetworkKind, OutPoint, ScriptBuf, Sequence,
    Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use channel::bytes::KeyId;
use channel::channel::ReadyTicket;
use channel::closing::ClosingTerms;
use channel::event::{AbortReason, ChainEvent, Command};
use channel::ids::{ChannelId, OwnerId};
use common::{Shape, hub, sat, ticket};
use settlement::desk::{Broadcast, Desk, DeskConfig, DeskReport, DeskRequest, Moment, Outcome, Replay};
use settlement::fees::FeeBounds;
use settlement::follow::{BlockRef, ChainMemory, ChainStep};
use settlement::onchain::AddressKind;
use settlement::pool::VerifyPool;

const FINAL_DEPTH: u32 = 3;

/// A desk, its journal, and a chain that only it sees.
struct Rig {
    desk: Desk,
    snapshot: Option<Vec<u8>>,
    journal: Vec<Vec<u8>>,
    tip: BlockRef,
    salt: u32,
}

/// What the channels and the broadcaster were told.
#[derive(Debug, Default)]
struct Told {
    commands: Vec<(OwnerId, Command)>,
    broadcasts: Vec<Broadcast>,
    reports: Vec<DeskReport>,
}

fn config() -> DeskConfig {
    DeskConfig {
        network: Network::Regtest,
        master: hub().onchain_master(NetworkKind::Test),
        addresses: AddressKind::P2tr,
        final_depth: FINAL_DEPTH,
        fees: FeeBounds::default(),
        max_batch_tickets: 100,
        batch_patience_blocks: 2,
    }
}

fn open(replay: Replay, tip: BlockRef) -> (Desk, Outcome) {
    let pool = Arc::new(VerifyPool::new(NonZeroUsize::new(2)).unwrap());
    let start = ChainMemory::starting_at(tip, FINAL_DEPTH);
    Desk::open(config(), replay, start, Arc::new(hub()), pool).unwrap()
}

impl Rig {
    fn new() -> Self {
        let hash = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
        let tip = BlockRef { height: 0, hash };
        let (desk, outcome) = open(Replay::default(), tip);
        Self { desk, snapshot: None, journal: outcome.records, tip, salt: 0 }
    }

    /// Kills the desk and opens it from its snapshot and rows: equal to the one that lived on.
    fn restart(&mut self) {
        let lived_on = self.desk.snapshot();
        let mut replay = self
            .snapshot
            .as_deref()
            .map_or_else(Replay::default, |bytes| Replay::from_snapshot(bytes).unwrap());
        self.journal.iter().for_each(|record| replay.apply(record).unwrap());
        let (desk, outcome) = open(replay, self.tip);
        assert!(outcome.records.is_empty(), "opening again changes nothing");
        assert_eq!(desk.snapshot(), lived_on);
        self.desk = desk;
    }

    /// Replaces the rows so far by a snapshot.
    fn take_snapshot(&mut self) {
        self.snapshot = Some(self.desk.snapshot());
        self.journal.clear();
    }

    fn perform(&mut self, outcome: Outcome) -> Told {
        self.journal.extend(outcome.records);
        let commands = outcome.first.into_iter().chain(outcome.then).collect();
        Told { commands, broadcasts: outcome.broadcasts, reports: outcome.reports }
    }

    fn mine(&mut self, txdata: Vec<Transaction>) -> Told {
        self.salt += 1;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.tip.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        let prev = self.tip.hash;
        self.tip = BlockRef { height: self.tip.height + 1, hash: header.block_hash() };
        let outcome = self
            .desk
            .step(&ChainStep::Connected {
                height: self.tip.height,
                hash: self.tip.hash,
                prev,
                time: self.salt,
                block: Arc::new(Block { header, txdata }),
            })
            .unwrap();
        self.perform(outcome)
    }

    /// Takes the tip back; its parent must be known to the caller.
    fn unmine(&mut self, parent: BlockHash) -> Told {
        let step = ChainStep::Disconnected { height: self.tip.height, hash: self.tip.hash };
        self.tip = BlockRef { height: self.tip.height - 1, hash: parent };
        let outcome = self.desk.step(&step).unwrap();
        self.perform(outcome)
    }

    fn ask(&mut self, owner: OwnerId, request: DeskRequest) -> Told {
        let outcome = self.desk.request(owner, request, &moment());
        self.perform(outcome)
    }

    /// Gives the desk a confirmed coin.
    fn receive(&mut self, amount: u64) {
        let (address, outcome) = self.desk.new_address();
        self.perform(outcome);
        let payment = strangers_payment(TxOut { value: sat(amount), script_pubkey: address.script_pubkey() });
        self.mine(vec![payment]);
    }
}

fn moment() -> Moment {
    Moment { unix_seconds: 1_700_000_000, feerate: FeeRate::from_sat_per_kwu(500), randomness: [3; 32] }
}

fn strangers_payment(output: TxOut) -> Transaction {
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

fn funding_output() -> TxOut {
    let script_pubkey = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([5; 32]));
    TxOut { value: sat(50_000), script_pubkey }
}

fn events(told: &Told) -> Vec<&ChainEvent> {
    told.commands
        .iter()
        .filter_map(|(_, command)| if let Command::Chain(event) = command { Some(event) } else { None })
        .collect()
}

const OWNER: OwnerId = OwnerId(2_000);

/// Builds, watches and broadcasts a funding; gives its transaction and outpoint.
fn fund(rig: &mut Rig) -> (Transaction, OutPoint) {
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output() });
    let [(OWNER, Command::FundingBuilt { transaction, output_index })] = &told.commands[..] else {
        panic!("{told:?}")
    };
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: *output_index };
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: 2 });
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    assert!(matches!(&told.broadcasts[..], [Broadcast::Funding(funding)] if funding.txid() == outpoint.txid));
    (transaction.clone(), outpoint)
}

#[test]
fn a_funding_is_built_watched_confirmed_and_deep() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, _) = fund(&mut rig);
    rig.restart();
    // After the restart the channel asks again; the desk verifies again before it broadcasts again.
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    assert!(matches!(&told.broadcasts[..], [Broadcast::Funding(_)]));
    let told = rig.mine(vec![transaction]);
    let height = rig.tip.height;
    let output = Some(funding_output());
    assert_eq!(events(&told), [&ChainEvent::FundingConfirmed { height, block_index: 0, output }]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::Confirmed(_)]));
    rig.restart();
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), [&ChainEvent::FundingDeep { height }]);
    rig.take_snapshot();
    rig.restart();
}

#[test]
fn a_reorganised_funding_is_undone_and_published_again() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let parent = rig.tip.hash;
    let (transaction, _) = fund(&mut rig);
    rig.mine(vec![transaction.clone()]);
    let told = rig.unmine(parent);
    assert_eq!(events(&told), [&ChainEvent::FundingUndone]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::Undone(_)]));
    rig.restart();
    let told = rig.mine(vec![transaction]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingConfirmed { .. }]));
}

#[test]
fn a_funding_without_coins_aborts_the_opening_and_locks_nothing() {
    let mut rig = Rig::new();
    rig.receive(10_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output() });
    assert!(matches!(
        told.commands[..],
        [(OWNER, Command::AbortOpening { why: AbortReason::NotEnoughFunds })]
    ));
    assert_eq!(rig.desk.summary().balance.confirmed, sat(10_000));
}

#[test]
fn released_coins_are_free_again_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output() });
    let [(_, Command::FundingBuilt { transaction, .. })] = &told.commands[..] else { panic!("{told:?}") };
    rig.restart();
    assert_eq!(rig.desk.summary().balance.locked, sat(100_000), "locks outlive the process");
    rig.ask(OWNER, DeskRequest::ReleaseCoins { transaction: Some(transaction.clone()) });
    rig.restart();
    assert_eq!(rig.desk.summary().balance.confirmed, sat(100_000));
}

#[test]
fn a_funding_that_is_not_watched_is_not_broadcast() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let transaction = strangers_payment(funding_output());
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction });
    assert!(told.broadcasts.is_empty());
    assert!(matches!(&told.reports[..], [DeskReport::Trouble { .. }]));
}

#[test]
fn an_unconfirmed_funding_is_given_up_in_time() {
    let mut rig = Rig::new();
    let outpoint = OutPoint { txid: Txid::from_byte_array([1; 32]), vout: 0 };
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: 1 });
    for _ in 1..settlement::limits::FUNDING_TIMEOUT_BLOCKS {
        assert!(rig.mine(vec![]).commands.is_empty());
    }
    let told = rig.mine(vec![]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingNeverConfirms { .. }]));
}

#[test]
fn a_funding_of_our_own_is_never_given_up_while_it_can_still_confirm() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, _) = fund(&mut rig);
    rig.restart();
    for _ in 0..=settlement::limits::FUNDING_TIMEOUT_BLOCKS {
        assert!(events(&rig.mine(vec![])).is_empty(), "a channel that forgot it would lose its coins");
    }
    let told = rig.mine(vec![transaction]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingConfirmed { .. }]));
}

#[test]
fn a_depth_beyond_the_final_one_is_told_when_the_funding_is_final() {
    let mut rig = Rig::new();
    let transaction = strangers_payment(funding_output());
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 0 };
    let request =
        DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: FINAL_DEPTH + 1 };
    rig.ask(OWNER, request.clone());
    rig.mine(vec![transaction]);
    let height = rig.tip.height;
    rig.mine(vec![]);
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), [&ChainEvent::FundingDeep { height }]);
    let told = rig.ask(OWNER, request);
    assert!(events(&told).contains(&&ChainEvent::FundingDeep { height }), "and again to who asks again");
}

/// A frozen channel of the rig's, watched and confirmed.
fn frozen(rig: &mut Rig, number: u32) -> ReadyTicket {
    let made = ticket(number, Shape { funding_sat: 100_000, balance_msat: 60_000_000, fee_sat: 300 });
    let owner = OwnerId(u64::from(number) + 5_000);
    let (outpoint, output) = (made.spec.funding_outpoint, made.spec.spent_output());
    rig.ask(owner, DeskRequest::WatchFunding { outpoint, output, minimum_depth: 1 });
    let key_id: KeyId = made.key_id;
    ReadyTicket {
        owner,
        channel_id: ChannelId([number as u8; 32]),
        key_id,
        terms: ClosingTerms { fee: sat(300), publish_by_height: 100 },
        spec: made.spec,
        signature: made.signature,
    }
}

fn batch_of(told: &Told) -> Transaction {
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

#[test]
fn tickets_become_one_batch_that_is_handed_out_confirmed_and_final() {
    let mut rig = Rig::new();
    let tickets: Vec<ReadyTicket> = (0..5).map(|number| frozen(&mut rig, number)).collect();
    for ticket in &tickets {
        let told = rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
        assert!(told.broadcasts.is_empty(), "tickets wait for company");
    }
    assert!(rig.desk.batch_wanted());
    let outcome = rig.desk.make_batches(&moment());
    let told = rig.perform(outcome);
    let batch = batch_of(&told);
    assert_eq!(told.commands.len(), 5, "every wallet gets the transaction");
    assert!(!rig.desk.batch_wanted());

    // A restart forgets what was verified; the tickets bring it back, and the same transaction.
    rig.restart();
    for ticket in &tickets[..4] {
        let told = rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
        assert!(told.broadcasts.is_empty(), "a batch is verified whole or not at all");
    }
    let told = rig.ask(tickets[4].owner, DeskRequest::TicketReady(Box::new(tickets[4].clone())));
    assert_eq!(batch_of(&told), batch);

    let txid = batch.compute_txid();
    let told = rig.mine(vec![batch]);
    assert_eq!(events(&told).len(), 5);
    let height = rig.tip.height;
    rig.restart();
    rig.mine(vec![]);
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), vec![&ChainEvent::SpendFinal { height, txid }; 5]);
    assert_eq!(rig.desk.summary().batches, 0);
    let hub_share = rig.desk.summary().balance.confirmed;
    assert!(hub_share > sat(5 * 40_000) - sat(5_000), "the hub's share came home: {hub_share}");
}

#[test]
fn a_batch_that_waits_too_long_is_replaced_at_a_higher_fee() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
    let outcome = rig.desk.make_batches(&moment());
    let first = batch_of(&rig.perform(outcome));
    rig.mine(vec![]);
    let outcome = rig.desk.bump_batches(&moment());
    assert!(rig.perform(outcome).broadcasts.is_empty(), "not yet");
    rig.mine(vec![]);
    let outcome = rig.desk.bump_batches(&moment());
    let told = rig.perform(outcome);
    assert!(
        told.broadcasts
            .iter()
            .any(|broadcast| matches!(broadcast, Broadcast::Forget(txid) if *txid == first.compute_txid()))
    );
    let second = batch_of(&told);
    assert_eq!(second.input[0].previous_output, first.input[0].previous_output);
    let paid = |batch: &Transaction| batch.output.iter().map(|output| output.value).sum::<Amount>();
    assert!(paid(&second) < paid(&first), "the hub pays more");
    assert_eq!(second.output[0], first.output[0], "the wallet does not");
    rig.restart();
}

#[test]
fn a_wallet_publishes_the_batch_it_holds_when_the_hub_did_not() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    let mut hubs = Rig::new();
    let same = frozen(&mut hubs, 1);
    hubs.ask(same.owner, DeskRequest::TicketReady(Box::new(same)));
    let outcome = hubs.desk.make_batches(&moment());
    let batch = batch_of(&hubs.perform(outcome));

    let request =
        DeskRequest::ClosingHandedOver { transaction: batch.clone(), publish_by_height: rig.tip.height + 2 };
    assert!(rig.ask(ticket.owner, request.clone()).broadcasts.is_empty());
    assert!(rig.mine(vec![]).broadcasts.is_empty());
    let told = rig.mine(vec![]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::HandedOver(_)]));

    let mut forged = batch;
    forged.output.pop();
    let DeskRequest::ClosingHandedOver { publish_by_height, .. } = request else { unreachable!() };
    let mut other = Rig::new();
    let ticket = frozen(&mut other, 1);
    let request = DeskRequest::ClosingHandedOver { transaction: forged, publish_by_height };
    other.ask(ticket.owner, request);
    other.mine(vec![]);
    let told = other.mine(vec![]);
    assert!(told.broadcasts.is_empty(), "a batch that the hub's signature does not cover is worth nothing");
    assert!(matches!(&told.reports[..], [DeskReport::Trouble { .. }]));
}

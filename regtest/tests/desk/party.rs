//! A chain, and parties with a desk each. What a channel would ask of its desk is worked out anew from what the desk told
//! about its outputs; a party may be killed and started again at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Network, NetworkKind, OutPoint, Transaction, TxOut, Txid};
use channel::claim::{Claim, ClaimKind, preimage_in};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use channel::seed_signer::SeedSigner;
use regtest::bitcoind::View;
use regtest::{Bitcoind, Miner, Options};
use settlement::desk::service::{DeskEnd, DeskHandle, DeskHost, DeskService, Stopping};
use settlement::desk::{
    Breaker, ClaimState, CommitmentState, Desk, DeskConfig, DeskReport, DeskRequest, OnchainStatus, Replay,
    ReservePolicy,
};
use settlement::fees::FeeBounds;
use settlement::follow::{ChainMemory, Follower, RpcSource, Waiting};
use settlement::onchain::AddressKind;
use settlement::pool::VerifyPool;
use settlement::rpc::{Auth, RpcClient, RpcConfig};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::pair::{Commitment, End, Pair, funding_output, signer};

pub const FINAL_DEPTH: u32 = 6;
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node and its miner.
pub struct World {
    pub miner: Miner,
    pub node: Bitcoind,
    start: ChainMemory,
}

impl World {
    pub async fn start(arguments: &[&str]) -> World {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let node = Bitcoind::start(Options { arguments, ..Options::default() }).unwrap();
        let miner = Miner::with_coins(node.rpc(), 6).unwrap();
        let start = Follower::starting_memory(&source(&client(&node)), FINAL_DEPTH).await.unwrap();
        World { miner, node, start }
    }

    pub fn height(&self) -> u32 {
        self.node.rpc().height().unwrap()
    }

    /// A party of this end's seed with confirmed coins.
    pub async fn party(&mut self, end: End, coins: &[u64]) -> Party {
        let party = Party::start(self, end);
        self.pay(&party, coins).await;
        party
    }

    /// A block with these coins for the party, whatever the miner would take.
    pub async fn pay(&mut self, party: &Party, coins: &[u64]) {
        let mut outputs = Vec::new();
        for sat in coins {
            let script_pubkey = party.desk.new_address().await.unwrap().script_pubkey();
            outputs.push(TxOut { value: Amount::from_sat(*sat), script_pubkey });
        }
        let paid = if outputs.is_empty() { vec![] } else { vec![self.miner.build(outputs).unwrap()] };
        self.block_of(&paid, &[party]).await;
    }

    /// Funds channel `number`, watched by these parties from before.
    pub async fn channel(&mut self, number: u32, parties: &mut [&mut Party]) -> Arc<Pair> {
        let output = funding_output(number);
        let transaction = self.miner.build(vec![output.clone()]).unwrap();
        let pair = Arc::new(Pair::new(number, OutPoint { txid: transaction.compute_txid(), vout: 0 }));
        for party in parties.iter() {
            party.watch(&pair);
        }
        for party in parties.iter() {
            // Answered after the watch is durable.
            party.desk.summary().await.unwrap();
        }
        let parties: Vec<&Party> = parties.iter().map(|party| &**party).collect();
        self.block_of(&[transaction], &parties).await;
        pair
    }

    /// An output of channel `number` that no party watches, in a block.
    pub fn fund_elsewhere(&mut self, number: u32) -> OutPoint {
        let transaction = self.miner.send(vec![funding_output(number)]).unwrap();
        self.miner.confirm(1).unwrap();
        OutPoint { txid: transaction.compute_txid(), vout: 0 }
    }

    /// A block of exactly these, taken in by all.
    pub async fn block_of(&mut self, transactions: &[Transaction], parties: &[&Party]) {
        self.node.rpc().mine_exactly(self.miner.address(), transactions).unwrap();
        self.miner.rescan().unwrap();
        for party in parties {
            party.follows(self).await;
        }
    }

    /// A block without anything of the mempool's, taken in by all.
    pub async fn empty_block(&mut self, parties: &[&Party]) {
        self.miner.mine_empty(1).unwrap();
        for party in parties {
            party.follows(self).await;
        }
    }

    /// A block with all that the miner wants of the mempool, taken in by all.
    pub async fn block(&mut self, parties: &[&Party]) {
        self.miner.confirm(1).unwrap();
        for party in parties {
            party.follows(self).await;
        }
    }

    pub fn mempool(&self) -> BTreeSet<Txid> {
        self.node.rpc().mempool().unwrap().into_iter().collect()
    }

    /// Who spends the output in the mempool.
    pub async fn spender(&self, outpoint: OutPoint) -> Option<Txid> {
        client(&self.node).get_mempool_spenders(&[outpoint]).await.unwrap()[0]
    }

    /// A transaction of the mempool.
    pub async fn transaction(&self, txid: Txid) -> Option<Transaction> {
        client(&self.node).get_raw_transaction(txid, None).await.unwrap()
    }

    pub fn is_unspent(&self, outpoint: OutPoint) -> bool {
        self.node.rpc().unspent(outpoint, View::Chain).unwrap().is_some()
    }

    /// Polls the node until a condition holds.
    pub async fn until<T>(&self, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = probe().await {
                return seen;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come true");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn client(node: &Bitcoind) -> RpcClient {
    RpcClient::new(RpcConfig::new(node.url(), Auth::Cookie(node.cookie_file().to_owned())))
}

fn source(client: &RpcClient) -> RpcSource {
    RpcSource::new(client.clone(), Network::Regtest, Waiting::Poll { every: Duration::from_millis(10) })
}

/// What a channel knows, durably.
pub struct Played {
    pair: Arc<Pair>,
    /// Every commitment that may show up; ours that is to be published, if any.
    commitments: Vec<Arc<Commitment>>,
    publish: Option<(Arc<Commitment>, Option<u32>)>,
    /// Revoked numbers of the other end.
    revoked: BTreeSet<u64>,
    /// HTLCs whose preimages are known.
    known: BTreeSet<u64>,
    closed: Option<(Txid, u32)>,
    spends: BTreeMap<OutPoint, (Transaction, u32)>,
    final_spends: BTreeSet<OutPoint>,
    /// Preimages read from the mempool or a block.
    pub learned: BTreeSet<[u8; 32]>,
}

impl Played {
    fn note(&mut self, event: &ChainEvent) {
        match event {
            ChainEvent::FundingSpent { transaction, height, .. } => {
                self.closed = Some((transaction.compute_txid(), *height));
            }
            ChainEvent::SpendUndone { .. } => {
                self.closed = None;
                self.spends.clear();
            }
            ChainEvent::OutputSpent { outpoint, height, transaction } => {
                self.learn(transaction);
                self.spends.insert(*outpoint, (transaction.clone(), *height));
            }
            ChainEvent::OutputSpendUndone { outpoint, .. } => {
                self.spends.remove(outpoint);
            }
            ChainEvent::OutputSpendFinal { outpoint, .. } => {
                self.final_spends.insert(*outpoint);
            }
            ChainEvent::SeenInMempool { transaction } => self.learn(transaction),
            ChainEvent::FundingConfirmed { .. }
            | ChainEvent::FundingUndone
            | ChainEvent::FundingDeep { .. }
            | ChainEvent::FundingNeverConfirms { .. }
            | ChainEvent::SpendFinal { .. }
            | ChainEvent::FundingFinal
            | ChainEvent::OutputGivenUp { .. }
            | ChainEvent::Deadline { .. } => {}
        }
    }

    /// The commitment in a block.
    pub fn closed_by(&self) -> Option<Txid> {
        self.closed.map(|(txid, _)| txid)
    }

    fn learn(&mut self, transaction: &Transaction) {
        for input in &transaction.input {
            self.learned.extend(preimage_in(&input.witness).map(|preimage| preimage.to_bytes()));
        }
    }

    fn claims(&self, end: End) -> Vec<Claim> {
        let Some((txid, height)) = self.closed else { return Vec::new() };
        let Some(commitment) = self.commitments.iter().find(|one| one.built.txid() == txid) else {
            return Vec::new();
        };
        let pair = &self.pair;
        let mut claims = if commitment.of == end {
            pair.own_claims(commitment, height)
        } else if self.revoked.contains(&commitment.built.number()) {
            pair.penalties(commitment, height)
        } else {
            pair.their_claims(commitment, height)
        };
        for (transaction, height) in self.spends.values() {
            if commitment.of == end {
                claims.extend(pair.second_stages(commitment, transaction, *height));
            } else if self.revoked.contains(&commitment.built.number()) {
                claims.extend(pair.second_penalties(commitment, transaction, *height));
            }
        }
        claims.retain(|claim| match claim.kind {
            ClaimKind::HtlcSuccess { id } => self.known.contains(&id),
            ClaimKind::ToLocal
            | ClaimKind::ToRemote
            | ClaimKind::HtlcTimeout { .. }
            | ClaimKind::SecondStage { .. }
            | ClaimKind::PenaltyToLocal
            | ClaimKind::PenaltyHtlc
            | ClaimKind::PenaltySecondStage => true,
        });
        claims.retain(|claim| !self.final_spends.contains(&claim.outpoint));
        let mut seen = BTreeSet::new();
        claims.retain(|claim| seen.insert(claim.outpoint));
        claims
    }
}

/// What outlives the process: the journal, and the channels.
#[derive(Default)]
struct Disk {
    rows: Vec<Vec<u8>>,
    channels: BTreeMap<OwnerId, Played>,
    reports: Vec<DeskReport>,
}

#[derive(Clone)]
struct Host {
    end: End,
    disk: Arc<Mutex<Disk>>,
    desk: Arc<Mutex<Option<DeskHandle>>>,
    changed: Arc<Notify>,
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn plan(&self, owner: OwnerId) {
        let plan = {
            let disk = self.lock();
            let Some(channel) = disk.channels.get(&owner) else { return };
            let publish = channel.publish.as_ref().filter(|_| channel.closed.is_none());
            let job = publish.map(|(commitment, deadline)| channel.pair.publish(commitment, *deadline));
            channel.pair.plan(job, channel.claims(self.end))
        };
        if let Some(desk) = &*self.desk.lock().unwrap() {
            desk.request(owner, DeskRequest::Plan(Box::new(plan)));
        }
    }
}

impl DeskHost for Host {
    async fn deliver(&self, commands: Vec<(OwnerId, Command)>) {
        let mut owners = BTreeSet::new();
        for (owner, command) in commands {
            if let Command::Chain(event) = command
                && let Some(channel) = self.lock().channels.get_mut(&owner)
            {
                channel.note(&event);
                owners.insert(owner);
            }
        }
        owners.into_iter().for_each(|owner| self.plan(owner));
        self.changed.notify_waiters();
    }

    async fn height(&self, _: u32, _: u32) {}

    async fn append(&self, records: Vec<Vec<u8>>, snapshot: Option<Vec<u8>>) -> Result<(), Stopping> {
        assert!(snapshot.is_none(), "nobody asked for one");
        self.lock().rows.extend(records);
        Ok(())
    }

    fn randomness(&self) -> [u8; 32] {
        [7; 32]
    }

    fn unix_seconds(&self) -> u64 {
        std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }

    fn report(&self, report: DeskReport) {
        self.lock().reports.push(report);
    }
}

/// One end of channels, with its desk.
pub struct Party {
    pub end: End,
    pub desk: DeskHandle,
    host: Host,
    running: Option<JoinHandle<DeskEnd>>,
}

impl Drop for Party {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Party {
    fn start(world: &World, end: End) -> Party {
        let host = Host { end, disk: Arc::default(), desk: Arc::default(), changed: Arc::default() };
        let (desk, running) = run(world, &host);
        Party { end, desk, host, running: Some(running) }
    }

    /// Kills the process: what it was about to do is not done.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        *self.host.desk.lock().unwrap() = None;
    }

    /// Starts it again from its rows; the channels ask for everything again.
    pub async fn restart(&mut self, world: &World) {
        self.kill().await;
        let (desk, running) = run(world, &self.host);
        (self.desk, self.running) = (desk, Some(running));
        let pairs: Vec<Arc<Pair>> =
            self.host.lock().channels.values().map(|channel| Arc::clone(&channel.pair)).collect();
        for pair in pairs {
            self.ask_to_watch(&pair);
            self.host.plan(pair.owner());
        }
        self.follows(world).await;
    }

    fn watch(&self, pair: &Arc<Pair>) {
        let played = Played {
            pair: Arc::clone(pair),
            commitments: Vec::new(),
            publish: None,
            revoked: BTreeSet::new(),
            known: BTreeSet::new(),
            closed: None,
            spends: BTreeMap::new(),
            final_spends: BTreeSet::new(),
            learned: BTreeSet::new(),
        };
        self.host.lock().channels.insert(pair.owner(), played);
        self.ask_to_watch(pair);
    }

    fn ask_to_watch(&self, pair: &Pair) {
        let output: TxOut = funding_output(pair.number);
        let request = DeskRequest::WatchFunding { outpoint: pair.funding, output, minimum_depth: 1 };
        self.desk.request(pair.owner(), request);
    }

    /// Makes known what may happen in a channel, or what this party wants there now.
    pub fn play(&self, pair: &Pair, change: impl FnOnce(&mut Played)) {
        change(self.host.lock().channels.get_mut(&pair.owner()).unwrap());
        self.host.plan(pair.owner());
    }

    /// The commitments that may show up.
    pub fn knows(&self, pair: &Pair, commitments: &[&Arc<Commitment>]) {
        let commitments = commitments.iter().map(|commitment| Arc::clone(commitment));
        self.play(pair, |channel| channel.commitments.extend(commitments));
    }

    pub fn knows_preimages(&self, pair: &Pair, ids: &[u64]) {
        self.play(pair, |channel| channel.known.extend(ids));
    }

    pub fn holds_revoked(&self, pair: &Pair, number: u64) {
        self.play(pair, |channel| channel.revoked.extend([number]));
    }

    /// Closes the channel by this commitment of its own.
    pub fn close(&self, pair: &Pair, commitment: &Arc<Commitment>, deadline: Option<u32>) {
        self.play(pair, |channel| channel.publish = Some((Arc::clone(commitment), deadline)));
    }

    pub fn look<T>(&self, pair: &Pair, read: impl FnOnce(&Played) -> T) -> T {
        read(&self.host.lock().channels[&pair.owner()])
    }

    pub fn reports(&self) -> Vec<DeskReport> {
        self.host.lock().reports.clone()
    }

    pub async fn status(&self, pair: &Pair) -> Option<OnchainStatus> {
        let all = self.desk.onchain_statuses().await.unwrap();
        all.into_iter().find(|status| status.owner == pair.owner())
    }

    pub async fn coins(&self) -> Amount {
        let balance = self.desk.summary().await.unwrap().balance;
        balance.confirmed + balance.locked
    }

    /// Waits until the desk stands where the node does.
    pub async fn follows(&self, world: &World) {
        let (height, mut heights) = (world.height(), self.desk.heights());
        let reached = heights.wait_for(|reached| *reached == height);
        tokio::time::timeout(PATIENCE, reached).await.expect("the desk follows").unwrap();
        // What the block brought is taken in before this is answered.
        self.desk.summary().await.unwrap();
    }

    /// Waits until something of this party spends the output in the mempool.
    pub async fn spends(&self, world: &World, outpoint: OutPoint) -> Txid {
        world
            .until(&format!("{:?} spends {outpoint}", self.end), async || world.spender(outpoint).await)
            .await
    }
}

fn run(world: &World, host: &Host) -> (DeskHandle, JoinHandle<DeskEnd>) {
    let seed: SeedSigner = signer(host.end);
    let config = DeskConfig {
        network: Network::Regtest,
        master: seed.onchain_master(NetworkKind::Test),
        addresses: AddressKind::P2tr,
        address_gap: settlement::limits::ADDRESS_GAP,
        final_depth: FINAL_DEPTH,
        fees: FeeBounds::new(FeeRate::from_sat_per_kwu(253), FeeRate::from_sat_per_kwu(125_000)).unwrap(),
        max_batch_tickets: 100,
        batch_patience_blocks: 2,
        reserve: ReservePolicy::default(),
        breaker: Breaker::default(),
        proof_wait: Duration::ZERO,
    };
    let mut replay = Replay::default();
    host.lock().rows.iter().for_each(|row| replay.apply(row).unwrap());
    let pool = Arc::new(VerifyPool::new(None).unwrap());
    let (desk, first) = Desk::open(config, replay, world.start.clone(), Arc::new(seed), pool).unwrap();
    let rpc = client(&world.node);
    let (service, handle) =
        DeskService::new(desk, host.clone(), rpc.clone(), source(&rpc), Duration::from_millis(50));
    *host.desk.lock().unwrap() = Some(handle.clone());
    (handle, tokio::spawn(service.run(first)))
}

impl World {
    /// Waits until everything that these parties can send now is in the mempool, or refused.
    pub async fn sent(&self, parties: &[&Party]) {
        for party in parties {
            self.until(&format!("what {:?} sends", party.end), async || {
                let (height, mempool) = (self.height(), self.mempool());
                let looked = party.desk.summary().await.unwrap().settled_height;
                if looked != Some(height) {
                    return None;
                }
                let statuses = party.desk.onchain_statuses().await.unwrap();
                let out = statuses.iter().all(|status| is_out(status, height, &mempool));
                out.then_some(())
            })
            .await;
        }
    }

    /// Mines until nothing of a channel is left to take for these parties and all of it is final; each block once
    /// everything that could be sent is out. `disturb` comes before each block.
    pub async fn finish(
        &mut self,
        parties: &mut [&mut Party],
        pair: &Pair,
        mut disturb: impl AsyncFnMut(&mut World, &mut [&mut Party], u32),
    ) {
        for block in 0..120 {
            let done = |party: &&mut Party| {
                party.look(pair, |channel| channel.closed.is_some() && channel.claims(party.end).is_empty())
            };
            if parties.iter().all(done) {
                return;
            }
            disturb(self, parties, block).await;
            let looks: Vec<&Party> = parties.iter().map(|party| &**party).collect();
            self.sent(&looks).await;
            self.block(&looks).await;
        }
        for party in parties {
            println!("{:?}: {:?}\n{:?}", party.end, party.status(pair).await, party.reports());
        }
        panic!("the channel did not come to its end");
    }
}

fn is_out(status: &OnchainStatus, height: u32, mempool: &BTreeSet<Txid>) -> bool {
    let commitment = status.commitment.as_ref().is_none_or(|commitment| match &commitment.state {
        CommitmentState::Pending => false,
        CommitmentState::Sent { refused: Some(_), .. } => true,
        CommitmentState::Sent { refused: None, child, .. } => {
            mempool.contains(&commitment.txid) && mempool.contains(child)
        }
        CommitmentState::AwaitsFunding
        | CommitmentState::AwaitsProof
        | CommitmentState::Suspended
        | CommitmentState::Held
        | CommitmentState::LeavesRoom { .. }
        | CommitmentState::TooDear { .. }
        | CommitmentState::NoCoin { .. }
        | CommitmentState::Faulty { .. } => true,
    });
    commitment
        && status.claims.iter().all(|claim| match &claim.state {
            ClaimState::Pending => false,
            ClaimState::Waits { height: ripe } => *ripe > height + 1,
            ClaimState::Sent { refused: Some(_), .. } => true,
            ClaimState::Sent { refused: None, txid, .. } => mempool.contains(txid),
            ClaimState::Uneconomic
            | ClaimState::TooDear { .. }
            | ClaimState::NoCoin { .. }
            | ClaimState::Faulty { .. }
            | ClaimState::Spent { .. } => true,
        })
}

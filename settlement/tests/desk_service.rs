//! The desk at work, with a node that takes its time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bitcoin::{Block, BlockHash};
use channel::claim::OnchainPlan;
use channel::event::Command;
use channel::ids::OwnerId;
use common::hub;
use common::pair::{End, Pair};
use common::rig::{FINAL_DEPTH, Rig, config};
use common::settling::{channel, give, package, settle};
use settlement::desk::service::{DeskHandle, DeskHost, DeskService, Stopping};
use settlement::desk::{CommitmentState, Desk, DeskConfig, DeskReport, DeskRequest, Replay};
use settlement::follow::{BlockRef, BlockSource, ChainMemory, SourceTip};
use settlement::pool::VerifyPool;
use settlement::rpc::{Auth, RpcClient, RpcConfig, RpcError};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

/// Passes on what the desk reports.
struct Host(mpsc::UnboundedSender<DeskReport>);

impl Host {
    fn new() -> (Self, mpsc::UnboundedReceiver<DeskReport>) {
        let (reports, heard) = mpsc::unbounded_channel();
        (Host(reports), heard)
    }

    fn unheard() -> Self {
        Self::new().0
    }
}

impl DeskHost for Host {
    async fn deliver(&self, _: Vec<(OwnerId, Command)>) {}
    async fn height(&self, _: u32, _: u32) {}
    async fn append(&self, _: Vec<Vec<u8>>, _: Option<Vec<u8>>) -> Result<(), Stopping> {
        Ok(())
    }
    fn randomness(&self) -> [u8; 32] {
        [1; 32]
    }
    fn unix_seconds(&self) -> u64 {
        1_767_225_600
    }
    fn report(&self, report: DeskReport) {
        let _ = self.0.send(report);
    }
}

/// Is asked for hashes, and never answers.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
    was_asked: Notify,
}

#[derive(Clone, Default)]
struct SlowSource(Arc<Slow>);

impl BlockSource for SlowSource {
    async fn tip(&self) -> Result<SourceTip, RpcError> {
        std::future::pending().await
    }
    async fn hashes(&self, _: Range<u32>) -> Result<Vec<BlockHash>, RpcError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.0.was_asked.notify_one();
        std::future::pending().await
    }
    async fn block(&self, _: BlockHash) -> Result<Arc<Block>, RpcError> {
        std::future::pending().await
    }
    async fn wait(&self, _: BlockHash) -> Result<(), RpcError> {
        std::future::pending().await
    }
    async fn check(&self) -> Result<(), RpcError> {
        Ok(())
    }
}

fn open() -> Desk {
    let hash = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash();
    let start = ChainMemory::starting_at(BlockRef { height: 0, hash }, FINAL_DEPTH);
    let pool = Arc::new(VerifyPool::new(NonZeroUsize::new(1)).unwrap());
    Desk::open(config(), Replay::default(), start, Arc::new(hub()), pool).unwrap().0
}

fn client(address: String) -> RpcClient {
    let auth = Auth::UserPassword { user: "u".into(), password: "p".into() };
    RpcClient::new(RpcConfig { timeout: Duration::from_millis(100), ..RpcConfig::new(address, auth) })
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_do_not_keep_the_desk_from_reading_blocks() {
    let source = SlowSource::default();
    let rpc = client("127.0.0.1:1".into());
    let (service, desk) = DeskService::new(open(), Host::unheard(), rpc, source.clone(), Duration::ZERO);
    let running = tokio::spawn(service.run(Default::default()));
    source.0.was_asked.notified().await;
    for _ in 0..20 {
        desk.summary().await.unwrap();
    }
    desk.stop().await.unwrap();
    running.await.unwrap();
    assert_eq!(source.0.asked.load(Ordering::SeqCst), 1, "each question would start the reading anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_not_asked_for_a_feerate_at_every_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rpc = client(listener.local_addr().unwrap().to_string());
    let (service, desk) =
        DeskService::new(open(), Host::unheard(), rpc, SlowSource::default(), Duration::ZERO);
    let running = tokio::spawn(service.run(Default::default()));
    for owner in 0..5 {
        desk.request(OwnerId(owner), DeskRequest::Forget);
        desk.request(OwnerId(owner), DeskRequest::ReleaseCoins { transaction: None });
    }
    desk.stop().await.unwrap();
    running.await.unwrap();
    let mut asked = 0;
    while let Ok(accepted) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await {
        accepted.unwrap();
        asked += 1;
    }
    assert!(asked <= 1, "asked {asked} times");
}

/// Stands at its node's tip for ever.
struct AtTip(BlockRef);

impl BlockSource for AtTip {
    async fn tip(&self) -> Result<SourceTip, RpcError> {
        std::future::pending().await
    }
    async fn hashes(&self, _: Range<u32>) -> Result<Vec<BlockHash>, RpcError> {
        Ok(vec![self.0.hash])
    }
    async fn block(&self, _: BlockHash) -> Result<Arc<Block>, RpcError> {
        std::future::pending().await
    }
    async fn wait(&self, _: BlockHash) -> Result<(), RpcError> {
        std::future::pending().await
    }
    async fn check(&self) -> Result<(), RpcError> {
        Ok(())
    }
}

/// What the desk says of a channel's commitment a while after it was asked to publish it, far less than peers have to
/// prove it old.
async fn asked_to_publish(desk: &DeskHandle, plan: OnchainPlan) -> CommitmentState {
    let owner = plan.owner;
    desk.request(owner, DeskRequest::Plan(Box::new(plan)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let statuses = desk.onchain_statuses().await.unwrap();
    let status = statuses.into_iter().find(|status| status.owner == owner).unwrap();
    status.commitment.unwrap().state
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_proof_holds_nothing_else_up() {
    let mut rig = Rig::with(DeskConfig { proof_wait: Duration::from_secs(60), ..config() });
    (0..2).for_each(|_| rig.receive(30_000));
    let (unproven, proven) = (channel(&mut rig, 1), channel(&mut rig, 2));
    let plan = |pair: &Pair, proven_current: bool| {
        let mut job = pair.publish(&pair.commitment(End::Hub, 7, &[]), None);
        job.proven_current = proven_current;
        pair.plan(Some(job), vec![])
    };
    let (source, rpc) = (AtTip(rig.tip()), client("127.0.0.1:1".into()));
    let (service, desk) = DeskService::new(rig.desk, Host::unheard(), rpc, source, Duration::ZERO);
    let running = tokio::spawn(service.run(Default::default()));
    assert_eq!(asked_to_publish(&desk, plan(&unproven, false)).await, CommitmentState::AwaitsProof);
    let state = asked_to_publish(&desk, plan(&proven, true)).await;
    assert!(matches!(state, CommitmentState::Sent { .. }), "{state:?}");
    desk.stop().await.unwrap();
    running.await.unwrap();
}

/// A child that paid for a commitment was in a block, which was undone; the program stops and starts.
#[tokio::test(start_paused = true)]
async fn what_left_the_chain_is_sent_again_from_the_start_on() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    let (parent, child) = package(&settle(&mut rig));
    rig.mine(vec![parent]);
    give(&mut rig, pair.plan(None, vec![]));
    rig.mine(vec![child.clone()]);
    rig.unmine();
    let (source, rpc) = (AtTip(rig.tip()), client("127.0.0.1:1".into()));
    let (opened, first) = rig.reopened();
    let (host, mut reports) = Host::new();
    let (service, desk) = DeskService::new(opened, host, rpc, source, Duration::ZERO);
    let running = tokio::spawn(service.run(first));
    // Nobody listens there: that it was sent shows by its failure.
    let refused = loop {
        let report = tokio::time::timeout(Duration::from_secs(10), reports.recv()).await.unwrap();
        if let Some(DeskReport::PublishRefused { txid, .. }) = report {
            break txid;
        }
    };
    assert_eq!(refused, child.compute_txid());
    desk.stop().await.unwrap();
    running.await.unwrap();
}

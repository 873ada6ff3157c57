//! Settlement against a real bitcoind: funding, watching, batches and their replacement, reorganisations, a node that is
//! stopped, killed and frozen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::bip32::Xpriv;
use bitcoin::{Amount, FeeRate, Network, NetworkKind, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::closing::TicketSpec;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use regtest::bitcoind::View;
use regtest::{Bitcoind, Miner, Options};
use settlement::batch::{Batch, BatchRequest, BatchTicket, Unconfirmed, merge};
use settlement::broadcast::{Broadcaster, PublishError, Published};
use settlement::fees::{FeeBounds, FeeEstimator};
use settlement::follow::{BlockRef, ChainMemory, ChainStep, FollowStatus, Follower, RpcSource, Waiting};
use settlement::onchain::{AddressKind, CoinChoice, FundingRequest, OnchainConfig, OnchainWallet};
use settlement::pool::VerifyPool;
use settlement::rpc::{Auth, MempoolCounts, RpcClient, RpcConfig, RpcError};
use settlement::verify::{BatchCoin, Verified};
use settlement::watch::{Hit, Target, Watcher};

const FINAL_DEPTH: u32 = 6;
const FUNDING_SAT: u64 = 100_000;

/// A node, a miner, and one party's view of the chain.
struct Party {
    miner: Miner,
    client: RpcClient,
    follower: Follower<RpcSource>,
    wallet: OnchainWallet,
    watcher: Watcher<u32>,
    hits: Vec<Hit<u32>>,
    broadcaster: Broadcaster<RpcClient>,
    node: Bitcoind,
}

fn auth(node: &Bitcoind) -> RpcConfig {
    RpcConfig::new(node.url(), Auth::Cookie(node.cookie_file().to_owned()))
}

impl Party {
    /// Starts a node with mature coins and a wallet that was paid `coins`.
    async fn start(addresses: AddressKind, waiting: Waiting, coins: &[u64]) -> Party {
        let node = Bitcoind::start(Options::default()).unwrap();
        let mut miner = Miner::with_coins(node.rpc(), 4).unwrap();
        let (client, _) = RpcClient::connect_and_check(auth(&node), Network::Regtest).await.unwrap();
        let source = RpcSource::new(client.clone(), Network::Regtest, waiting);
        let memory = Follower::starting_memory(&source, FINAL_DEPTH).await.unwrap();
        let config = OnchainConfig {
            network: Network::Regtest,
            master: Xpriv::new_master(NetworkKind::Test, &[5; 64]).unwrap(),
            addresses,
            address_gap: settlement::limits::ADDRESS_GAP,
            start: memory.tip(),
        };
        let mut wallet = OnchainWallet::create(config).unwrap();
        for sat in coins {
            miner.fund(&wallet.new_address(), Amount::from_sat(*sat)).unwrap();
        }
        miner.confirm(1).unwrap();
        let mut party = Party {
            miner,
            client: client.clone(),
            follower: Follower::new(source, memory),
            wallet,
            watcher: Watcher::new(FINAL_DEPTH),
            hits: Vec::new(),
            broadcaster: Broadcaster::new(client),
            node,
        };
        party.sync().await;
        party
    }

    fn node_tip(&self) -> BlockRef {
        BlockRef { height: self.node.rpc().height().unwrap(), hash: self.node.rpc().tip().unwrap() }
    }

    /// Takes steps until the party stands where the node does.
    async fn sync(&mut self) {
        let tip = self.node_tip();
        while self.follower.memory().tip() != tip {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let step = tokio::time::timeout(Duration::from_secs(60), self.follower.next()).await;
        match step.expect("a step comes in time").unwrap() {
            ChainStep::Connected { height, block, .. } => {
                self.wallet.connect(height, &block).unwrap();
                self.hits.extend(self.watcher.connect(height, &block));
            }
            ChainStep::Disconnected { height, hash } => {
                self.wallet.disconnect(BlockRef { height, hash }).unwrap();
                self.hits.extend(self.watcher.disconnect(height));
            }
        }
    }

    fn take_hits(&mut self) -> Vec<Hit<u32>> {
        std::mem::take(&mut self.hits)
    }

    /// The wallet's sum is the chain's.
    fn assert_wallet_is_what_the_chain_says(&self) {
        let scripts: Vec<ScriptBuf> =
            self.wallet.coins().into_iter().map(|coin| coin.output.script_pubkey).collect();
        let mut unique = scripts.clone();
        unique.sort();
        unique.dedup();
        let chain: Amount =
            self.node.rpc().coins_of(&unique).unwrap().into_iter().map(|coin| coin.output.value).sum();
        assert_eq!(self.wallet.balance().total().unwrap(), chain);
    }
}

fn hub() -> SeedSigner {
    SeedSigner::new(&[1; 64])
}

fn peer() -> SeedSigner {
    SeedSigner::new(&[2; 64])
}

fn key_id(number: u32) -> KeyId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    KeyId::from_bytes(id)
}

fn channel_spec(number: u32, outpoint: OutPoint) -> TicketSpec {
    let id = key_id(number);
    // Each seventh wallet has less than an output may hold.
    let balance = if number % 7 == 6 { 200_000 } else { 60_000_000 };
    TicketSpec {
        funding_outpoint: outpoint,
        funding_amount: Amount::from_sat(FUNDING_SAT),
        wallet_key: peer().channel_public_keys(&id).funding,
        hub_key: hub().channel_public_keys(&id).funding,
        wallet_balance: Msat::new(balance).unwrap(),
        fee: Amount::from_sat(300),
        dust_limit: Amount::from_sat(354),
        wallet_script: peer_script(number),
    }
}

fn peer_script(number: u32) -> ScriptBuf {
    let key = peer().channel_public_keys(&key_id(number)).htlc.parse().unwrap();
    channel::scripts::p2wpkh(&key)
}

/// Funds `count` channels in one transaction; gives the tickets that close them.
async fn open_channels(party: &mut Party, count: u32) -> (Transaction, Vec<BatchTicket>) {
    let nowhere = OutPoint::null();
    let outputs: Vec<TxOut> = (0..count).map(|number| channel_spec(number, nowhere).spent_output()).collect();
    let built = party
        .wallet
        .build_funding(&FundingRequest {
            outputs: &outputs,
            feerate: FeeRate::from_sat_per_kwu(500),
            fees: FeeBounds::default(),
            coins: CoinChoice::Confirmed,
            randomness: [3; 32],
        })
        .unwrap();
    let txid = built.funding.txid();
    assert_eq!(party.broadcaster.publish(&built.funding).await, Ok(Published::InMempool));
    assert_eq!(party.broadcaster.publish(&built.funding).await, Ok(Published::InMempool), "again");
    party.wallet.record_unconfirmed(built.funding.transaction(), 1);
    let tickets = (0..count)
        .map(|number| {
            let vout = built.funding.position_of(&outputs[number as usize]).unwrap();
            let outpoint = OutPoint { txid, vout };
            party.watcher.watch(number, Target::Transaction(txid), [3]);
            party.watcher.watch(number, Target::Spend(outpoint), []);
            let spec = channel_spec(number, outpoint);
            let signature = peer().sign_ticket(&key_id(number), &spec).unwrap();
            BatchTicket { key_id: key_id(number), spec, signature, spent_by: None }
        })
        .collect();
    (built.funding.transaction().clone(), tickets)
}

struct Plan<'a> {
    tickets: &'a [BatchTicket],
    unconfirmed: &'a BTreeMap<Txid, Unconfirmed>,
    coins: &'a [BatchCoin],
    feerate: u64,
}

fn build(party: &mut Party, plan: &Plan<'_>) -> Batch {
    let hub_script = party.wallet.change_script();
    let request = BatchRequest {
        tickets: plan.tickets,
        unconfirmed: plan.unconfirmed,
        coins: plan.coins,
        hub_script: &hub_script,
        feerate: FeeRate::from_sat_per_kwu(plan.feerate),
        incremental: FeeRate::from_sat_per_kwu(25),
        fees: FeeBounds::default(),
        max_hub_fee: Amount::from_sat(1_000_000),
    };
    merge(&request).unwrap().batch
}

async fn verify(party: &Party, batch: Batch) -> Verified {
    let pool = VerifyPool::new(None).unwrap();
    let job = batch.sign(&hub(), &party.wallet).unwrap();
    pool.verify(vec![job]).await.unwrap().remove(0).unwrap().single().expect("a batch is one transaction")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_funded_watched_closed_in_a_batch_and_the_batch_is_replaced() {
    let mut party = Party::start(AddressKind::P2tr, Waiting::LongPoll, &[5_000_000, 400_000]).await;
    let (funding, tickets) = open_channels(&mut party, 20).await;
    party.miner.confirm(3).unwrap();
    party.sync().await;
    let hits = party.take_hits();
    assert_eq!(hits.iter().filter(|hit| matches!(hit, Hit::Confirmed { .. })).count(), 20);
    assert_eq!(hits.iter().filter(|hit| matches!(hit, Hit::Deep { depth: 3, .. })).count(), 20);
    for ticket in &tickets {
        let output = party.client.get_tx_out(ticket.spec.funding_outpoint, MempoolCounts::No).await.unwrap();
        let output = output.unwrap();
        assert_eq!((output.value, output.confirmations), (Amount::from_sat(FUNDING_SAT), 3));
        assert_eq!(output.script_pubkey, ticket.spec.spent_output().script_pubkey);
    }
    party.assert_wallet_is_what_the_chain_says();

    // Two small batches first, then one that replaces both and takes the rest in.
    let (none, mut unconfirmed, mut all) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for part in [&tickets[..5], &tickets[5..12]] {
        let plan = Plan { tickets: part, unconfirmed: &none, coins: &[], feerate: 300 };
        let batch = build(&mut party, &plan);
        let old = batch.as_unconfirmed();
        let verified = verify(&party, batch).await;
        assert_eq!(party.broadcaster.publish(&verified).await, Ok(Published::InMempool));
        let entry = party.client.get_mempool_entry(verified.txid()).await.unwrap().unwrap();
        assert_eq!(entry.fees.base, verified.fees().total);
        unconfirmed.insert(verified.txid(), old);
        all.extend(part.iter().cloned().map(|mut ticket| {
            ticket.spent_by = Some(verified.txid());
            ticket
        }));
    }
    all.extend(tickets[12..].iter().rev().cloned());
    let plan = Plan { tickets: &all, unconfirmed: &unconfirmed, coins: &[], feerate: 300 };
    let batch = build(&mut party, &plan);
    let verified = verify(&party, batch).await;
    assert_eq!(party.broadcaster.publish(&verified).await, Ok(Published::InMempool));
    assert_eq!(party.node.rpc().mempool().unwrap(), [verified.txid()]);
    // The replaced ones are refused now, by name.
    for (txid, result) in party.broadcaster.resubmit().await.unwrap() {
        match unconfirmed.contains_key(&txid) {
            true => assert!(matches!(result, Err(PublishError::FeeTooLow { .. })), "{result:?}"),
            false if txid == funding.compute_txid() => assert_eq!(result, Ok(Published::InChain)),
            false => assert_eq!(result, Ok(Published::InMempool)),
        }
    }
    unconfirmed.keys().for_each(|txid| party.broadcaster.forget(*txid));
    party.miner.confirm(FINAL_DEPTH).unwrap();
    party.sync().await;
    let hits = party.take_hits();
    let spent = hits.iter().filter(|hit| matches!(hit, Hit::Spent { txid, .. } if *txid == verified.txid()));
    assert_eq!(spent.count(), 20);
    assert_eq!(hits.iter().filter(|hit| matches!(hit, Hit::Final { .. })).count(), 40);
    assert!(party.watcher.is_empty());
    for ticket in &tickets {
        let paid = party.node.rpc().balance_of(&ticket.spec.wallet_script).unwrap();
        assert_eq!(paid, ticket.spec.payout().map_or(Amount::ZERO, |payout| payout.value));
    }
    party.assert_wallet_is_what_the_chain_says();
    assert_eq!(party.broadcaster.publish(&verified).await, Ok(Published::InChain), "again, much later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hub_adds_a_coin_when_the_tickets_do_not_pay_the_fee() {
    for addresses in [AddressKind::P2wpkh, AddressKind::P2tr] {
        let mut party = Party::start(addresses, Waiting::LongPoll, &[500_000, 50_000]).await;
        let (_, mut tickets) = open_channels(&mut party, 2).await;
        for (number, ticket) in (0u32..).zip(&mut tickets) {
            ticket.spec.wallet_balance = Msat::from_sat(Amount::from_sat(FUNDING_SAT)).unwrap();
            ticket.signature = peer().sign_ticket(&key_id(number), &ticket.spec).unwrap();
        }
        party.miner.confirm(1).unwrap();
        party.sync().await;
        let coins: Vec<BatchCoin> = party
            .wallet
            .coins()
            .into_iter()
            .map(|coin| BatchCoin { outpoint: coin.outpoint, output: coin.output })
            .collect();
        let none = BTreeMap::new();
        let plan = Plan { tickets: &tickets, unconfirmed: &none, coins: &coins, feerate: 2_500 };
        let batch = build(&mut party, &plan);
        assert_eq!(batch.coins().len(), 1);
        let verified = verify(&party, batch).await;
        assert_eq!(party.broadcaster.publish(&verified).await, Ok(Published::InMempool));
        party.miner.confirm(1).unwrap();
        party.sync().await;
        party.assert_wallet_is_what_the_chain_says();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_is_followed_and_what_it_unmade_is_mined_again() {
    let every = Duration::from_millis(20);
    let mut party = Party::start(AddressKind::P2wpkh, Waiting::Poll { every }, &[1_000_000]).await;
    let (funding, _) = open_channels(&mut party, 3).await;
    party.miner.confirm(2).unwrap();
    party.sync().await;
    party.take_hits();
    party.broadcaster.confirmed(funding.compute_txid());
    party.miner.reorganise(3).unwrap();
    party.sync().await;
    let hits = party.take_hits();
    assert_eq!(hits.len(), 3);
    assert!(hits.iter().all(|hit| matches!(hit, Hit::Undone { target: Target::Transaction(_), .. })));
    party.broadcaster.undone(funding.compute_txid());
    let results = party.broadcaster.resubmit().await.unwrap();
    assert_eq!(results, [(funding.compute_txid(), Ok(Published::InMempool))]);
    party.miner.confirm(1).unwrap();
    party.sync().await;
    assert_eq!(party.take_hits().iter().filter(|hit| matches!(hit, Hit::Confirmed { .. })).count(), 3);
    party.assert_wallet_is_what_the_chain_says();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_frozen_and_restarted_costs_no_block() {
    let mut party = Party::start(AddressKind::P2tr, Waiting::LongPoll, &[100_000]).await;
    let mut status = party.follower.status();
    let synced = party.node_tip();

    party.node.kill().unwrap();
    {
        let next = party.follower.next();
        tokio::pin!(next);
        let down = status.wait_for(|status| matches!(status, FollowStatus::Unavailable { .. }));
        tokio::select! {
            _ = &mut next => panic!("no step while the node is down"),
            seen = tokio::time::timeout(Duration::from_secs(30), down) => drop(seen.unwrap().unwrap()),
        }
    }
    assert!(party.client.get_best_block_hash().await.unwrap_err().is_transient());
    party.node.start_again().unwrap();
    // A restarted node has another cookie.
    assert_eq!(party.client.get_best_block_hash().await.unwrap(), synced.hash);
    party.miner.confirm(3).unwrap();
    party.sync().await;

    party.node.freeze().unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(300), party.follower.next()).await;
    assert!(waited.is_err(), "a frozen node gives no step");
    party.node.resume().unwrap();
    party.miner.confirm(20).unwrap();
    party.sync().await;
    assert_eq!(party.wallet.tip().height, synced.height + 23);

    // A party that was away catches up from what it remembers.
    let bytes = serde_json::to_vec(party.follower.memory()).unwrap();
    party.miner.confirm(30).unwrap();
    for _ in 0..2 {
        party.miner.fund(&party.wallet.new_address(), Amount::from_sat(5_000)).unwrap();
        party.miner.confirm(1).unwrap();
    }
    party.miner.reorganise(2).unwrap();
    let memory: ChainMemory = serde_json::from_slice(&bytes).unwrap();
    let source = RpcSource::new(party.client.clone(), Network::Regtest, Waiting::LongPoll);
    party.follower = Follower::new(source, memory);
    party.sync().await;
    party.assert_wallet_is_what_the_chain_says();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_real_node_have_names() {
    let mut party = Party::start(AddressKind::P2wpkh, Waiting::LongPoll, &[1_000_000]).await;
    let (_, tickets) = open_channels(&mut party, 4).await;
    let none = BTreeMap::new();
    // The funding is unconfirmed, which a version-2 batch may build on; mined, it is spent by another batch.
    let first =
        build(&mut party, &Plan { tickets: &tickets[..2], unconfirmed: &none, coins: &[], feerate: 500 });
    let rival =
        build(&mut party, &Plan { tickets: &tickets[1..], unconfirmed: &none, coins: &[], feerate: 253 });
    let (first, rival) = (verify(&party, first).await, verify(&party, rival).await);
    assert_eq!(party.broadcaster.publish(&first).await, Ok(Published::InMempool));
    let refused = party.broadcaster.publish(&rival).await.unwrap_err();
    assert!(matches!(refused, PublishError::FeeTooLow { .. }), "{refused:?}");
    party.miner.confirm(1).unwrap();
    assert_eq!(party.broadcaster.publish(&rival).await, Err(PublishError::MissingInputs));
    assert_eq!(party.broadcaster.publish(&first).await, Ok(Published::InChain));
    let spent = party.node.rpc().unspent(tickets[0].spec.funding_outpoint, View::Chain).unwrap();
    assert_eq!(spent, None);

    let wrong = RpcClient::connect_and_check(auth(&party.node), Network::Signet).await.map(|_| ());
    assert!(matches!(wrong, Err(RpcError::WrongNetwork { .. })), "{wrong:?}");
    let mut refused = auth(&party.node);
    refused.auth = Auth::UserPassword { user: "nobody".into(), password: "nothing".into() };
    let refused = RpcClient::connect_and_check(refused, Network::Regtest).await.map(|_| ());
    assert!(matches!(refused, Err(RpcError::Unauthorized { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_reads_what_a_real_node_answers() {
    let mut party = Party::start(AddressKind::P2wpkh, Waiting::LongPoll, &[1_000_000]).await;
    let tip = party.node_tip();
    let client = party.client.clone();
    assert_eq!(client.get_blockchain_info().await.unwrap().bestblockhash, tip.hash);
    assert_eq!(client.get_block_hash(tip.height).await.unwrap(), Some(tip.hash));
    assert_eq!(client.get_block_hash(tip.height + 1).await.unwrap(), None);
    let header = client.get_block_header(tip.hash).await.unwrap().unwrap();
    assert_eq!((header.height, header.confirmations), (tip.height, 1));
    assert!(client.get_block_header(header.previousblockhash.unwrap()).await.unwrap().is_some());
    let block = client.get_block(tip.hash).await.unwrap();
    let txid = block.txdata[1].compute_txid();
    assert!(client.get_raw_transaction(txid, Some(tip.hash)).await.unwrap().is_some());
    assert!(client.get_raw_transaction(txid, None).await.unwrap().is_none(), "no index");
    let wait = client.wait_for_new_block(tip.hash, Duration::from_millis(10)).await.unwrap();
    assert_eq!(wait, tip.hash);
    assert_eq!(client.estimate_smart_fee(6).await.unwrap(), None, "a young chain has no estimates");
    let mempool = client.get_mempool_info().await.unwrap();
    assert_eq!(mempool.size, 0);
    let feerate = FeeEstimator::default().estimate(&client, 6).await.unwrap();
    assert_eq!(feerate, settlement::limits::FEERATE_FALLBACK);
    let script = party.wallet.coins()[0].output.script_pubkey.clone();
    let scan = client.scan_tx_out_set(&[&script]).await.unwrap();
    assert_eq!((scan.total_amount, scan.unspents.len()), (Amount::from_sat(1_000_000), 1));

    let (funding, _) = open_channels(&mut party, 2).await;
    let accepted = client.test_mempool_accept(&[&funding]).await.unwrap();
    assert_eq!(accepted[0].reject_reason.as_deref(), Some("txn-already-in-mempool"));
    let package = client.submit_package(&[&funding]).await;
    assert!(package.is_ok() || matches!(package, Err(RpcError::Rpc { .. })), "{package:?}");
    let address = party.wallet.new_address();
    let mined = client.generate_to_address(1, &address).await.unwrap();
    assert_eq!(party.node_tip().hash, mined[0]);
}

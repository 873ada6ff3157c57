//! Commitments: packages in a real mempool, fees, races, reserves.

use std::sync::Arc;

use bitcoin::{Amount, FeeRate};
use settlement::desk::service::BumpTarget;
use settlement::desk::{BumpError, CommitmentState, DeskReport};

use crate::pair::{CAPACITY, Commitment, End, Pair};
use crate::party::{Party, World};

fn commitment(pair: &Pair, of: End, number: u64) -> Arc<Commitment> {
    Arc::new(pair.commitment(of, number, &[]))
}

async fn state(party: &Party, pair: &Pair) -> Option<CommitmentState> {
    Some(party.status(pair).await?.commitment?.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commitment_is_mined_with_its_child_and_the_balance_follows_after_its_delay() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, None);
    let parent = hub.spends(&world, pair.funding).await;
    assert_eq!(parent, own.built.txid());
    world.sent(&[&hub]).await;
    assert_eq!(world.mempool().len(), 2, "the commitment and its child");
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
    let coins = hub.coins().await;
    let whole = Amount::from_sat(100_000) + CAPACITY / 2;
    assert!(coins < whole && coins > whole - Amount::from_sat(5_000), "{coins} of {whole}");
    let refused = |report: &DeskReport| {
        matches!(report, DeskReport::PublishRefused { .. } | DeskReport::Trouble { .. })
    };
    let reports = hub.reports();
    assert!(!reports.iter().any(refused), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fee_spike_is_outbid_before_the_deadline() {
    // The miner takes nothing below 40 sat/vB, and no estimate says so.
    let mut world = World::start(&["-blockmintxfee=0.0004"]).await;
    let mut hub = world.party(End::Hub, &[400_000]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    let deadline = world.height() + 14;
    hub.close(&pair, &own, Some(deadline));
    hub.spends(&world, pair.funding).await;
    let mut children = std::collections::BTreeSet::new();
    loop {
        world.sent(&[&hub]).await;
        let Some(CommitmentState::Sent { child, .. }) = state(&hub, &pair).await else { break };
        children.insert(child);
        world.block(&[&hub]).await;
        assert!(world.height() <= deadline, "too late");
    }
    assert!(!world.is_unspent(pair.funding), "it is in a block in time, at height {}", world.height());
    assert!(children.len() > 2, "a child replaced again and again: {children:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_publish_at_once_and_each_gets_its_half() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[100_000]).await;
    let mut wallet = world.party(End::Wallet, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub, &mut wallet]).await;
    let (ours, theirs) = (commitment(&pair, End::Hub, 7), commitment(&pair, End::Wallet, 7));
    for party in [&hub, &wallet] {
        party.knows(&pair, &[&ours, &theirs]);
    }
    hub.close(&pair, &ours, Some(world.height() + 10));
    wallet.close(&pair, &theirs, Some(world.height() + 10));
    world.finish(&mut [&mut hub, &mut wallet], &pair, async |_, _, _| {}).await;
    for party in [&hub, &wallet] {
        let coins = party.coins().await;
        assert!(coins > CAPACITY / 2, "{:?} has {coins}", party.end);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_without_a_coin_waits_until_one_comes() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, None);
    world
        .until("the reserve's shortage", async || {
            let short = |report: &DeskReport| matches!(report, DeskReport::ReserveShort { .. });
            let state = state(&hub, &pair).await;
            let waits = matches!(state, Some(CommitmentState::NoCoin { .. }));
            (waits && hub.reports().iter().any(short)).then_some(())
        })
        .await;
    world.pay(&hub, &[20_000]).await;
    assert_eq!(hub.spends(&world, pair.funding).await, own.built.txid());
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_may_pay_for_a_commitment_and_raise_what_is_paid() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[]).await;
    let mut stranger = world.party(End::Wallet, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, None);
    let txid = own.built.txid();
    let rate = FeeRate::from_sat_per_kwu(1_000);
    let unknown = stranger.desk.bump(BumpTarget::Txid(txid), rate).await;
    assert_eq!(unknown, Err(BumpError::Unknown { txid }));
    let target = BumpTarget::Transaction(Box::new(own.transaction.clone()));
    let bumped = stranger.desk.bump(target, rate).await.unwrap();
    world.until("the package", async || world.mempool().contains(&bumped.child).then_some(())).await;
    assert!(world.mempool().contains(&txid));
    let more = FeeRate::from_sat_per_kwu(3_000);
    let again = stranger.desk.bump(BumpTarget::Txid(txid), more).await.unwrap();
    world.until("the other child", async || world.mempool().contains(&again.child).then_some(())).await;
    assert!(!world.mempool().contains(&bumped.child));
    world.block(&[&hub, &stranger]).await;
    assert!(!world.is_unspent(pair.funding));
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
    assert!(hub.coins().await > CAPACITY / 2 - Amount::from_sat(2_000));
    stranger.follows(&world).await;
    assert_eq!(stranger.desk.summary().await.unwrap().balance.locked, Amount::ZERO);
    stranger.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pays_more_for_our_commitment_is_not_outbid_by_us_until_a_deadline_asks_for_it() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[200_000]).await;
    let mut stranger = world.party(End::Wallet, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, Some(world.height() + 40));
    world.sent(&[&hub]).await;
    let rate = FeeRate::from_sat_per_kwu(3_000);
    let bumped = stranger.desk.bump(BumpTarget::Txid(own.built.txid()), rate).await.unwrap();
    world.until("the stranger's child", async || world.mempool().contains(&bumped.child).then_some(())).await;
    for round in 0..4 {
        world.empty_block(&[&hub, &stranger]).await;
        if round == 2 {
            // Nor by what is built anew.
            hub.restart(&world).await;
        }
        let paid = world
            .until("the hub's word", async || match state(&hub, &pair).await? {
                CommitmentState::Sent { refused: Some(why), .. } => Some(why),
                _ => None,
            })
            .await;
        assert!(paid.starts_with("another transaction pays"), "{paid}");
        assert!(world.mempool().contains(&bumped.child), "the stranger pays on");
    }
    stranger.kill().await;
    let outbid = loop {
        world.empty_block(&[&hub]).await;
        world.sent(&[&hub]).await;
        if let Some(CommitmentState::Sent { child, feerate, refused: None, .. }) = state(&hub, &pair).await {
            assert!(feerate > rate, "{feerate} is more than the stranger pays");
            break child;
        }
    };
    assert!(world.mempool().contains(&outbid) && !world.mempool().contains(&bumped.child));
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commitment_outbids_the_other_ends_in_the_mempool() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[400_000]).await;
    let mut wallet = world.party(End::Wallet, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub, &mut wallet]).await;
    let (ours, theirs) = (commitment(&pair, End::Hub, 7), commitment(&pair, End::Wallet, 7));
    for party in [&hub, &wallet] {
        party.knows(&pair, &[&ours, &theirs]);
    }
    wallet.close(&pair, &theirs, None);
    assert_eq!(wallet.spends(&world, pair.funding).await, theirs.built.txid());
    world.sent(&[&wallet]).await;
    let rate = FeeRate::from_sat_per_kwu(4_000);
    wallet.desk.bump(BumpTarget::Txid(theirs.built.txid()), rate).await.unwrap();
    world.sent(&[&wallet]).await;
    wallet.kill().await;
    // What the wallet pays does not bring its commitment into a block, and the hub's time runs out.
    hub.close(&pair, &ours, Some(world.height() + 10));
    world
        .until("the hub's commitment in the mempool", async || {
            (world.spender(pair.funding).await == Some(ours.built.txid())).then_some(())
        })
        .await;
    let Some(CommitmentState::Sent { feerate, .. }) = state(&hub, &pair).await else { panic!("it is sent") };
    assert!(feerate > rate, "{feerate}");
    world.block(&[&hub]).await;
    assert!(!world.is_unspent(pair.funding));
    wallet.restart(&world).await;
    world.finish(&mut [&mut hub, &mut wallet], &pair, async |_, _, _| {}).await;
    assert_eq!(hub.look(&pair, |channel| channel.closed_by()), Some(ours.built.txid()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_forgot_its_mempool_gets_everything_again_with_the_next_block() {
    let mut world = World::start(&["-persistmempool=0"]).await;
    let mut hub = world.party(End::Hub, &[100_000]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, None);
    world.sent(&[&hub]).await;
    world.node.stop().unwrap();
    world.node.start_again().unwrap();
    assert_eq!(world.mempool().len(), 0);
    world.empty_block(&[&hub]).await;
    assert_eq!(hub.spends(&world, pair.funding).await, own.built.txid());
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_coin_is_taken_is_built_of_another_one() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[50_000]).await;
    let mut twin = world.party(End::Hub, &[]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let foreign = Pair::new(9, world.fund_elsewhere(9));
    let foreign = foreign.commitment(End::Wallet, 3, &[]).transaction;
    let own = commitment(&pair, End::Hub, 7);
    hub.knows(&pair, &[&own]);
    hub.close(&pair, &own, None);
    world.sent(&[&hub]).await;
    // Whoever has the same seed spends the coin for another channel, at a higher fee, and a block takes that.
    let rate = FeeRate::from_sat_per_kwu(8_000);
    twin.follows(&world).await;
    let bumped = twin.desk.bump(BumpTarget::Transaction(Box::new(foreign.clone())), rate).await.unwrap();
    let child = world.until("the thief's child", async || world.transaction(bumped.child).await).await;
    twin.kill().await;
    world.block_of(&[foreign, child], &[&hub]).await;
    assert!(world.is_unspent(pair.funding));
    world.pay(&hub, &[60_000]).await;
    world
        .until("another child", async || match state(&hub, &pair).await? {
            CommitmentState::Sent { child, refused: None, .. } => {
                world.mempool().contains(&child).then_some(())
            }
            _ => None,
        })
        .await;
    world.finish(&mut [&mut hub], &pair, async |_, _, _| {}).await;
}

//! Races for the outputs of revoked commitments: HTLC transactions of the cheater's confirmed one by one and several at once,
//! before the victim looks and after it has bid against them, and another revoked state in the place of the first. Blocks
//! hold what each story wants them to hold: the cheater is in league with the miner.

use std::collections::BTreeSet;

use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use proto::hub::v1 as pb;
use regtest::lab::endings::Ended;
use regtest::lab::{LabError, Wallet};
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::cheat;
use crate::command::{hubctl, hubwallet, own};
use crate::flight::{Flight, Flights, Load};
use crate::support::{EXPIRY_DELTA, LARGE_MSAT, LONG_DELAY, NO_HUB, SMALL_MSAT, SOON, Stage, assert_gained};

/// Both directions: three that the cheater offered, four that it received; it has the preimages of all four.
const CROWD: Load = Load { offered: (1, 2), received: (3, 1), trimmed: 0 };

/// What trimmed HTLCs and parts of satoshis leave is in the anchor, at most 240 sat, for whoever pays for the commitment.
const ANCHOR_MSAT: u64 = 240_000;

/// What fighting for a crowd of HTLCs may cost: at worst all of what the cheater could have taken.
const FIGHT_SAT: u64 = 8 * LARGE_MSAT / 1_000;

/// Blocks between two payments, so that one can be taken back before the other.
const EXPIRIES_APART: u32 = 5;

/// What pays for an HTLC transaction, however dear.
const COIN_SAT: u64 = 200_000;

/// A block of exactly these, which all that run take in. What they conflict with leaves the mempool.
async fn block_of(stage: &Stage, transactions: &[&Transaction]) {
    let transactions: Vec<Transaction> = transactions.iter().map(|one| (*one).clone()).collect();
    let mine = stage.lab.chain().with(move |inner| {
        inner.node.rpc().mine_exactly(inner.miner.address(), &transactions)?;
        Ok(inner.miner.rescan()?)
    });
    mine.await.unwrap();
    stage.lab.all_follow().await.unwrap();
}

/// Blocks that hold nothing of what waits.
async fn empty_blocks(stage: &Stage, blocks: u32) {
    stage.lab.chain().with(move |inner| Ok(inner.miner.mine_empty(blocks)?)).await.unwrap();
    stage.lab.all_follow().await.unwrap();
}

/// How many outputs of a commitment a transaction takes as its owner: by HTLC transactions, whose witnesses hold both
/// signatures after an empty element.
fn htlcs_of_owner(transaction: &Transaction, commitment: Txid) -> usize {
    let spends = transaction.input.iter().filter(|input| input.previous_output.txid == commitment);
    match transaction.version {
        Version(3) => spends.filter(|input| input.witness.len() == 5).count(),
        _ => 0,
    }
}

/// The cheater's HTLC transactions that wait for a block.
async fn waiting(stage: &Stage, commitment: Txid) -> Result<Vec<Transaction>, LabError> {
    let mut found = Vec::new();
    for txid in stage.lab.chain().mempool().await? {
        // It may have been replaced meanwhile.
        let Ok(transaction) = stage.lab.chain().waiting(txid).await else { continue };
        if htlcs_of_owner(&transaction, commitment) > 0 {
            found.push(transaction);
        }
    }
    Ok(found)
}

/// Waits until one HTLC transaction that waits takes so many outputs of a commitment, before expiry or after it.
async fn waits(stage: &Stage, commitment: Txid, outputs: usize, when: When) -> Transaction {
    until_seen(&format!("an HTLC transaction that takes {outputs} outputs, {when:?}"), SOON, async || {
        let mut all = waiting(stage, commitment).await?;
        let seen: Vec<_> = all
            .iter()
            .map(|one| (htlcs_of_owner(one, commitment), one.lock_time.to_consensus_u32()))
            .collect();
        let fits = |one: &Transaction| htlcs_of_owner(one, commitment) == outputs && when.is(one);
        let place = all.iter().position(fits);
        Ok::<_, LabError>(match place {
            Some(place) => Look::Seen(all.swap_remove(place)),
            None => Look::NotYet(format!("{seen:?}")),
        })
    })
    .await
    .unwrap()
}

/// HTLC-success transactions have no lock time, HTLC-timeout transactions that of the expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Success,
    Timeout,
}

impl When {
    fn is(self, transaction: &Transaction) -> bool {
        (transaction.lock_time.to_consensus_u32() == 0) == (self == When::Success)
    }
}

/// The transaction in the mempool that spends an output.
async fn spender(stage: &Stage, outpoint: OutPoint) -> Result<Option<Txid>, LabError> {
    for txid in stage.lab.chain().mempool().await? {
        let Ok(transaction) = stage.lab.chain().waiting(txid).await else { continue };
        if transaction.input.iter().any(|input| input.previous_output == outpoint) {
            return Ok(Some(txid));
        }
    }
    Ok(None)
}

/// Waits until the victim's transactions have taken the place of these in the mempool.
async fn are_outbid(stage: &Stage, rivals: &[&Transaction]) {
    until_seen("the victim's bids", SOON, async || {
        for rival in rivals {
            for input in &rival.input {
                let found = spender(stage, input.previous_output).await?;
                if found == Some(rival.compute_txid()) {
                    return Ok::<_, LabError>(Look::NotYet(format!("{} waits", rival.compute_txid())));
                }
            }
        }
        Ok(Look::Seen(()))
    })
    .await
    .unwrap();
}

/// The commitment that a process wants in the chain, whole, by `channels --json` of either command line.
fn whole(printed: &Value, channel_id: &[u8]) -> Option<Transaction> {
    let own = own(printed, channel_id);
    let hex = own["transaction"].as_str().filter(|hex| !hex.is_empty())?;
    Some(bitcoin::consensus::encode::deserialize_hex(hex).unwrap())
}

/// A wallet goes back to a copy of its data, where nobody reaches it, and publishes what was its latest commitment then.
async fn cheats(stage: &Stage, wallet: &Wallet, copy: &str) -> Transaction {
    wallet.kill().unwrap();
    wallet.daemon().go_back(copy).unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    let channel = &stage.channels[0];
    wallet.force_close(channel).await.unwrap();
    until_seen("the revoked commitment", SOON, async || {
        let found = whole(&hubwallet(stage, wallet, &["channels"]).await, channel);
        Ok::<_, LabError>(found.map_or_else(|| Look::NotYet("not sent".to_owned()), Look::Seen))
    })
    .await
    .unwrap()
}

/// Copies a wallet's data aside under this name, with everything in flight that is.
async fn copy(wallet: &Wallet, name: &str) {
    wallet.kill().unwrap();
    wallet.daemon().copy(name).unwrap();
    wallet.start_again().await.unwrap();
    wallet.is_usable(1, SOON).await.unwrap();
}

/// What the cheater received: it has the preimages, also of what it refused once.
fn received<'a>(flights: &'a Flights, wallet: &Wallet) -> Vec<&'a Flight> {
    let to_it = |flight: &&Flight| flight.payee.name() == wallet.name();
    flights.with_output.iter().filter(to_it).collect()
}

async fn balance(listed: Vec<pb::Channel>) -> i64 {
    listed.iter().map(|channel| channel.local_msat.cast_signed()).sum()
}

/// Every output of the commitment that spent the funding, and of its HTLC transactions, is the victim's: nothing but the
/// anchor is left, and the books say so.
fn assert_taken(stage: &Stage, ended: &Ended, stake: i64) {
    let cheater = &stage.wallets[0];
    assert!(stake > 0, "a cheater has something to lose");
    assert_gained(ended, stage.party(cheater), cheater.name(), -stake, ANCHOR_MSAT, FIGHT_SAT);
    assert_gained(ended, stage.hub_party(), "the hub", stake, ANCHOR_MSAT, FIGHT_SAT);
    assert_gained(ended, stage.party(&stage.peer), "peer", 0, 0, 0);
    let left: Vec<_> = ended.left.values().filter(|output| output.value.to_sat() > 240).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The transactions since a height that spend outputs of these HTLC transactions.
async fn spenders_of_second_stages(
    stage: &Stage,
    since: u32,
    second_stages: &[&Transaction],
) -> BTreeSet<Txid> {
    let ids: Vec<Txid> = second_stages.iter().map(|one| one.compute_txid()).collect();
    let all = stage.lab.chain().transactions_since(since).await.unwrap();
    let spends = |one: &Transaction| one.input.iter().any(|input| ids.contains(&input.previous_output.txid));
    all.iter().filter(|(_, one)| spends(one)).map(|(_, one)| one.compute_txid()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallets_second_stages_confirmed_racing_or_in_one_transaction_are_all_taken_from_it() {
    let stage = Stage::set(LONG_DELAY, &["cheater"]).await;
    let cheater = &stage.wallets[0];
    // A coin for each transaction that waits.
    for _ in 0..3 {
        stage.lab.fund_wallets(&stage.wallets, Amount::from_sat(COIN_SAT)).await.unwrap();
    }
    let flights = Flights::launch(&stage, cheater, CROWD).await;
    copy(cheater, "old").await;
    let mut expiry = 0;
    for flight in &flights.with_output {
        expiry = expiry.max(flight.expiry().await);
    }
    flights.decide().await;
    stage.lab.quiet().await.unwrap();
    for _ in 0..3 {
        cheater.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    }
    let books = stage.books().await;
    let stake = balance(cheater.channels().await.unwrap()).await;
    let since = stage.lab.chain().height().await.unwrap();
    stage.lab.hub().kill().unwrap();
    let commitment = cheats(&stage, cheater, "old").await;
    let id = commitment.compute_txid();
    block_of(&stage, &[&commitment]).await;

    // One alone, in a block; then two in one transaction, which waits; the fourth is never taken.
    let received = received(&flights, cheater);
    cheater.settle(&received[0].hash).await.unwrap();
    let first = waits(&stage, id, 1, When::Success).await;
    block_of(&stage, &[&first]).await;
    for flight in &received[1..3] {
        cheater.settle(&flight.hash).await.unwrap();
    }
    // A wallet that starts builds all its claims at once.
    cheater.kill().unwrap();
    cheater.start_with(&[NO_HUB]).await.unwrap();
    waits(&stage, id, 2, When::Success).await;
    // What the cheater offered expires, and all of it is taken back by one transaction, which waits too.
    let height = stage.lab.chain().height().await.unwrap();
    empty_blocks(&stage, expiry + EXPIRY_DELTA - height).await;
    let offered = flights.with_output.len() - received.len();
    let timeouts = waits(&stage, id, offered, When::Timeout).await;
    let successes = waits(&stage, id, 2, When::Success).await;
    cheater.kill().unwrap();

    // The victim bids more for all of it; a block holds the cheater's nevertheless.
    stage.lab.hub().start_again().await.unwrap();
    are_outbid(&stage, &[&timeouts, &successes]).await;
    block_of(&stage, &[&timeouts]).await;
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.start_again().await.unwrap();
    cheater.start_with(&[NO_HUB]).await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_taken(&stage, &ended, stake);
    let taken = spenders_of_second_stages(&stage, since, &[&first, &timeouts]).await;
    assert!(!taken.is_empty(), "their outputs were taken");
    let all = stage.lab.chain().transactions_since(since).await.unwrap();
    let cheated: usize = all.iter().map(|(_, one)| htlcs_of_owner(one, id)).sum();
    assert!(
        (1 + offered..=3 + offered).contains(&cheated),
        "{cheated} HTLCs were taken by the cheater first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_revoked_state_after_a_reorganisation_is_punished_with_its_own_second_stages() {
    let stage = Stage::set(LONG_DELAY, &["cheater"]).await;
    let (cheater, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    // Two old states, with other payments in flight.
    let load = Load { offered: (1, 1), received: (2, 0), trimmed: 0 };
    let mut states = Vec::new();
    for name in ["first", "second"] {
        let flights = Flights::launch(&stage, cheater, load).await;
        copy(cheater, name).await;
        flights.decide().await;
        stage.lab.quiet().await.unwrap();
        states.push(flights);
    }
    cheater.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    let books = stage.books().await;
    let stake = balance(cheater.channels().await.unwrap()).await;
    let since = stage.lab.chain().height().await.unwrap();
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    // The later one of both is kept for later.
    let second = cheats(&stage, cheater, "second").await;
    let first = cheats(&stage, cheater, "first").await;
    assert_ne!(first, second);

    // The first state, and the cheater's HTLC transactions in the next block; then the victim's first claims.
    block_of(&stage, &[&first]).await;
    for flight in received(&states[0], cheater) {
        cheater.settle(&flight.hash).await.unwrap();
    }
    cheater.kill().unwrap();
    cheater.start_with(&[NO_HUB]).await.unwrap();
    let moved = waits(&stage, first.compute_txid(), 2, When::Success).await;
    block_of(&stage, &[&moved]).await;
    hub.start_again().await.unwrap();
    punishes(&stage, first.compute_txid()).await;
    stage.lab.mine(1).await.unwrap();
    assert!(!spenders_of_second_stages(&stage, since, &[&moved]).await.is_empty(), "they are taken");

    // None of it has happened; the second state confirms instead.
    cheater.kill().unwrap();
    stage.lab.chain().reorganise(3).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    assert!(stage.lab.chain().unspent(funding).await.unwrap().is_some(), "the channel is unspent again");
    block_of(&stage, &[&second]).await;
    cheater.daemon().go_back("second").unwrap();
    cheater.start_with(&[NO_HUB]).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    hub.kill().unwrap();
    for flight in received(&states[1], cheater) {
        cheater.settle(&flight.hash).await.unwrap();
    }
    cheater.kill().unwrap();
    // What the victim bid for these outputs is in the mempool; the cheater has no need of it.
    cheater.start_with(&[NO_HUB]).await.unwrap();
    let moved = waits(&stage, second.compute_txid(), 2, When::Success).await;
    block_of(&stage, &[&moved]).await;
    hub.start_again().await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_eq!(ended.commitments.get(&funding), Some(&second.compute_txid()));
    assert_taken(&stage, &ended, stake);
    assert!(!spenders_of_second_stages(&stage, since, &[&moved]).await.is_empty(), "they are taken");
}

/// Waits until the hub takes a revoked commitment's outputs: every one that it lists is on its way or spent.
async fn punishes(stage: &Stage, commitment: Txid) {
    until_seen("the hub's penalties", SOON, async || {
        let printed = hubctl(stage, &["channels"]).await;
        let rows = crate::command::rows(&printed);
        let id = hex::encode(&stage.channels[0]);
        let row = rows.iter().find(|row| row["channel_id"] == id.as_str()).expect("it is listed");
        let close = &row["onchain"];
        let outputs = close["outputs"].as_array().cloned().unwrap_or_default();
        let is_out = |output: &Value| matches!(output["stage"].as_str(), Some("sent" | "spent"));
        let all = !outputs.is_empty() && outputs.iter().all(is_out);
        let known = close["commitment_txid"] == commitment.to_string().as_str();
        Ok::<_, LabError>(if all && known { Look::Seen(()) } else { Look::NotYet(close.to_string()) })
    })
    .await
    .unwrap();
}

/// Payments to the victim that expire at two heights, and payments of its own whose preimages the hub knows already and has
/// not told it: all of them in flight in the copy that the hub goes back to. Gives the heights.
async fn two_expiries(stage: &Stage) -> (Flights, [u32; 2]) {
    let victim = &stage.wallets[0];
    let half = Load { offered: (0, 0), received: (1, 1), trimmed: 0 };
    let mut flights = Flights::launch(stage, victim, half).await;
    let first = flights.with_output[0].expiry().await;
    stage.lab.mine(EXPIRIES_APART).await.unwrap();
    let more = Flights::launch(stage, victim, half).await;
    let second = more.with_output[0].expiry().await;
    assert_eq!(second, first + EXPIRIES_APART);
    flights.with_output.extend(more.with_output);
    let offered =
        Flights::launch(stage, victim, Load { offered: (2, 0), received: (0, 0), trimmed: 0 }).await;
    victim.kill().unwrap();
    offered.decide().await;
    until_seen("the payments' end at their payee", SOON, async || {
        let in_flight: u32 = stage.peer.channels().await?.iter().map(|channel| channel.htlcs).sum();
        // Those that the peer pays to the victim stay.
        let left = u32::try_from(flights.with_output.len()).unwrap();
        Ok::<_, LabError>(if in_flight == left {
            Look::Seen(())
        } else {
            Look::NotYet(in_flight.to_string())
        })
    })
    .await
    .unwrap();
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.daemon().copy("old").unwrap();
    hub.start_again().await.unwrap();
    victim.start_again().await.unwrap();
    for wallet in stage.lab.wallets() {
        wallet.is_usable(1, SOON).await.unwrap();
    }
    flights.decide().await;
    stage.lab.quiet().await.unwrap();
    (flights, [first, second])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_second_stages_confirmed_or_racing_are_all_taken_from_it_by_a_wallet_that_slept_over_them() {
    let stage = Stage::set(LONG_DELAY, &["victim"]).await;
    let victim = &stage.wallets[0];
    let (_, expiries) = two_expiries(&stage).await;
    victim.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    let books = stage.books().await;
    let mut before = Vec::new();
    for wallet in stage.lab.wallets() {
        before.push(wallet.channels().await.unwrap());
    }
    let since = stage.lab.chain().height().await.unwrap();
    let channels = cheat::hub_cheats(&stage).await;
    assert!(channels.contains(&stage.channels[0]));
    let mut fundings = Vec::new();
    for channel in &channels {
        fundings.push(stage.funding(channel).await);
    }
    stage.spent_in_mempool("the revoked commitments", &fundings).await.unwrap();
    let funding = stage.funding(&stage.channels[0]).await;
    let id = spender(&stage, funding).await.unwrap().expect("it waits");
    stage.lab.mine(1).await.unwrap();

    // Both payments of the victim's by their preimages, and both that expired first, in blocks; the last two wait.
    let successes = waits(&stage, id, 2, When::Success).await;
    block_of(&stage, &[&successes]).await;
    let mut timeouts = Vec::new();
    for expiry in expiries {
        if let [confirmed] = &timeouts[..] {
            block_of(&stage, &[confirmed]).await;
        }
        let height = stage.lab.chain().height().await.unwrap();
        empty_blocks(&stage, expiry - height).await;
        timeouts.push(waits(&stage, id, 2, When::Timeout).await);
    }
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    victim.start_again().await.unwrap();
    are_outbid(&stage, &[&timeouts[1]]).await;
    block_of(&stage, &[&timeouts[1]]).await;
    victim.kill().unwrap();
    victim.start_again().await.unwrap();
    hub.start_again().await.unwrap();
    stage.peer.start_again().await.unwrap();
    stage.all_closed(&channels).await.unwrap();
    let ended = stage.ended(&books).await;
    let shares = before.iter().map(|listed| {
        let cheated = listed.iter().filter(|channel| channels.contains(&channel.channel_id));
        cheated.map(|channel| channel.remote_msat.cast_signed()).sum::<i64>()
    });
    for (wallet, share) in stage.lab.wallets().iter().zip(shares) {
        assert!(share > 0, "the hub has something to lose");
        assert_gained(&ended, stage.party(wallet), wallet.name(), share, 2 * ANCHOR_MSAT, FIGHT_SAT);
    }
    let second_stages = [&successes, &timeouts[0], &timeouts[1]];
    for one in second_stages {
        assert!(!spenders_of_second_stages(&stage, since, &[one]).await.is_empty(), "its outputs are taken");
    }
    let left: Vec<_> = ended.left.values().filter(|output| output.value.to_sat() > 240).collect();
    assert!(left.is_empty(), "{left:?}");
}

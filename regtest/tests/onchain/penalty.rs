//! A cheater loses everything in that channel, whoever cheats, however old the state, whatever the victim goes through.

use bitcoin::OutPoint;
use bytes::Bytes;
use proto::hub::v1 as pb;
use regtest::lab::endings::Ended;

use crate::cheat::{self, PASTS};
use crate::flight::{Fate, Flights};
use crate::support::{EXPIRY_DELTA, FEES_A_CHANNEL_SAT, LONG_DELAY, Stage, assert_gained};

/// What trimmed HTLCs leave is in the anchor, at most 240 sat, for whoever pays for the commitment: the cheater.
const ANCHOR_MSAT: u64 = 240_000;

async fn local_msat(channels: Vec<pb::Channel>) -> i64 {
    channels.iter().map(|channel| channel.local_msat.cast_signed()).sum()
}

async fn fundings(stage: &Stage, channels: &[Bytes]) -> Vec<OutPoint> {
    let mut fundings = Vec::new();
    for channel in channels {
        fundings.push(stage.funding(channel).await);
    }
    fundings
}

/// A stage of wallets that are about to cheat: every state is copied, and revoked since.
async fn cheaters() -> (Stage, Vec<Flights>) {
    let names: Vec<_> = PASTS.iter().map(|past| past.name).collect();
    let stage = Stage::set(LONG_DELAY, &names).await;
    let flights = cheat::launch(&stage, PASTS).await;
    cheat::copy_wallets(&stage.wallets).await;
    cheat::pay_on(&stage, PASTS, &flights).await;
    let flights = flights.into_iter().map(|(flights, _)| flights).collect();
    (stage, flights)
}

/// What each wallet of the stage has in its channel.
async fn at_stake(stage: &Stage) -> Vec<i64> {
    let mut sums = Vec::new();
    for wallet in &stage.wallets {
        sums.push(local_msat(wallet.channels().await.unwrap()).await);
    }
    sums
}

/// That each cheating wallet lost what it had in its channel, and the hub gained it.
fn assert_punished(stage: &Stage, ended: &Ended, stakes: &[i64]) {
    for (wallet, stake) in stage.wallets.iter().zip(stakes) {
        assert!(*stake > 0, "a cheater has something to lose");
        assert_gained(ended, stage.party(wallet), wallet.name(), -stake, ANCHOR_MSAT, FEES_A_CHANNEL_SAT);
    }
    let won = stakes.iter().sum();
    let all = stakes.len() as u64;
    assert_gained(ended, stage.hub_party(), "the hub", won, all * ANCHOR_MSAT, all * FEES_A_CHANNEL_SAT);
    assert_gained(ended, stage.party(&stage.peer), "peer", 0, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_publishes_any_revoked_state_loses_everything_to_a_hub_that_is_restarted_meanwhile() {
    let (stage, _) = cheaters().await;
    let stakes = at_stake(&stage).await;
    let books = stage.books().await;
    let fundings = fundings(&stage, &stage.channels).await;
    let hub = stage.lab.hub();
    for place in 0..stage.wallets.len() {
        cheat::wallet_cheats(&stage, place).await;
    }
    stage.spent_in_mempool("the revoked commitments", &fundings).await.unwrap();
    hub.kill().unwrap();
    stage.lab.mine(1).await.unwrap();
    hub.start_again().await.unwrap();
    stage.confirm_spends("the revoked commitments in blocks", &fundings).await.unwrap();
    hub.kill().unwrap();
    hub.start_again().await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_punished(&stage, &ended, &stakes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheaters_second_stage_that_confirmed_while_the_hub_slept_is_taken_from_it_too() {
    let (stage, flights) = cheaters().await;
    let stakes = at_stake(&stage).await;
    let books = stage.books().await;
    let fundings = fundings(&stage, &stage.channels).await;
    stage.lab.hub().kill().unwrap();
    let mut expiry = 0;
    for (place, flights) in flights.iter().enumerate() {
        cheat::wallet_cheats(&stage, place).await;
        for flight in &flights.with_output {
            // In its old life the cheater holds what it was paid, and takes it again.
            let is_payee = flight.payee.name() == stage.wallets[place].name();
            if is_payee && flight.fate == Fate::Taken {
                expiry = expiry.max(flight.expiry().await + EXPIRY_DELTA);
                flight.decide().await;
            }
        }
    }
    stage.confirm_spends("the revoked commitments", &fundings).await.unwrap();
    // Past every expiry, so that HTLC timeouts are in blocks too.
    assert!(expiry > 0, "the cheaters hold payments");
    stage.pass_to(expiry + 10).await.unwrap();
    stage.lab.hub().start_again().await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    let transactions = stage.lab.chain().transactions_since(expiry - 250).await.unwrap();
    let second_stages = transactions.iter().filter(|(_, one)| is_second_stage(one, &ended));
    assert!(second_stages.count() >= 2, "the cheaters' HTLC transactions were in blocks");
    assert_punished(&stage, &ended, &stakes);
}

/// Whether a transaction is a commitment's owner's HTLC transaction: version 3, and spends a commitment that spent a funding.
fn is_second_stage(transaction: &bitcoin::Transaction, ended: &Ended) -> bool {
    transaction.version == bitcoin::transaction::Version(3)
        && transaction.input.iter().any(|input| {
            // Witnesses of HTLC transactions hold both signatures after an empty element.
            ended.commitments.values().any(|txid| *txid == input.previous_output.txid)
                && input.witness.len() == 5
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_publishes_revoked_states_loses_everything_to_its_wallets_even_to_one_that_was_away_for_weeks()
 {
    let names: Vec<_> = PASTS.iter().map(|past| past.name).collect();
    let stage = Stage::set(LONG_DELAY, &names).await;
    let flights = cheat::launch(&stage, PASTS).await;
    cheat::copy_hub(&stage).await;
    cheat::pay_on(&stage, PASTS, &flights).await;
    let books = stage.books().await;
    let mut before = Vec::new();
    for wallet in stage.lab.wallets() {
        before.push(wallet.channels().await.unwrap());
    }
    let channels = cheat::hub_cheats(&stage).await;
    assert!(channels.len() > names.len(), "the peer is cheated as well");
    let fundings = fundings(&stage, &channels).await;
    // What the hub has in the channels that it cheats in, by wallet.
    let share = |listed: &Vec<pb::Channel>| {
        let cheated = listed.iter().filter(|channel| channels.contains(&channel.channel_id));
        cheated.map(|channel| channel.remote_msat.cast_signed()).sum::<i64>()
    };
    let shares: Vec<i64> = before.iter().map(share).collect();
    stage.confirm_spends("the revoked commitments", &fundings).await.unwrap();
    let sleeper = stage.wallets.last().expect("there are wallets");
    for wallet in stage.lab.wallets().iter().filter(|wallet| wallet.name() != sleeper.name()) {
        wallet.start_again().await.unwrap();
    }
    // The hub takes back what expires from the sleeper's channel.
    let height = stage.lab.chain().height().await.unwrap();
    stage.pass_to(height + LONG_DELAY - 100).await.unwrap();
    sleeper.start_again().await.unwrap();
    stage.all_closed(&channels).await.unwrap();
    let ended = stage.ended(&books).await;
    for (wallet, share) in stage.lab.wallets().iter().zip(&shares) {
        let most = 2 * FEES_A_CHANNEL_SAT;
        assert_gained(&ended, stage.party(wallet), wallet.name(), *share, 2 * ANCHOR_MSAT, most);
    }
    // What it gained elsewhere it has forgotten.
    let lost: i64 = before.iter().flatten().map(|channel| channel.remote_msat.cast_signed()).sum();
    let all = channels.len() as u64;
    assert_gained(&ended, stage.hub_party(), "the hub", -lost, all * ANCHOR_MSAT, all * FEES_A_CHANNEL_SAT);
}

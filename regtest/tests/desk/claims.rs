//! HTLCs and penalties against a real node.

use std::sync::Arc;

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, TxOut, Witness};
use channel::claim::{Claim, ClaimKind};
use channel::commitment::OutputKind;
use channel::signer::Signer;
use settlement::batch::CoinSigner;
use settlement::claim::{ClaimRequest, OwnedClaim, build, group};
use settlement::desk::ClaimState;
use settlement::fees::FeeBounds;
use settlement::onchain::OnchainError;
use settlement::verify::CloseJob;

use crate::pair::{CAPACITY, Commitment, End, Htlc, Pair, preimage, signer};
use crate::party::{Party, World};

/// Two HTLCs each way: 0 and 1 are the hub's, 2 and 3 the wallet's.
pub fn htlcs(height: u32) -> Vec<Htlc> {
    vec![
        Htlc { from: End::Hub, id: 0, sat: 40_000, expiry: height + 14 },
        Htlc { from: End::Hub, id: 1, sat: 50_000, expiry: height + 14 },
        Htlc { from: End::Wallet, id: 2, sat: 60_000, expiry: height + 60 },
        Htlc { from: End::Wallet, id: 3, sat: 70_000, expiry: height + 60 },
    ]
}

fn htlc_outpoint(commitment: &Commitment, id: u64) -> OutPoint {
    let position = commitment.built.htlcs().iter().position(|output| output.htlc.id == id).unwrap();
    commitment.outpoint(OutputKind::Htlc { position })
}

/// A channel that both know, with a commitment of this end's and HTLCs.
pub async fn with_htlcs(
    world: &mut World,
    hub: &mut Party,
    wallet: &mut Party,
    of: End,
) -> (Arc<Pair>, Arc<Commitment>) {
    let pair = world.channel(1, &mut [hub, wallet]).await;
    let commitment = Arc::new(pair.commitment(of, 7, &htlcs(world.height())));
    for party in [&*hub, &*wallet] {
        party.knows(&pair, &[&commitment]);
    }
    hub.knows_preimages(&pair, &[2, 3]);
    wallet.knows_preimages(&pair, &[0]);
    (pair, commitment)
}

/// Each end has what is its own of a commitment with [`htlcs`], and what it had before, less fees.
pub async fn assert_paid(hub: &Party, wallet: &Party, before: u64) {
    let half = (CAPACITY.to_sat() - 220_000) / 2;
    let owned = [half + 50_000 + 60_000 + 70_000, half + 40_000];
    for (party, owned) in [hub, wallet].into_iter().zip(owned) {
        let (has, all) = (party.coins().await, Amount::from_sat(owned + before));
        assert!(has < all && has + Amount::from_sat(25_000) > all, "{:?} has {has} of {all}", party.end);
    }
}

struct NoCoins;

impl CoinSigner for NoCoins {
    fn sign_coins(&self, _: &Transaction, _: &[TxOut]) -> Result<Vec<(usize, Witness)>, OnchainError> {
        Ok(Vec::new())
    }
}

/// The wallet's claim of one HTLC of the hub's commitment, by its preimage.
fn taken_by_preimage(pair: &Pair, commitment: &Commitment, id: u64, height: u32) -> Transaction {
    let claims = pair.their_claims(commitment, height).into_iter();
    let claim = claims.into_iter().find(|claim| claim.kind == ClaimKind::HtlcSuccess { id }).unwrap();
    let owned = OwnedClaim { owner: pair.owner(), key_id: pair.key_id(), claim };
    let groups = group(&[owned], height);
    let script = commitment.transaction.output.last().unwrap().script_pubkey.clone();
    let request = ClaimRequest {
        group: &groups[0],
        tip: height,
        coins: &[],
        script: &script,
        feerate: FeeRate::from_sat_per_kwu(2_000),
        budget: Amount::from_sat(10_000),
        bounds: FeeBounds::default(),
        replaces: &[],
    };
    let CloseJob::Claim(job) = build(&request, &signer(End::Wallet), &NoCoins).unwrap().job else { panic!() };
    job.transaction
}

/// An HTLC transaction of its owner's, as the counterparty signed it: without a fee, which a block does not mind.
fn htlc_transaction(pair: &Pair, commitment: &Commitment, claim: &Claim) -> Transaction {
    let mut transaction = Transaction {
        version: Version::non_standard(3),
        lock_time: claim.lock_time(),
        input: vec![claim.unsigned_input()],
        output: vec![claim.paired_output().unwrap().clone()],
    };
    let signature = signer(commitment.of).sign_claim(&pair.key_id(), claim, &transaction, 0).unwrap();
    transaction.input[0].witness = claim.witness(&signature).unwrap();
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn htlcs_of_the_hubs_commitment_go_to_whom_they_belong() {
    htlcs_go_to_whom_they_belong(End::Hub).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn htlcs_of_the_wallets_commitment_go_to_whom_they_belong() {
    htlcs_go_to_whom_they_belong(End::Wallet).await;
}

async fn htlcs_go_to_whom_they_belong(of: End) {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[50_000, 50_000, 50_000]).await;
    let mut wallet = world.party(End::Wallet, &[50_000, 50_000, 50_000]).await;
    let (pair, commitment) = with_htlcs(&mut world, &mut hub, &mut wallet, of).await;
    let owner = if of == End::Hub { &hub } else { &wallet };
    owner.close(&pair, &commitment, None);
    world.finish(&mut [&mut hub, &mut wallet], &pair, async |_, _, _| {}).await;
    assert_paid(&hub, &wallet, 150_000).await;
    assert!(hub.look(&pair, |channel| channel.learned.contains(&preimage(0).to_bytes())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_made_again_without_the_output_that_was_taken() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[50_000, 50_000]).await;
    let mut wallet = world.party(End::Wallet, &[]).await;
    let (pair, commitment) = with_htlcs(&mut world, &mut hub, &mut wallet, End::Hub).await;
    wallet.kill().await;
    world.block_of(std::slice::from_ref(&commitment.transaction), &[&hub]).await;
    // Both of the hub's HTLCs expire, and one claim takes both; then a block holds the wallet's spend of one.
    let (first, second) = (htlc_outpoint(&commitment, 0), htlc_outpoint(&commitment, 1));
    let both = loop {
        world.sent(&[&hub]).await;
        if let Some(txid) = world.spender(first).await {
            break txid;
        }
        world.empty_block(&[&hub]).await;
    };
    assert_eq!(world.spender(second).await, Some(both));
    let taken = taken_by_preimage(&pair, &commitment, 0, world.height());
    world.block_of(&[taken], &[&hub]).await;
    let again = hub.spends(&world, second).await;
    assert_ne!(again, both);
    world.block(&[&hub]).await;
    let status = hub.status(&pair).await.unwrap();
    let state =
        |outpoint| status.claims.iter().find(|claim| claim.outpoint == outpoint).unwrap().state.clone();
    assert!(matches!(state(second), ClaimState::Spent { txid, .. } if txid == again));
    assert!(hub.look(&pair, |channel| channel.learned.contains(&preimage(0).to_bytes())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preimage_that_only_the_mempool_saw_is_learned() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[50_000]).await;
    let mut wallet = world.party(End::Wallet, &[]).await;
    let (pair, commitment) = with_htlcs(&mut world, &mut hub, &mut wallet, End::Hub).await;
    wallet.kill().await;
    world.block_of(std::slice::from_ref(&commitment.transaction), &[&hub]).await;
    let shown = taken_by_preimage(&pair, &commitment, 0, world.height());
    world.node.rpc().send_raw(&shown).unwrap();
    hub.restart(&world).await;
    world.empty_block(&[&hub]).await;
    world
        .until("the preimage", async || {
            hub.look(&pair, |channel| channel.learned.contains(&preimage(0).to_bytes())).then_some(())
        })
        .await;
    assert!(world.is_unspent(htlc_outpoint(&commitment, 0)), "no block ever held it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheater_loses_everything_also_what_its_htlc_transactions_moved_on() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[]).await;
    let pair = world.channel(1, &mut [&mut hub]).await;
    let revoked = Arc::new(pair.commitment(End::Wallet, 3, &htlcs(world.height())));
    hub.knows(&pair, &[&revoked]);
    hub.holds_revoked(&pair, 3);
    // The cheater comes first with one of its HTLCs, in the block of its commitment.
    let height = world.height() + 1;
    let own = pair.own_claims(&revoked, height);
    let success = own.iter().find(|claim| claim.kind == ClaimKind::HtlcSuccess { id: 0 }).unwrap();
    let moved = htlc_transaction(&pair, &revoked, success);
    world.block_of(&[revoked.transaction.clone(), moved], &[&hub]).await;
    world
        .finish(&mut [&mut hub], &pair, async |world, parties, _| {
            // The victim is killed between any two blocks.
            parties[0].restart(world).await;
        })
        .await;
    let has = hub.coins().await;
    assert!(has > CAPACITY - Amount::from_sat(10_000), "{has}");
}

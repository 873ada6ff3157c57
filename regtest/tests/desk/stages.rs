//! Reorganisations and deaths at every stage of a close with HTLCs.

use crate::claims::{assert_paid, with_htlcs};
use crate::pair::End;
use crate::party::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorganisations_of_one_to_five_blocks_at_any_stage_cost_nobody_anything() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[80_000, 80_000, 80_000]).await;
    let mut wallet = world.party(End::Wallet, &[80_000, 80_000, 80_000]).await;
    let (pair, commitment) = with_htlcs(&mut world, &mut hub, &mut wallet, End::Hub).await;
    hub.close(&pair, &commitment, None);
    world
        .finish(&mut [&mut hub, &mut wallet], &pair, async |world, parties, block| {
            // The HTLCs expire meanwhile: whoever may still take one does.
            if block < 12 && block % 2 == 1 {
                world.miner.reorganise(1 + block / 2 % 5).unwrap();
                for party in parties.iter() {
                    party.follows(world).await;
                }
            }
        })
        .await;
    assert_paid(&hub, &wallet, 240_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn desks_killed_before_every_block_bring_a_close_to_its_end() {
    let mut world = World::start(&[]).await;
    let mut hub = world.party(End::Hub, &[80_000, 80_000, 80_000]).await;
    let mut wallet = world.party(End::Wallet, &[80_000, 80_000, 80_000]).await;
    let (pair, commitment) = with_htlcs(&mut world, &mut hub, &mut wallet, End::Wallet).await;
    wallet.close(&pair, &commitment, None);
    world
        .finish(&mut [&mut hub, &mut wallet], &pair, async |world, parties, block| {
            for party in parties.iter_mut() {
                if block % 3 == 2 {
                    // While it is dead the chain goes on.
                    party.kill().await;
                    world.miner.confirm(1).unwrap();
                }
                party.restart(world).await;
            }
            for party in parties.iter() {
                party.follows(world).await;
            }
        })
        .await;
    assert_paid(&hub, &wallet, 240_000).await;
}

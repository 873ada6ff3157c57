//! Processes killed with SIGKILL at random moments: nothing acknowledged is lost, nothing is paid twice.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::wallet::v1 as pb;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use regtest::demo::Books;
use regtest::lab::{Lab, LabError, audit, pay_until_settled, stream_to_its_end};
use regtest::wait::{Look, until_seen};

use crate::support::{LARGE_MSAT, SMALL_MSAT, SOON, lab_of};

const PAYMENTS: u64 = 60;

/// Waits for a number of payments more that is random, so that each death comes at another moment.
async fn some_more(paid: &AtomicU64, random: &mut StdRng) -> Result<(), LabError> {
    let goal = (paid.load(Ordering::Relaxed) + random.gen_range(1..8)).min(PAYMENTS);
    until_seen("some more payments", SOON, async || {
        let now = paid.load(Ordering::Relaxed);
        Ok(if now >= goal { Look::Seen(()) } else { Look::NotYet(format!("{now} payments")) })
    })
    .await
}

/// Pays at random among all wallets, a few at a time.
async fn pay_at_random(lab: &Lab, books: &Books, paid: &AtomicU64, seed: u64) -> Result<(), LabError> {
    let lane = async |lane: u64| {
        let mut random = StdRng::seed_from_u64(seed + lane);
        let wallets = lab.wallets();
        while paid.load(Ordering::Relaxed) < PAYMENTS {
            let payer = random.gen_range(0..wallets.len());
            let payee = (payer + random.gen_range(1..wallets.len())) % wallets.len();
            let amount = if random.gen_bool(0.5) { LARGE_MSAT } else { SMALL_MSAT };
            let invoice = invoice_until_made(lab, payee, amount).await?;
            let settled = pay_until_settled(&wallets[payer], &invoice).await?;
            books.paid(payer, payee, &settled.payment);
            paid.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), LabError>(())
    };
    tokio::try_join!(lane(1), lane(2), lane(3), lane(4))?;
    Ok(())
}

/// The payee may be dead at this moment.
async fn invoice_until_made(lab: &Lab, payee: usize, amount: u64) -> Result<String, LabError> {
    until_seen("an invoice", SOON, async || match lab.wallets()[payee].invoice(amount, "").await {
        Ok(invoice) => Ok(Look::Seen(invoice)),
        Err(error) => Ok(Look::NotYet(error.to_string())),
    })
    .await
}

async fn check_everything(lab: &Lab, books: &Books) {
    lab.quiet().await.unwrap();
    let names: Vec<_> = lab.wallets().iter().map(|wallet| wallet.name().to_owned()).collect();
    books.compare(&names, &audit::channels(lab).await.unwrap()).unwrap();
    let mut lists = Vec::new();
    for wallet in lab.wallets() {
        lists.push(wallet.payments().await.unwrap());
    }
    books.compare_lists(&names, &lists).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_hub_at_random_moments_loses_no_acknowledged_payment() {
    let (lab, wallets) = lab_of(&["one", "two", "three"]).await;
    let books = Books::open(wallets.len(), &audit::channels(&lab).await.unwrap());
    let paid = AtomicU64::new(0);
    let killing = async {
        let mut random = StdRng::seed_from_u64(11);
        for _ in 0..5 {
            some_more(&paid, &mut random).await?;
            lab.hub().kill()?;
            lab.hub().start_again().await?;
        }
        Ok::<(), LabError>(())
    };
    tokio::try_join!(pay_at_random(&lab, &books, &paid, 100), killing).unwrap();
    check_everything(&lab, &books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_wallets_at_random_moments_loses_no_acknowledged_payment() {
    let (lab, wallets) = lab_of(&["one", "two", "three"]).await;
    let books = Books::open(wallets.len(), &audit::channels(&lab).await.unwrap());
    let paid = AtomicU64::new(0);
    let killing = async {
        let mut random = StdRng::seed_from_u64(12);
        for _ in 0..5 {
            some_more(&paid, &mut random).await?;
            let victim = &wallets[random.gen_range(0..wallets.len())];
            victim.kill()?;
            victim.start_again().await?;
        }
        Ok::<(), LabError>(())
    };
    tokio::try_join!(pay_at_random(&lab, &books, &paid, 200), killing).unwrap();
    check_everything(&lab, &books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_over_the_deaths_of_payer_payee_and_hub() {
    let (lab, wallets) = lab_of(&["payer", "payee"]).await;
    let books = Books::open(wallets.len(), &audit::channels(&lab).await.unwrap());
    let settled = AtomicU64::new(0);
    let terms = pb::StartStreamRequest {
        payee: wallets[1].node_key().clone(),
        amount_msat: 1_000,
        ticks: 600,
        ticks_per_second: 60,
        max_in_flight: 20,
        request_id: String::new(),
    };
    let streaming =
        stream_to_its_end(&wallets[0], terms, |step| settled.store(step.settled, Ordering::Relaxed));
    let killing = async {
        for (goal, victim) in [(50, 0), (150, 1), (250, 2)] {
            until_seen("some ticks", SOON, async || {
                let now = settled.load(Ordering::Relaxed);
                Ok(if now >= goal { Look::Seen(()) } else { Look::NotYet(format!("{now} ticks")) })
            })
            .await?;
            match wallets.get(victim) {
                Some(wallet) => {
                    wallet.kill()?;
                    wallet.start_again().await?;
                }
                None => {
                    lab.hub().kill()?;
                    lab.hub().start_again().await?;
                }
            }
        }
        Ok::<(), LabError>(())
    };
    let (end, ()) = tokio::try_join!(streaming, killing).unwrap();
    assert_eq!((end.state(), end.settled), (pb::StreamState::Ended, 600), "{}", end.text);
    // The hub asks nothing for so small a tick.
    books.streamed(0, 1, &end, 0);
    check_everything(&lab, &books).await;
}

//! What all tests here share.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use proto::error::ErrorCode;
use proto::hub::v1::FailureReason;
use proto::wallet::v1 as pb;
use regtest::lab::{Funder, Lab, LabError, LabOptions, Opening, Program, Wallet};
use regtest::wait::{Look, until_seen};

/// What takes a moment on an idle machine, and must not fail on a busy one.
pub const SOON: Duration = Duration::from_secs(60);

/// The capacity of channels here.
pub const CAPACITY_SAT: u64 = 1_000_000;

/// With an output of its own in both commitments, and without.
pub const LARGE_MSAT: u64 = 10_000_000;
pub const SMALL_MSAT: u64 = 100_000;

/// The variable `LAB_FOLDER` names a folder in which every lab leaves its data and logs behind, for a look at a failure.
pub fn options() -> LabOptions {
    let program = Program::at(env!("CARGO_BIN_EXE_regtest"));
    let folder = std::env::var_os("LAB_FOLDER").map(|root| {
        let test = std::thread::current().name().unwrap_or("lab").replace("::", "-");
        std::path::Path::new(&root).join(test)
    });
    // Tests wait for blocks more often than for anything else.
    LabOptions { folder, wallet: vec!["bitcoind.poll_ms=50".to_owned()], ..LabOptions::new(program) }
}

/// A lab with these wallets, each with a channel of its own and one of the hub's.
pub async fn lab_of(names: &[&str]) -> (Lab, Vec<Arc<Wallet>>) {
    lab_with(options(), names).await
}

pub async fn lab_with(options: LabOptions, names: &[&str]) -> (Lab, Vec<Arc<Wallet>>) {
    let mut lab = Lab::start(options).await.expect("the lab starts");
    let wallets = lab.add_wallets(names.iter().map(|name| (*name).to_owned())).await.expect("wallets start");
    open_both(&lab, &wallets).await;
    (lab, wallets)
}

/// Gives each wallet a channel of its own and one of the hub's.
pub async fn open_both(lab: &Lab, wallets: &[Arc<Wallet>]) {
    lab.fund_wallets(wallets, Amount::from_sat(2 * CAPACITY_SAT)).await.expect("wallets get coins");
    let opening = |wallet: &Arc<Wallet>, funder| Opening {
        wallet: Arc::clone(wallet),
        funder,
        capacity_sat: CAPACITY_SAT,
    };
    let openings: Vec<_> = wallets
        .iter()
        .flat_map(|wallet| [opening(wallet, Funder::Wallet), opening(wallet, Funder::Hub)])
        .collect();
    lab.open(&openings).await.expect("channels open");
}

/// A lab with a payer that has a channel of its own, and a payee with one of the hub's: the least that pays.
pub async fn pair() -> (Lab, Arc<Wallet>, Arc<Wallet>) {
    pair_with(CAPACITY_SAT).await
}

/// The same, with another capacity of the payee's channel.
pub async fn pair_with(payee_capacity_sat: u64) -> (Lab, Arc<Wallet>, Arc<Wallet>) {
    let mut lab = Lab::start(options()).await.expect("the lab starts");
    let payer = lab.add_wallet("payer").await.expect("a wallet starts");
    let payee = lab.add_wallet("payee").await.expect("a wallet starts");
    lab.fund_wallets(std::slice::from_ref(&payer), Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    let openings = [
        Opening { wallet: Arc::clone(&payer), funder: Funder::Wallet, capacity_sat: CAPACITY_SAT },
        Opening { wallet: Arc::clone(&payee), funder: Funder::Hub, capacity_sat: payee_capacity_sat },
    ];
    lab.open(&openings).await.expect("channels open");
    (lab, payer, payee)
}

/// The wallet's settled balance in channels.
pub async fn balance_msat(wallet: &Wallet) -> u64 {
    wallet.balance().await.expect("a wallet tells its balance").channels_msat
}

/// Waits until the hub has counted these fees: it sums them up from its events, a moment after a payer has its preimage.
pub async fn hub_earned(lab: &Lab, fees_msat: u64) {
    until_seen("the hub's fees", SOON, async || {
        let earned = lab.hub().balances().await?.fees_earned_msat;
        Ok(if earned == fees_msat { Look::Seen(()) } else { Look::NotYet(format!("{earned} msat")) })
    })
    .await
    .unwrap();
}

/// That a call was refused by this name.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, LabError>, expected: &[ErrorCode]) {
    let error = outcome.expect_err("the call is refused");
    let code = error.code().unwrap_or_else(|| panic!("no detail in {error}"));
    assert!(expected.contains(&code), "{code:?}: {error}; expected {expected:?}");
}

/// That a payment failed for this reason.
#[track_caller]
pub fn assert_failed(outcome: Result<pb::Payment, LabError>, expected: FailureReason) {
    let error = outcome.expect_err("the payment fails");
    assert_eq!(error.failure(), Some(expected), "{error}");
}

/// That a payment settled; its preimage is the proof.
#[track_caller]
pub fn assert_settled(payment: &pb::Payment) {
    use bitcoin::hashes::{Hash, sha256};
    assert_eq!(payment.state(), pb::PaymentState::Settled, "{:?}", payment.failure());
    assert_eq!(sha256::Hash::hash(&payment.preimage).to_byte_array()[..], payment.payment_hash[..]);
}

//! What may take another's place.

use super::*;

fn sats(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

#[test]
fn a_replacement_pays_the_fees_of_what_leaves_and_for_its_own_size() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let first = spend(2, &[coin], &[COIN - 1_000]);
    lab.takes(&first);
    let child = spend(2, &[outpoint(&first, 0)], &[COIN - 1_500]);
    lab.takes(&child);
    let needed = 1_500 + vsize(&first).div_ceil(10);
    let short = spend(2, &[coin], &[COIN - needed + 1]);
    lab.refuses(&short, &Reject::InsufficientFee { fee: sats(needed - 1), needed: sats(needed) });
    let enough = spend(2, &[coin], &[COIN - needed]);
    let replaced = lab.submit(&enough).unwrap().replaced;
    assert_eq!(replaced, [first.compute_txid(), child.compute_txid()].into());
    assert_eq!(lab.node.mempool_txids(), [enough.compute_txid()]);
}

#[test]
fn whoever_did_not_signal_is_replaced_too() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let mut first = spend(2, &[coin], &[COIN - 1_000]);
    first.input[0].sequence = Sequence::MAX;
    lab.takes(&first);
    lab.takes(&spend(2, &[coin], &[COIN - 2_000]));
    assert!(!lab.holds(&first));
}

#[test]
fn a_higher_fee_at_a_lower_rate_is_no_improvement() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    lab.takes(&spend(2, &[coin], &[COIN - 1_000]));
    let bulky = with_data(spend(2, &[coin], &[COIN - 3_000]), 2_000);
    lab.refuses(&bulky, &Reject::ReplacementFailed);
}

#[test]
fn a_replacement_spends_nothing_of_what_it_replaces() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let first = spend(2, &[coin], &[COIN / 2, COIN / 2 - 1_000]);
    lab.takes(&first);
    let both = spend(2, &[coin, outpoint(&first, 0)], &[COIN]);
    lab.refuses(&both, &Reject::SpendsConflicting);
    let child = spend(2, &[outpoint(&first, 0)], &[COIN / 2 - 500]);
    lab.takes(&child);
    let with_grandchild = spend(2, &[coin, outpoint(&child, 0)], &[COIN]);
    lab.refuses(&with_grandchild, &Reject::SpendsConflicting);
}

#[test]
fn a_hundred_clusters_are_the_most_that_one_replaces() {
    let mut lab = Lab::new();
    let roots = [lab.coin(), lab.coin()];
    let fanned = spend(2, &roots, &[19_000; 101]);
    lab.takes(&fanned);
    lab.node.mine(&Mine::default());
    let outputs: Vec<OutPoint> = (0..101).map(|vout| outpoint(&fanned, vout)).collect();
    for one in &outputs {
        lab.takes(&spend(2, &[*one], &[18_900]));
    }
    lab.refuses(&spend(2, &outputs, &[1_000_000]), &Reject::TooManyReplacements);
    lab.takes(&spend(2, &outputs[..100], &[1_000_000]));
}

#[test]
fn a_test_says_what_would_be_and_changes_nothing() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let first = spend(2, &[coin], &[COIN - 1_000]);
    assert!(lab.node.test(&first).is_ok());
    assert!(lab.node.mempool().is_empty());
    lab.takes(&first);
    let second = spend(2, &[coin], &[COIN - 5_000]);
    assert_eq!(lab.node.test(&second).unwrap().replaced, [first.compute_txid()].into());
    assert_eq!(lab.node.mempool_txids(), [first.compute_txid()]);
    assert_eq!(lab.node.spender_of(coin), Some(first.compute_txid()));
}

//! A parent and the child that pays for both.

use super::*;

/// A commitment as channels have it: version 3, no fee, an anchor of this value.
fn commitment(coin: OutPoint, anchor: u64) -> Transaction {
    let mut transaction = spend(3, &[coin], &[COIN - anchor]);
    transaction.output.push(pays(anchor, ScriptBuf::new_p2a()));
    transaction
}

/// A child that spends its anchor and a coin of its own.
fn child_of(parent: &Transaction, coin: OutPoint, anchor: u64, fee: u64) -> Transaction {
    let mut child = spend(3, &[outpoint(parent, 1), coin], &[COIN + anchor - fee]);
    child.input[0].witness.clear();
    child
}

#[track_caller]
fn succeeds(lab: &Lab, package: &[&Transaction]) {
    let outcome = lab.node.submit_package(package);
    assert_eq!(outcome.message, "success", "{outcome:?}");
    assert!(package.iter().all(|one| lab.holds(one)));
}

#[test]
fn a_child_pays_for_a_parent_without_a_fee() {
    for anchor in [0, 100, 239, 240, 5_000] {
        let mut lab = Lab::new();
        let parent = commitment(lab.coin(), anchor);
        let needed = Amount::from_sat(vsize(&parent).div_ceil(10));
        lab.refuses(&parent, &Reject::MinRelayFee { fee: Amount::ZERO, needed });
        let child = child_of(&parent, lab.coin(), anchor, 1_000);
        lab.refuses(&child, &Reject::MissingInputs);
        succeeds(&lab, &[&parent, &child]);
        lab.node.mine(&Mine::default());
        assert!(lab.confirmed(&parent) && lab.confirmed(&child));
    }
}

#[test]
fn a_child_leaves_no_dust_of_its_parent_behind() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let child = spend(3, &[outpoint(&parent, 0)], &[COIN - 1_000]);
    let outcome = lab.node.submit_package(&[&parent, &child]);
    assert_eq!(outcome.message, "unspent-dust");
    let said = &outcome.transactions[&child.compute_wtxid()];
    assert_eq!(*said, Outcome::Rejected(Reject::MissingEphemeralSpends));
    assert!(lab.node.mempool().is_empty());
    // What is worth spending may stay.
    let parent = commitment(lab.coin(), 240);
    succeeds(&lab, &[&parent, &spend(3, &[outpoint(&parent, 0)], &[COIN - 2_000])]);
}

#[test]
fn the_package_pays_together_what_each_would_have_to() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let coin = lab.coin();
    let size = vsize(&parent) + vsize(&child_of(&parent, coin, 0, 1));
    let needed = size.div_ceil(10);
    let short = child_of(&parent, coin, 0, needed - 1);
    let outcome = lab.node.submit_package(&[&parent, &short]);
    assert_eq!(outcome.message, "transaction failed");
    let said = &outcome.transactions[&short.compute_wtxid()];
    assert!(matches!(said, Outcome::Rejected(Reject::MinRelayFee { .. })), "{said:?}");
    succeeds(&lab, &[&parent, &child_of(&parent, coin, 0, needed)]);
}

#[test]
fn a_package_that_waits_already_is_no_error() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let child = child_of(&parent, lab.coin(), 0, 1_000);
    succeeds(&lab, &[&parent, &child]);
    succeeds(&lab, &[&parent, &child]);
}

#[test]
fn another_child_takes_the_place_of_the_first_alone_or_with_its_parent() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let first = child_of(&parent, lab.coin(), 0, 1_000);
    succeeds(&lab, &[&parent, &first]);
    let second = child_of(&parent, lab.coin(), 0, 2_000);
    lab.takes(&second);
    assert!(!lab.holds(&first) && lab.holds(&parent));
    let third = child_of(&parent, lab.coin(), 0, 3_000);
    succeeds(&lab, &[&parent, &third]);
    assert!(!lab.holds(&second));
}

#[test]
fn the_other_commitment_replaces_the_first_with_its_child_if_it_pays_more() {
    let mut lab = Lab::new();
    let funding = lab.coin();
    let mine = commitment(funding, 0);
    let child = child_of(&mine, lab.coin(), 0, 1_000);
    succeeds(&lab, &[&mine, &child]);
    let mut theirs = commitment(funding, 0);
    theirs.input[0].sequence = Sequence::from_consensus(0x8000_0001);
    let coin = lab.coin();
    let cheap = child_of(&theirs, coin, 0, 1_000);
    let outcome = lab.node.submit_package(&[&theirs, &cheap]);
    assert!(outcome.message.contains("package RBF failed: insufficient anti-DoS fees"), "{outcome:?}");
    assert!(lab.holds(&mine) && lab.holds(&child));
    let rich = child_of(&theirs, coin, 0, 1_500);
    let outcome = lab.node.submit_package(&[&theirs, &rich]);
    assert_eq!(outcome.message, "success");
    assert_eq!(outcome.replaced, [mine.compute_txid(), child.compute_txid()].into());
}

#[test]
fn a_coin_that_is_spent_elsewhere_leaves_the_parent_alone_and_a_new_child_mends_it() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let parent = commitment(lab.coin(), 0);
    succeeds(&lab, &[&parent, &child_of(&parent, coin, 0, 1_000)]);
    lab.takes(&spend(2, &[coin], &[COIN - 5_000]));
    assert!(lab.holds(&parent));
    lab.node.mine(&Mine::default());
    assert!(lab.holds(&parent), "nobody mines what pays nothing");
    let another = child_of(&parent, lab.coin(), 0, 1_000);
    succeeds(&lab, &[&parent, &another]);
    lab.node.mine(&Mine::default());
    assert!(lab.confirmed(&parent));
}

#[test]
fn a_commitment_cannot_spend_a_funding_that_waits() {
    let mut lab = Lab::new();
    let funding = lab.pay(2, 500);
    lab.takes(&funding);
    let mut parent = commitment(outpoint(&funding, 0), 0);
    parent.output[0].value = Amount::from_sat(COIN - 500);
    let child = child_of(&parent, lab.coin(), 0, 1_000);
    let outcome = lab.node.submit_package(&[&parent, &child]);
    assert_eq!(outcome.message, "transaction failed");
    lab.node.mine(&Mine::default());
    succeeds(&lab, &[&parent, &child]);
}

#[test]
fn a_child_of_a_package_has_no_other_unconfirmed_parent() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let other = lab.pay(3, 500);
    lab.takes(&other);
    let mut child = spend(3, &[outpoint(&parent, 1), outpoint(&other, 0)], &[COIN - 2_000]);
    child.input[0].witness.clear();
    let outcome = lab.node.submit_package(&[&parent, &child]);
    assert!(outcome.message.contains("TRUC-violation"), "{outcome:?}");
}

#[test]
fn a_package_is_a_child_and_its_parents_in_order() {
    let mut lab = Lab::new();
    let parent = commitment(lab.coin(), 0);
    let child = child_of(&parent, lab.coin(), 0, 1_000);
    let stranger = lab.pay(2, 500);
    let message = |package: &[&Transaction]| lab.node.submit_package(package).message;
    assert_eq!(message(&[&child, &parent]), "package-not-sorted");
    assert_eq!(message(&[&stranger, &child]), "package-not-child-with-parents");
    assert_eq!(message(&[&parent, &parent]), "package-contains-duplicates");
    let rival = spend(3, &[parent.input[0].previous_output, outpoint(&parent, 0)], &[COIN]);
    assert_eq!(message(&[&parent, &rival]), "conflict-in-package");
    assert!(lab.node.mempool().is_empty());
}

#[test]
fn a_parent_that_pays_for_itself_comes_in_even_if_its_child_does_not() {
    let mut lab = Lab::new();
    let parent = lab.pay(2, 500);
    let child = spend(2, &[outpoint(&parent, 0)], &[COIN]);
    let outcome = lab.node.submit_package(&[&parent, &child]);
    assert_eq!(outcome.message, "transaction failed");
    assert!(lab.holds(&parent) && !lab.holds(&child));
}

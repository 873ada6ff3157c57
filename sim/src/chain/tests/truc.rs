//! Version 3 (BIP 431).

use super::*;

#[test]
fn versions_do_not_mix_while_unconfirmed() {
    let mut lab = Lab::new();
    let (two, three) = (lab.pay(2, 500), lab.pay(3, 500));
    lab.takes(&two);
    lab.takes(&three);
    let of_two = spend(3, &[outpoint(&two, 0)], &[COIN - 1_000]);
    lab.refuses(&of_two, &Reject::Truc(Truc::ParentOtherVersion(two.compute_txid())));
    let of_three = spend(2, &[outpoint(&three, 0)], &[COIN - 1_000]);
    lab.refuses(&of_three, &Reject::Truc(Truc::ChildOtherVersion(three.compute_txid())));
    lab.node.mine(&Mine::default());
    lab.takes(&of_two);
    lab.takes(&of_three);
}

#[test]
fn a_version_3_transaction_has_ten_thousand_virtual_bytes_at_most() {
    let mut lab = Lab::new();
    let big = with_data(lab.pay(3, 20_000), 10_000);
    lab.refuses(&big, &Reject::Truc(Truc::TooBig(vsize(&big))));
    let fits = with_data(lab.pay(3, 20_000), 9_800);
    lab.takes(&fits);
}

#[test]
fn a_version_3_child_has_a_thousand_virtual_bytes_at_most() {
    let mut lab = Lab::new();
    let parent = lab.pay(3, 500);
    lab.takes(&parent);
    let child = spend(3, &[outpoint(&parent, 0)], &[COIN - 5_000]);
    let big = with_data(child.clone(), 1_000);
    lab.refuses(&big, &Reject::Truc(Truc::ChildTooBig(vsize(&big))));
    lab.takes(&with_data(child, 800));
}

#[test]
fn a_version_3_transaction_has_one_unconfirmed_ancestor() {
    let mut lab = Lab::new();
    let parents = [lab.pay(3, 500), lab.pay(3, 500)];
    parents.iter().for_each(|parent| lab.takes(parent));
    let of_both = spend(3, &[outpoint(&parents[0], 0), outpoint(&parents[1], 0)], &[COIN]);
    lab.refuses(&of_both, &Reject::Truc(Truc::TooManyAncestors));
    let child = spend(3, &[outpoint(&parents[0], 0)], &[COIN - 1_000]);
    lab.takes(&child);
    let grandchild = spend(3, &[outpoint(&child, 0)], &[COIN - 2_000]);
    lab.refuses(&grandchild, &Reject::Truc(Truc::TooManyAncestors));
}

#[test]
fn a_second_child_pushes_the_first_out_if_it_pays_for_it() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let parent = spend(3, &[coin], &[COIN / 2, COIN / 2 - 500]);
    lab.takes(&parent);
    let first = spend(3, &[outpoint(&parent, 0)], &[COIN / 2 - 1_000]);
    lab.takes(&first);
    let cheap = spend(3, &[outpoint(&parent, 1)], &[COIN / 2 - 500 - 900]);
    assert!(matches!(lab.submit(&cheap), Err(Reject::InsufficientFee { .. })));
    let rich = spend(3, &[outpoint(&parent, 1)], &[COIN / 2 - 500 - 2_000]);
    assert_eq!(lab.submit(&rich).unwrap().replaced, [first.compute_txid()].into());
    assert!(lab.holds(&parent) && !lab.holds(&first));
}

//! What a transaction needs to come in by itself.

use bitcoin::Weight;

use super::*;

#[test]
fn a_sound_transaction_is_taken_and_its_output_can_be_spent_at_once() {
    let mut lab = Lab::new();
    let parent = lab.pay(2, 500);
    let accepted = lab.submit(&parent).unwrap();
    assert_eq!(accepted.fee, Amount::from_sat(500));
    assert_eq!(accepted.vsize, vsize(&parent));
    lab.takes(&spend(2, &[outpoint(&parent, 0)], &[COIN - 1_000]));
}

#[test]
fn it_has_inputs_and_outputs() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    transaction.input.clear();
    lab.refuses(&transaction, &Reject::NoInputs);
    let mut transaction = lab.pay(2, 500);
    transaction.output.clear();
    lab.refuses(&transaction, &Reject::NoOutputs);
}

#[test]
fn it_pays_out_no_more_than_it_takes_in() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    lab.refuses(&spend(2, &[coin], &[COIN + 1]), &Reject::BelowOut);
    let all = Amount::MAX_MONEY.to_sat();
    lab.refuses(&spend(2, &[coin], &[all, all]), &Reject::OutputsTooLarge);
}

#[test]
fn an_output_is_spent_once_in_a_transaction() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    lab.refuses(&spend(2, &[coin, coin], &[COIN]), &Reject::DuplicateInputs);
}

#[test]
fn a_coinbase_stands_in_blocks_only() {
    let lab = Lab::new();
    let block = lab.node.block(5).unwrap();
    lab.refuses(&block.txdata[0], &Reject::Coinbase);
}

#[test]
fn an_input_that_is_unknown_or_spent_is_missing() {
    let mut lab = Lab::new();
    let unknown = OutPoint::new(Txid::all_zeros(), 3);
    lab.refuses(&spend(2, &[unknown], &[500]), &Reject::MissingInputs);
    let coin = lab.coin();
    lab.takes(&spend(2, &[coin], &[COIN - 500]));
    lab.node.mine(&Mine::default());
    lab.refuses(&spend(2, &[coin], &[COIN - 900]), &Reject::MissingInputs);
}

#[test]
fn versions_1_to_3_are_standard() {
    let mut lab = Lab::new();
    for version in [0, 4] {
        let transaction = lab.pay(version, 500);
        lab.refuses(&transaction, &Reject::Version);
    }
    for version in [1, 2, 3] {
        let transaction = lab.pay(version, 500);
        lab.takes(&transaction);
    }
}

#[test]
fn four_hundred_thousand_weight_units_are_the_most() {
    let mut lab = Lab::new();
    // Bytes of outputs weigh four units each.
    let (lighter, heavier) = (with_data(lab.pay(2, 200_000), 99_800), with_data(lab.pay(2, 200_000), 99_900));
    assert!(lighter.weight() <= Weight::from_wu(400_000));
    lab.takes(&lighter);
    assert!(heavier.weight() > Weight::from_wu(400_000));
    lab.refuses(&heavier, &Reject::Weight);
}

#[test]
fn fewer_than_65_bytes_are_too_few() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    transaction.output[0].script_pubkey = ScriptBuf::new_p2a();
    assert_eq!(transaction.base_size(), 64);
    lab.refuses(&transaction, &Reject::TooSmall);
}

#[test]
fn outputs_have_a_standard_form() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    transaction.output[0].script_pubkey = free_script();
    lab.refuses(&transaction, &Reject::OutputScript);
}

#[test]
fn what_pays_less_than_a_tenth_of_a_satoshi_a_virtual_byte_is_not_relayed() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let needed = vsize(&spend(2, &[coin], &[1])).div_ceil(10);
    let short = spend(2, &[coin], &[COIN - needed + 1]);
    let (fee, needed_fee) = (Amount::from_sat(needed - 1), Amount::from_sat(needed));
    lab.refuses(&short, &Reject::MinRelayFee { fee, needed: needed_fee });
    lab.takes(&spend(2, &[coin], &[COIN - needed]));
}

#[test]
fn a_full_mempool_asks_for_more_and_drops_what_pays_less() {
    let mut lab = Lab::new();
    let (poor, rich) = (lab.pay(2, 200), lab.pay(2, 5_000));
    lab.takes(&poor);
    lab.takes(&rich);
    let child_of_poor = spend(2, &[outpoint(&poor, 0)], &[COIN - 400]);
    lab.takes(&child_of_poor);
    // 10 satoshi a virtual byte.
    let minimum = bitcoin::FeeRate::from_sat_per_kwu(2_500);
    lab.node.set_pressure(Pressure { minimum, ..Pressure::default() });
    assert_eq!(lab.node.mempool_txids(), [rich.compute_txid()]);
    let needed = Amount::from_sat(vsize(&poor) * 10);
    lab.refuses(&poor, &Reject::MempoolMinFee { fee: Amount::from_sat(200), needed });
    lab.node.set_pressure(Pressure::default());
    lab.takes(&poor);
}

#[test]
fn a_package_pays_what_a_full_mempool_asks_for_all_of_it() {
    let mut lab = Lab::new();
    let parent = lab.pay(2, 200);
    let minimum = bitcoin::FeeRate::from_sat_per_kwu(2_500);
    lab.node.set_pressure(Pressure { minimum, ..Pressure::default() });
    let size = vsize(&parent);
    let child = |fee: u64| spend(2, &[outpoint(&parent, 0)], &[COIN - 200 - fee]);
    // Enough for itself, but not for both.
    let outcome = lab.node.submit_package(&[&parent, &child(11 * size)]);
    let said = &outcome.transactions[&child(11 * size).compute_wtxid()];
    assert!(matches!(said, Outcome::Rejected(Reject::MempoolMinFee { .. })), "{said:?}");
    assert!(lab.node.mempool().is_empty());
    let outcome = lab.node.submit_package(&[&parent, &child(20 * size)]);
    assert_eq!(outcome.message, "success");
}

#[test]
fn a_lock_by_height_lets_it_into_the_block_after_that_height() {
    let mut lab = Lab::new();
    let height = lab.node.height();
    let mut transaction = lab.pay(2, 500);
    transaction.lock_time = LockTime::from_height(height + 1).unwrap();
    lab.refuses(&transaction, &Reject::NotFinal);
    transaction.lock_time = LockTime::from_height(height).unwrap();
    lab.takes(&transaction);
}

#[test]
fn a_lock_by_time_counts_the_median_of_the_last_blocks() {
    let mut lab = Lab::new();
    let height = lab.node.height();
    // The median of eleven blocks is the sixth's.
    let median = lab.node.block(height - 5).unwrap().header.time;
    let mut transaction = lab.pay(2, 500);
    transaction.lock_time = LockTime::from_time(median).unwrap();
    lab.refuses(&transaction, &Reject::NotFinal);
    transaction.lock_time = LockTime::from_time(median - 1).unwrap();
    lab.takes(&transaction);
}

#[test]
fn final_sequences_switch_the_lock_time_off() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    transaction.lock_time = LockTime::from_height(1_000_000).unwrap();
    transaction.input[0].sequence = Sequence::MAX;
    lab.takes(&transaction);
}

#[test]
fn a_relative_lock_counts_blocks_from_the_output_spent() {
    let mut lab = Lab::new();
    // The coins are in the tip: in the next block they are one block deep.
    let mut transaction = lab.pay(2, 500);
    transaction.input[0].sequence = Sequence::from_height(2);
    lab.refuses(&transaction, &Reject::SequenceLock);
    lab.node.mine(&Mine::default());
    lab.takes(&transaction);
    let mut child = spend(2, &[outpoint(&transaction, 0)], &[COIN - 1_000]);
    child.input[0].sequence = Sequence::from_height(1);
    lab.refuses(&child, &Reject::SequenceLock);
    child.input[0].sequence = Sequence::from_height(0);
    lab.takes(&child);
}

#[test]
fn a_relative_lock_by_time_counts_from_the_block_before_the_output() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    transaction.input[0].sequence = Sequence::from_512_second_intervals(4);
    lab.refuses(&transaction, &Reject::SequenceLock);
    for _ in 0..12 {
        lab.clock.advance_ms(600_000);
        lab.node.mine(&Mine::default());
    }
    lab.takes(&transaction);
}

#[test]
fn version_1_knows_no_relative_locks() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(1, 500);
    transaction.input[0].sequence = Sequence::from_height(2);
    lab.takes(&transaction);
}

#[test]
fn a_coinbase_is_spent_after_a_hundred_blocks() {
    let lab = Lab::new();
    lab.node.mine(&Mine { pays: Some(free()), ..Mine::default() });
    let coinbase = lab.node.block(lab.node.height()).unwrap().txdata[0].clone();
    let transaction = spend(2, &[outpoint(&coinbase, 0)], &[coinbase.output[0].value.to_sat() - 500]);
    lab.node.mine_blocks(98);
    lab.refuses(&transaction, &Reject::ImmatureCoinbase);
    lab.node.mine_blocks(1);
    lab.takes(&transaction);
}

#[test]
fn more_than_ten_thousand_satoshi_a_virtual_byte_are_a_slip() {
    let mut lab = Lab::new();
    let coins = [lab.coin(), lab.coin()];
    lab.refuses(&spend(2, &coins, &[1_000]), &Reject::MaxFeerate);
}

#[test]
fn one_dust_output_needs_a_zero_fee_and_two_are_too_many() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let mut transaction = spend(2, &[coin], &[COIN - 500]);
    transaction.output.push(pays(0, ScriptBuf::new_p2a()));
    lab.refuses(&transaction, &Reject::DustWithFee);
    transaction.output.push(pays(100, free()));
    lab.refuses(&transaction, &Reject::Dust);
}

#[test]
fn the_dust_limits_are_those_of_the_forms() {
    let limit =
        |script: ScriptBuf| (1..1_000).find(|value| !policy::is_dust(&pays(*value, script.clone()))).unwrap();
    let key = "02".to_owned() + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let key: bitcoin::PublicKey = key.parse().unwrap();
    assert_eq!(limit(ScriptBuf::new_p2wpkh(&key.wpubkey_hash().unwrap())), 294);
    assert_eq!(limit(free()), 330);
    assert_eq!(limit(ScriptBuf::new_p2pkh(&key.pubkey_hash())), 546);
    assert_eq!(limit(ScriptBuf::new_p2a()), 240);
}

#[test]
fn a_cluster_holds_64_transactions() {
    let mut lab = Lab::new();
    let root = lab.coin();
    let fanned = spend(2, &[root], &[15_000; 66]);
    lab.takes(&fanned);
    for vout in 0..63 {
        lab.takes(&spend(2, &[outpoint(&fanned, vout)], &[14_000]));
    }
    lab.refuses(&spend(2, &[outpoint(&fanned, 63)], &[14_000]), &Reject::TooLargeCluster);
    lab.node.mine(&Mine::default());
    lab.takes(&spend(2, &[outpoint(&fanned, 63)], &[14_000]));
}

#[test]
fn a_cluster_weighs_404_000_units_at_most() {
    let mut lab = Lab::new();
    let parent = with_data(lab.pay(2, 200_000), 99_000);
    lab.takes(&parent);
    let child = spend(2, &[outpoint(&parent, 0)], &[COIN - 300_000]);
    lab.refuses(&with_data(child.clone(), 2_000), &Reject::TooLargeCluster);
    lab.takes(&with_data(child, 1_000));
}

#[test]
fn the_same_transaction_is_known() {
    let mut lab = Lab::new();
    let mut transaction = lab.pay(2, 500);
    lab.takes(&transaction);
    lab.refuses(&transaction, &Reject::AlreadyInMempool);
    lab.node.mine(&Mine::default());
    lab.refuses(&transaction, &Reject::AlreadyKnown);
    // With another witness it has the same id.
    transaction = lab.pay(2, 500);
    lab.takes(&transaction);
    transaction.input[0].witness.push([]);
    lab.refuses(&transaction, &Reject::SameNonWitnessData);
}

//! Blocks, reorganisations and the faucet.

use bitcoin::{FeeRate, Weight};

use super::*;

#[test]
fn two_nodes_of_one_seed_are_equal_and_two_seeds_are_not() {
    let node = |seed| SimNode::new(Seed(seed), Clock::default());
    assert_eq!(node(5).tip(), node(5).tip());
    assert_ne!(node(5).tip(), node(6).tip());
    assert_eq!(
        node(5).block(0).unwrap().block_hash(),
        bitcoin::constants::genesis_block(Network::Regtest).block_hash()
    );
}

#[test]
fn blocks_are_what_nodes_agree_on() {
    let mut lab = Lab::new();
    let transaction = lab.pay(2, 500);
    lab.takes(&transaction);
    lab.node.mine(&Mine::default());
    let height = lab.node.height();
    let block = lab.node.block(height).unwrap();
    assert_eq!(block.header.validate_pow(block.header.target()), Ok(block.block_hash()));
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert_eq!(block.bip34_block_height(), Ok(u64::from(height)));
    assert_eq!(block.header.prev_blockhash, lab.node.block(height - 1).unwrap().block_hash());
    assert!(block.txdata.contains(&transaction));
    // Fifty bitcoin and the fee.
    assert_eq!(block.txdata[0].output[0].value, Amount::from_sat(5_000_000_500));
    assert_eq!(lab.node.fee_of(transaction.compute_txid()), Some(Amount::from_sat(500)));
}

#[test]
fn block_times_follow_the_clock_and_never_the_median() {
    let lab = Lab::new();
    lab.clock.advance_ms(3_600_000);
    lab.node.mine(&Mine::default());
    let time = |height| lab.node.block(height).unwrap().header.time;
    assert_eq!(u64::from(time(lab.node.height())), lab.clock.now_ms() / 1_000);
    for _ in 0..30 {
        lab.node.mine(&Mine::default());
        let height = lab.node.height();
        let mut last: Vec<u32> = (height - 11..height).map(time).collect();
        last.sort_unstable();
        assert!(time(height) > last[5]);
    }
}

#[test]
fn a_miner_takes_what_pays_best_while_there_is_room() {
    let mut lab = Lab::new();
    let (poor, middle, rich) = (lab.pay(2, 200), lab.pay(2, 2_000), lab.pay(2, 5_000));
    [&poor, &middle, &rich].into_iter().for_each(|one| lab.takes(one));
    let room = Weight::from_wu(rich.weight().to_wu() * 2);
    lab.node.mine(&Mine { weight_limit: room, ..Mine::default() });
    assert!(lab.confirmed(&rich) && lab.confirmed(&middle) && lab.holds(&poor));
    // 10 satoshi a virtual byte.
    lab.node.mine(&Mine { minimum: FeeRate::from_sat_per_kwu(2_500), ..Mine::default() });
    assert!(lab.holds(&poor));
    lab.node.mine(&Mine::default());
    assert!(lab.confirmed(&poor));
}

#[test]
fn a_poor_parent_is_mined_for_its_rich_child() {
    let mut lab = Lab::new();
    let (parent, other) = (lab.pay(2, 100), lab.pay(2, 1_000));
    let child = spend(2, &[outpoint(&parent, 0)], &[COIN - 10_000]);
    [&parent, &other, &child].into_iter().for_each(|one| lab.takes(one));
    let room = Weight::from_wu(parent.weight().to_wu() * 2);
    lab.node.mine(&Mine { weight_limit: room, ..Mine::default() });
    assert!(lab.confirmed(&parent) && lab.confirmed(&child) && lab.holds(&other));
}

#[test]
fn what_a_miner_censors_waits_with_all_that_depends_on_it() {
    let mut lab = Lab::new();
    let (parent, other) = (lab.pay(2, 500), lab.pay(2, 500));
    let child = spend(2, &[outpoint(&parent, 0)], &[COIN - 10_000]);
    [&parent, &other, &child].into_iter().for_each(|one| lab.takes(one));
    let censor = |transaction: &Transaction| transaction.compute_txid() == parent.compute_txid();
    lab.node.mine(&Mine { censor: Some(&censor), ..Mine::default() });
    assert!(lab.confirmed(&other) && lab.holds(&parent) && lab.holds(&child));
}

#[test]
fn a_block_takes_the_place_of_what_conflicts_with_it() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let waits = spend(2, &[coin], &[COIN - 5_000]);
    let child = spend(2, &[outpoint(&waits, 0)], &[COIN - 10_000]);
    [&waits, &child].into_iter().for_each(|one| lab.takes(one));
    let mined = spend(2, &[coin], &[COIN]);
    lab.node.mine(&Mine { include: vec![mined.clone()], ..Mine::nothing() });
    assert!(lab.confirmed(&mined));
    assert!(lab.node.mempool().is_empty());
}

#[test]
fn no_block_holds_what_consensus_forbids() {
    let mut lab = Lab::new();
    let (mut unsigned, mut locked) = (lab.pay(2, 500), lab.pay(2, 500));
    unsigned.input[0].witness.clear();
    locked.input[0].sequence = Sequence::from_height(10);
    let coin = lab.coin();
    let (first, second) = (spend(2, &[coin], &[COIN]), spend(2, &[coin], &[COIN - 1]));
    let include = vec![unsigned.clone(), locked.clone(), first.clone(), second.clone()];
    lab.node.mine(&Mine { include, ..Mine::default() });
    assert!(lab.confirmed(&first));
    assert!([&unsigned, &locked, &second].into_iter().all(|one| !lab.confirmed(one)));
}

#[test]
fn what_a_reorganisation_undoes_waits_again_with_what_depends_on_it() {
    let mut lab = Lab::new();
    let first = lab.pay(2, 500);
    let second = spend(2, &[outpoint(&first, 0)], &[COIN - 1_000]);
    let third = spend(2, &[outpoint(&second, 0)], &[COIN - 1_500]);
    lab.takes(&first);
    lab.node.mine(&Mine::default());
    lab.takes(&second);
    lab.node.mine(&Mine::default());
    lab.takes(&third);
    let (height, tip) = (lab.node.height(), lab.node.tip());
    let hashes = lab.node.reorganise(2, Keep::Return);
    assert_eq!(hashes.len(), 3);
    assert_eq!((lab.node.height(), lab.node.tip()), (height + 1, hashes[2]));
    assert!(!hashes.contains(&tip));
    assert!([&first, &second, &third].into_iter().all(|one| lab.holds(one)));
    lab.node.mine(&Mine::default());
    assert!([&first, &second, &third].into_iter().all(|one| lab.confirmed(one)));
}

#[test]
fn a_zero_fee_parent_returns_from_a_block_and_keeps_its_child() {
    let mut lab = Lab::new();
    let coins = [lab.coin(), lab.coin()];
    let mut parent = spend(3, &[coins[0]], &[COIN]);
    parent.output.push(pays(0, ScriptBuf::new_p2a()));
    let mut child = spend(3, &[outpoint(&parent, 1), coins[1]], &[COIN - 1_000]);
    child.input[0].witness.clear();
    lab.node.mine(&Mine { include: vec![parent.clone()], ..Mine::default() });
    lab.takes(&child);
    lab.node.reorganise(1, Keep::Return);
    assert!(lab.holds(&parent) && lab.holds(&child));
}

#[test]
fn a_reorganisation_can_hold_again_what_it_undid() {
    let mut lab = Lab::new();
    let first = lab.pay(2, 500);
    let second = spend(2, &[outpoint(&first, 0)], &[COIN - 1_000]);
    lab.takes(&first);
    lab.node.mine(&Mine::default());
    lab.takes(&second);
    lab.node.mine(&Mine::default());
    let height = lab.node.height();
    lab.node.reorganise(2, Keep::Again);
    for one in [&first, &second] {
        let whereabouts = lab.node.transaction(one.compute_txid());
        assert!(matches!(whereabouts, Whereabouts::Confirmed { height: at, .. } if at == height - 1));
    }
}

#[test]
fn what_a_reorganisation_drops_is_gone_with_what_depends_on_it() {
    let mut lab = Lab::new();
    let first = lab.pay(2, 500);
    lab.takes(&first);
    lab.node.mine(&Mine::default());
    let second = spend(2, &[outpoint(&first, 0)], &[COIN - 1_000]);
    lab.takes(&second);
    lab.node.reorganise(1, Keep::Drop);
    assert!(lab.node.mempool().is_empty());
    assert!(lab.node.utxo(first.input[0].previous_output).is_some(), "what it spent is there again");
    lab.takes(&first);
}

#[test]
fn a_conflict_in_the_new_chain_takes_the_place_of_what_was_undone() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let first = spend(2, &[coin], &[COIN - 500]);
    lab.takes(&first);
    lab.node.mine(&Mine::default());
    let rival = spend(2, &[coin], &[COIN - 100]);
    let how = Mine { include: vec![rival.clone()], ..Mine::nothing() };
    lab.node.reorganise_with(1, Keep::Return, &how);
    assert!(lab.confirmed(&rival));
    assert_eq!(lab.node.transaction(first.compute_txid()), Whereabouts::Nowhere);
    assert_eq!(lab.node.spender_of(coin), Some(rival.compute_txid()));
}

#[test]
fn what_is_locked_again_after_a_reorganisation_leaves_the_mempool() {
    let mut lab = Lab::new();
    let parent = lab.pay(2, 500);
    lab.takes(&parent);
    lab.node.mine_blocks(3);
    let mut child = spend(2, &[outpoint(&parent, 0)], &[COIN - 1_000]);
    child.input[0].sequence = Sequence::from_height(3);
    lab.takes(&child);
    lab.node.reorganise(3, Keep::Return);
    assert!(lab.holds(&parent) && !lab.holds(&child));
}

#[test]
fn coins_from_the_faucet_survive_reorganisations() {
    let lab = Lab::new();
    let script = ScriptBuf::from_hex("0014").map(|_| ScriptBuf::new_p2a()).unwrap();
    lab.node.fund(&script, Amount::from_sat(777));
    lab.node.mine(&Mine::default());
    let paid = || lab.node.unspent(|other| *other == *script);
    let before = paid();
    assert_eq!(before[0].output.value, Amount::from_sat(777));
    for keep in [Keep::Drop, Keep::Return, Keep::Again] {
        lab.node.reorganise(1, keep);
        assert_eq!(paid()[0].outpoint, before[0].outpoint);
    }
}

/// Eleven coinbases are ripe, and the payout needs all of them; on the other chain the last is not ripe at first.
#[test]
fn a_payout_waits_on_another_chain_until_its_coins_are_ripe_again() {
    let lab = Lab::new();
    let script = ScriptBuf::new_p2a();
    lab.node.mine_blocks(4);
    lab.node.fund(&script, Amount::from_sat(60_000_000_000));
    lab.node.mine(&Mine::default());
    lab.node.fund(&script, Amount::from_sat(777));
    lab.node.mine(&Mine::default());
    let paid = || lab.node.unspent(|other| *other == *script);
    let before: Vec<_> = paid().iter().map(|coin| coin.outpoint).collect();
    assert_eq!(before.len(), 2);
    lab.node.reorganise(6, Keep::Drop);
    lab.node.mine_blocks(2);
    let after: Vec<_> = paid().iter().map(|coin| coin.outpoint).collect();
    assert_eq!(after, before);
}

#[test]
fn the_faucet_pays_when_it_can() {
    let lab = Lab::new();
    let script = ScriptBuf::new_p2a();
    let much = Amount::from_sat(60_000_000_000);
    lab.node.fund(&script, much);
    lab.node.mine(&Mine::default());
    let paid = || lab.node.unspent(|other| *other == *script).len();
    assert_eq!(paid(), 0, "six hundred bitcoin are more than eleven ripe coinbases");
    lab.node.mine_blocks(3);
    assert_eq!(paid(), 1);
}

#[test]
fn the_first_blocks_stay() {
    let lab = Lab::new();
    let first = lab.node.block(FIRST_BLOCKS).unwrap().block_hash();
    lab.node.reorganise(500, Keep::Return);
    assert_eq!(lab.node.block(FIRST_BLOCKS).unwrap().block_hash(), first);
}

#[test]
fn a_node_that_forgot_its_mempool_takes_it_again() {
    let mut lab = Lab::new();
    let transaction = lab.pay(2, 500);
    lab.takes(&transaction);
    lab.node.forget_mempool();
    assert!(lab.node.mempool().is_empty());
    lab.takes(&transaction);
}

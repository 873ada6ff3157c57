//! The watcher over small blocks, and against a model that rescans the whole chain after each step.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, BlockHash, CompactTarget, Sequence, TxIn, TxMerkleNode, Witness};
use proptest::prelude::*;

use super::*;

fn script(tag: u8) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, tag])
}

/// A transaction that spends `spends` and pays to `pays`; the lock time makes it unique.
fn transaction(unique: u32, spends: &[OutPoint], pays: &[u8]) -> Transaction {
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::from_consensus(unique),
        input: spends
            .iter()
            .map(|outpoint| TxIn {
                previous_output: *outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            })
            .collect(),
        output: pays
            .iter()
            .map(|tag| TxOut { value: Amount::from_sat(1_000), script_pubkey: script(*tag) })
            .collect(),
    }
}

fn block(transactions: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata: transactions }
}

#[test]
fn one_block_can_confirm_spend_and_pay_at_once() {
    let funding = transaction(1, &[], &[7]);
    let txid = funding.compute_txid();
    let outpoint = OutPoint { txid, vout: 0 };
    let close = transaction(2, &[outpoint], &[8]);
    let close_txid = close.compute_txid();
    let mut watcher = Watcher::new(3);
    watcher.watch("channel", Target::Transaction(txid), []);
    watcher.watch("channel", Target::Spend(outpoint), []);
    watcher.watch("other", Target::Script(script(8)), []);
    let hits = watcher.connect(10, &block(vec![funding.clone(), close.clone()]));
    let by = Arc::new(close.clone());
    assert_eq!(
        hits,
        vec![
            Hit::Confirmed {
                key: "channel",
                transaction: Arc::new(funding),
                txid,
                height: 10,
                block_index: 0
            },
            Hit::Spent { key: "channel", outpoint, by, txid: close_txid, height: 10 },
            Hit::Paid {
                key: "other",
                outpoint: OutPoint { txid: close_txid, vout: 0 },
                output: close.output[0].clone(),
                height: 10
            },
        ]
    );
    let undone = watcher.disconnect(10);
    assert_eq!(undone.len(), 3);
    assert!(matches!(&undone[2], Hit::Undone { key: "channel", target: Target::Transaction(_), .. }));
    assert!(watcher.disconnect(10).is_empty(), "told once");
}

#[test]
fn depths_and_finality_are_told_in_time_and_again_after_a_reorganisation() {
    let funding = transaction(1, &[], &[]);
    let txid = funding.compute_txid();
    let target = Target::Transaction(txid);
    let mut watcher = Watcher::new(4);
    watcher.watch(1, target.clone(), [1, 3]);
    let deep = |depth| Hit::Deep { key: 1, target: target.clone(), txid, height: 5, depth };
    assert_eq!(watcher.connect(5, &block(vec![funding]))[1..], [deep(1)]);
    assert_eq!(watcher.connect(6, &block(vec![])), vec![]);
    assert_eq!(watcher.connect(7, &block(vec![])), vec![deep(3)]);
    assert_eq!(watcher.disconnect(7), vec![]);
    assert_eq!(watcher.connect(7, &block(vec![])), vec![deep(3)]);
    let last = Hit::Final { key: 1, target: target.clone(), txid, height: 5 };
    assert_eq!(watcher.connect(8, &block(vec![])), vec![last]);
    assert!(watcher.is_empty(), "what is final is forgotten");
}

#[test]
fn a_resumed_watch_goes_on_where_it_stopped() {
    let funding = transaction(1, &[], &[]);
    let txid = funding.compute_txid();
    let target = Target::Transaction(txid);
    let mut watcher = Watcher::new(3);
    watcher.resume(1, target.clone(), [2], txid, 5);
    watcher.resume(1, target.clone(), [2], txid, 5);
    assert_eq!(watcher.connect(6, &block(vec![])).len(), 1);
    assert_eq!(watcher.disconnect(5), vec![Hit::Undone { key: 1, target: target.clone(), txid, height: 5 }]);
    assert_eq!(watcher.connect(5, &block(vec![funding])).len(), 1, "still watched after it was undone");
}

#[test]
fn a_forgotten_key_hears_nothing_more() {
    let funding = transaction(1, &[], &[3]);
    let mut watcher = Watcher::new(3);
    watcher.watch(1, Target::Transaction(funding.compute_txid()), [2]);
    watcher.watch(1, Target::Script(script(3)), []);
    watcher.watch(2, Target::Script(script(3)), []);
    assert_eq!(watcher.connect(5, &block(vec![funding])).len(), 3);
    watcher.forget(&1);
    assert_eq!(watcher.len(), 1);
    assert_eq!(watcher.disconnect(5).len(), 1);
}

/// The same chain of events, told by looking at all blocks.
fn expected(chain: &[Block], watched: &[Target]) -> BTreeSet<(u32, Target, Txid)> {
    let mut finds = BTreeSet::new();
    for (height, block) in (0u32..).zip(chain) {
        for transaction in &block.txdata {
            let txid = transaction.compute_txid();
            let mut add = |target: Target| {
                if watched.contains(&target) {
                    finds.insert((height, target, txid));
                }
            };
            add(Target::Transaction(txid));
            transaction.input.iter().for_each(|input| add(Target::Spend(input.previous_output)));
            transaction.output.iter().for_each(|output| add(Target::Script(output.script_pubkey.clone())));
        }
    }
    finds
}

proptest! {
    #[test]
    fn what_is_told_and_not_undone_is_what_the_chain_holds(
        blocks in prop::collection::vec((prop::collection::vec(0u32..20, 0..4), 0usize..4), 1..40),
    ) {
        // Transaction n spends output 0 of transaction n - 1 and pays to script n.
        let mut transactions: Vec<Transaction> = Vec::new();
        for unique in 0..20u32 {
            let spends: Vec<OutPoint> = transactions
                .last()
                .map(|parent| OutPoint { txid: parent.compute_txid(), vout: 0 })
                .into_iter()
                .collect();
            transactions.push(transaction(unique, &spends, &[u8::try_from(unique).unwrap()]));
        }
        let mut watched = Vec::new();
        for (index, transaction) in transactions.iter().enumerate() {
            match index % 3 {
                0 => watched.push(Target::Transaction(transaction.compute_txid())),
                1 => watched.push(Target::Spend(OutPoint { txid: transaction.compute_txid(), vout: 0 })),
                _ => watched.push(Target::Script(script(u8::try_from(index).unwrap()))),
            }
        }
        let mut watcher = Watcher::new(1_000);
        watched.iter().for_each(|target| watcher.watch((), target.clone(), []));
        let mut chain: Vec<Block> = Vec::new();
        let mut told = BTreeSet::new();
        for (content, disconnects) in blocks {
            for _ in 0..disconnects.min(chain.len()) {
                chain.pop();
                for hit in watcher.disconnect(u32::try_from(chain.len()).unwrap()) {
                    let Hit::Undone { target, txid, height, .. } = hit else { panic!("{hit:?}") };
                    prop_assert!(told.remove(&(height, target, txid)));
                }
            }
            let content: BTreeSet<u32> = content.into_iter().collect();
            let next = block(content.iter().map(|n| transactions[*n as usize].clone()).collect());
            for hit in watcher.connect(u32::try_from(chain.len()).unwrap(), &next) {
                let find = match hit {
                    Hit::Confirmed { txid, height, .. } => (height, Target::Transaction(txid), txid),
                    Hit::Spent { outpoint, txid, height, .. } => (height, Target::Spend(outpoint), txid),
                    Hit::Paid { outpoint, output, height, .. } => {
                        (height, Target::Script(output.script_pubkey), outpoint.txid)
                    }
                    other => panic!("{other:?}"),
                };
                prop_assert!(told.insert(find));
            }
            chain.push(next);
            prop_assert_eq!(&told, &expected(&chain, &watched));
        }
    }
}

//! The on-chain wallet over blocks made here: records, reorganisations, locks, funding transactions.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    BlockHash, CompactTarget, FeeRate, NetworkKind, ScriptBuf, Sequence, TxIn, TxMerkleNode, Witness,
};

use super::*;
use crate::fees::FeeBounds;
use crate::limits;

fn genesis() -> BlockRef {
    BlockRef { height: 0, hash: bitcoin::constants::genesis_block(Network::Regtest).block_hash() }
}

fn config(addresses: AddressKind) -> OnchainConfig {
    let master = Xpriv::new_master(NetworkKind::Test, &[7; 32]).unwrap();
    OnchainConfig {
        network: Network::Regtest,
        master,
        addresses,
        address_gap: limits::ADDRESS_GAP,
        start: genesis(),
    }
}

/// The wallet, its journal and a chain of blocks.
struct Rig {
    wallet: OnchainWallet,
    config: OnchainConfig,
    journal: Vec<Vec<u8>>,
    salt: u32,
}

impl Rig {
    fn new(addresses: AddressKind) -> Self {
        let config = config(addresses);
        let wallet = OnchainWallet::create(config.clone()).unwrap();
        let mut rig = Self { wallet, config, journal: Vec::new(), salt: 0 };
        rig.journal();
        rig
    }

    fn journal(&mut self) {
        self.journal.extend(self.wallet.take_staged());
    }

    /// What the wallet counts is what one counts that reads all its records anew.
    fn assert_counts(&self) {
        let loaded = OnchainWallet::load(self.config.clone(), &self.journal).unwrap();
        let unspent = |wallet: &OnchainWallet| -> Vec<OutPoint> {
            wallet.coins().into_iter().map(|coin| coin.outpoint).collect()
        };
        assert_eq!(unspent(&self.wallet), unspent(&loaded));
        let known = |wallet: &OnchainWallet| -> BTreeMap<Txid, Option<u32>> {
            let heights = wallet.wallet.known().iter();
            heights.map(|known| (known.txid, known.position.confirmation_height_upper_bound())).collect()
        };
        assert_eq!(known(&self.wallet), known(&loaded));
    }

    /// Kills the wallet and loads what it journaled.
    fn restart(&mut self) {
        let (tip, balance, coins) = (self.wallet.tip(), self.wallet.balance(), self.wallet.coins());
        self.wallet = OnchainWallet::load(self.config.clone(), &self.journal).unwrap();
        assert_eq!((self.wallet.tip(), self.wallet.balance()), (tip, balance));
        assert_eq!(self.wallet.coins(), coins);
        assert!(self.wallet.take_staged().is_none(), "loading changes nothing");
    }

    fn block(&mut self, transactions: Vec<Transaction>) -> Block {
        self.salt += 1;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.wallet.tip().hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        Block { header, txdata: transactions }
    }

    fn mine(&mut self, transactions: Vec<Transaction>) -> BlockRef {
        let changes = !transactions.is_empty();
        let block = self.block(transactions);
        self.wallet.connect(self.wallet.tip().height + 1, &block).unwrap();
        self.journal();
        if changes {
            self.assert_counts();
        }
        self.wallet.tip()
    }

    /// A stranger's payment to a new address, not in a block yet.
    fn payment(&mut self, sat: u64) -> Transaction {
        self.salt += 1;
        let script_pubkey = self.wallet.new_address().script_pubkey();
        let mut previous = [9; 32];
        previous[..4].copy_from_slice(&self.salt.to_be_bytes());
        Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: Txid::from_byte_array(previous), vout: 0 },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey }],
        }
    }

    fn receive(&mut self, sat: u64) {
        let payment = self.payment(sat);
        self.mine(vec![payment]);
    }

    fn build(&mut self, sat: u64, seed: u8) -> Result<BuiltFunding, OnchainError> {
        let outputs = [channel_output(sat)];
        let built = self.wallet.build_funding(&request(&outputs, seed));
        self.journal();
        self.assert_counts();
        built
    }
}

fn channel_output(sat: u64) -> TxOut {
    let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([5; 32]));
    TxOut { value: Amount::from_sat(sat), script_pubkey: script }
}

fn request(outputs: &[TxOut], seed: u8) -> FundingRequest<'_> {
    FundingRequest {
        outputs,
        feerate: FeeRate::from_sat_per_kwu(500),
        fees: FeeBounds::default(),
        coins: CoinChoice::ConfirmedOrOwnChange,
        randomness: [seed; 32],
    }
}

fn sat(amount: Amount) -> u64 {
    amount.to_sat()
}

/// Bitcoin's own interpreter accepts every input.
fn assert_consensus(wallet: &OnchainWallet, transaction: &Transaction) {
    let raw = serialize(transaction);
    let outputs: Vec<TxOut> =
        transaction.input.iter().map(|input| wallet.output(input.previous_output).unwrap()).collect();
    let utxos: Vec<bitcoinconsensus::Utxo> = outputs
        .iter()
        .map(|output| bitcoinconsensus::Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).unwrap(),
            value: i64::try_from(output.value.to_sat()).unwrap(),
        })
        .collect();
    for (index, output) in outputs.iter().enumerate() {
        bitcoinconsensus::verify_with_flags(
            output.script_pubkey.as_bytes(),
            output.value.to_sat(),
            &raw,
            Some(&utxos),
            index,
            bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT,
        )
        .unwrap();
    }
}

#[test]
fn a_funding_transaction_of_either_kind_passes_bitcoins_own_interpreter() {
    for addresses in [AddressKind::P2wpkh, AddressKind::P2tr] {
        let mut rig = Rig::new(addresses);
        rig.receive(30_000);
        rig.receive(40_000);
        let built = rig.build(60_000, 1).unwrap();
        assert_consensus(&rig.wallet, built.funding.transaction());
        assert!(built.funding.position_of(&channel_output(60_000)).is_some());
        assert_eq!(built.locked.len(), 2);
        let feerate = built.funding.fee() / built.funding.transaction().weight();
        assert!(feerate >= FeeRate::from_sat_per_kwu(499), "{feerate}");
    }
}

#[test]
fn the_same_randomness_builds_the_same_transaction() {
    let build = |seed| {
        let mut rig = Rig::new(AddressKind::P2tr);
        (0..10).for_each(|_| rig.receive(30_000));
        rig.build(100_000, seed).unwrap().funding
    };
    assert_eq!(build(1), build(1));
}

#[test]
fn locked_coins_are_not_chosen_again_until_released() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(100_000);
    let first = rig.build(50_000, 1).unwrap();
    assert_eq!(sat(rig.wallet.balance().locked), 100_000);
    rig.restart();
    let error = rig.build(50_000, 2).unwrap_err();
    assert!(matches!(error, OnchainError::NotEnough { .. }), "{error}");
    rig.wallet.release(first.funding.transaction(), 10);
    rig.journal();
    rig.restart();
    assert_eq!(sat(rig.wallet.balance().confirmed), 100_000);
    rig.build(50_000, 3).unwrap();
}

#[test]
fn own_change_is_spent_before_it_confirms_but_a_strangers_payment_is_not() {
    let mut rig = Rig::new(AddressKind::P2tr);
    rig.receive(100_000);
    let payment = rig.payment(500_000);
    rig.wallet.record_unconfirmed(&payment, 5);
    let first = rig.build(20_000, 1).unwrap();
    rig.wallet.record_unconfirmed(first.funding.transaction(), 5);
    rig.journal();
    rig.restart();
    let balance = rig.wallet.balance();
    let change = 80_000 - sat(first.funding.fee());
    assert_eq!(sat(balance.unconfirmed), 500_000 + change);
    assert_eq!(sat(rig.wallet.spendable(CoinChoice::ConfirmedOrOwnChange)), change);
    assert_eq!(sat(rig.wallet.spendable(CoinChoice::Confirmed)), 0);
    let second = rig.build(20_000, 2).unwrap();
    assert_eq!(second.locked[0].txid, first.funding.txid());
    rig.wallet.release(second.funding.transaction(), 6);
    let too_much = rig.build(90_000, 3).unwrap_err();
    assert!(matches!(too_much, OnchainError::NotEnough { .. }));
    rig.mine(vec![first.funding.transaction().clone(), payment]);
    assert_eq!(sat(rig.wallet.balance().confirmed), 580_000 - sat(first.funding.fee()));
    assert_eq!(rig.wallet.wallet.list_locked_outpoints().count(), 0, "spent coins need no lock");
}

#[test]
fn a_long_chain_of_unconfirmed_transactions_is_not_made_longer() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(10_000_000);
    let mut built = 0u8;
    while let Ok(funding) = rig.build(20_000, built) {
        rig.wallet.record_unconfirmed(funding.funding.transaction(), 5);
        built += 1;
    }
    assert_eq!(usize::from(built), limits::MAX_UNCONFIRMED_CHAIN);
    rig.receive(30_000);
    rig.build(20_000, 99).unwrap();
}

#[test]
fn a_reorganisation_undoes_and_redoes_what_a_block_did() {
    let mut rig = Rig::new(AddressKind::P2tr);
    rig.receive(100_000);
    let before = rig.wallet.tip();
    let payment = rig.payment(7_000);
    let stale = rig.mine(vec![payment.clone()]);
    assert_eq!(sat(rig.wallet.balance().confirmed), 107_000);
    assert_eq!(
        rig.wallet.disconnect(before),
        Err(OnchainError::Chain { tip: stale, got: before }),
        "only the tip is disconnected"
    );
    rig.wallet.disconnect(stale).unwrap();
    rig.journal();
    rig.restart();
    assert_eq!(rig.wallet.tip(), before);
    assert_eq!(sat(rig.wallet.balance().confirmed), 100_000);
    assert_eq!(sat(rig.wallet.balance().unconfirmed), 7_000, "it may come back");
    rig.mine(vec![]);
    rig.mine(vec![payment]);
    rig.restart();
    assert_eq!(sat(rig.wallet.balance().confirmed), 107_000);
}

#[test]
fn the_very_block_that_a_reorganisation_took_counts_again_when_it_is_back() {
    let mut rig = Rig::new(AddressKind::P2tr);
    let payment = rig.payment(7_000);
    let block = rig.block(vec![payment]);
    let height = rig.wallet.tip().height + 1;
    rig.wallet.connect(height, &block).unwrap();
    rig.wallet.disconnect(rig.wallet.tip()).unwrap();
    assert_eq!(sat(rig.wallet.balance().unconfirmed), 7_000);
    rig.wallet.connect(height, &block).unwrap();
    rig.journal();
    assert_eq!(sat(rig.wallet.balance().confirmed), 7_000);
    rig.assert_counts();
}

/// Nothing of a stranger's transaction is ours, but that ours can never be in the chain again.
#[test]
fn a_strangers_transaction_is_known_as_long_as_the_one_of_ours_that_it_has_beaten() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(100_000);
    let coin = rig.wallet.coins()[0].outpoint;
    let mut ours = rig.payment(90_000);
    let mut strangers = ours.clone();
    ours.input.push(TxIn { previous_output: coin, ..ours.input[0].clone() });
    strangers.output[0].script_pubkey = channel_output(1).script_pubkey;
    let stale = rig.mine(vec![ours.clone()]);
    rig.wallet.disconnect(stale).unwrap();
    assert_eq!(sat(rig.wallet.balance().unconfirmed), 90_000);
    rig.mine(vec![strangers]);
    assert_eq!(sat(rig.wallet.balance().confirmed), 100_000, "what ours spent is free");
    for _ in 0..limits::ONCHAIN_CHECKPOINTS + 50 {
        rig.mine(vec![]);
    }
    rig.wallet.release(&ours, u64::from(rig.salt));
    rig.journal = vec![rig.wallet.snapshot()];
    rig.restart();
    assert_eq!(sat(rig.wallet.balance().confirmed), 100_000);
    assert_eq!(sat(rig.wallet.balance().unconfirmed), 0);
}

#[test]
fn a_snapshot_replaces_the_records_before_it() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(100_000);
    for _ in 0..limits::ONCHAIN_CHECKPOINTS + 50 {
        rig.mine(vec![]);
    }
    let built = rig.build(50_000, 1).unwrap();
    let whole: usize = rig.journal.iter().map(Vec::len).sum();
    rig.journal = vec![rig.wallet.snapshot()];
    assert!(rig.journal[0].len() < whole);
    rig.restart();
    rig.wallet.record_unconfirmed(built.funding.transaction(), 5);
    rig.journal();
    rig.mine(vec![built.funding.transaction().clone()]);
    rig.restart();
    assert_eq!(sat(rig.wallet.balance().confirmed), 50_000 - sat(built.funding.fee()));
}

#[test]
fn snapshots_do_not_grow_with_what_was_spent_long_ago_and_lose_nothing_else() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(1_000_000);
    let untouched = rig.payment(7_000);
    rig.mine(vec![untouched]);
    let (mut sizes, mut scripts, mut left) = (Vec::new(), BTreeSet::new(), 1_007_000);
    for round in 0..3 {
        let now = 10 + round * (limits::ONCHAIN_HISTORY_SECONDS + 1);
        for seed in 0..20 {
            // One that came to nothing, and one that is mined.
            let rival = rig.build(9_000, seed).unwrap().funding;
            rig.wallet.record_unconfirmed(rival.transaction(), now);
            rig.wallet.release(rival.transaction(), now);
            let built = rig.build(10_000, seed).unwrap().funding;
            rig.wallet.record_unconfirmed(built.transaction(), now);
            let ours = |output: &&TxOut| rig.wallet.is_ours(&output.script_pubkey);
            let change = built.transaction().output.iter().find(ours).unwrap();
            left -= 10_000 + sat(built.fee());
            assert!(scripts.insert(change.script_pubkey.clone()), "no address is used twice");
            rig.mine(vec![built.transaction().clone()]);
        }
        for _ in 0..limits::ONCHAIN_CHECKPOINTS {
            rig.mine(vec![]);
        }
        let snapshot = rig.wallet.snapshot();
        sizes.push(snapshot.len());
        rig.journal = vec![snapshot];
        rig.restart();
        assert_eq!(rig.wallet.snapshot(), rig.journal[0], "pruning twice is pruning once");
    }
    assert_eq!(sat(rig.wallet.balance().confirmed), left);
    assert!(sizes[2] < sizes[1] + 500, "{sizes:?}");
}

#[test]
fn a_coin_spent_by_what_is_forgotten_never_comes_back() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    // Two coins in one transaction: one is never touched and keeps it in the books.
    let (mut split, other) = (rig.payment(50_000), rig.payment(30_000));
    split.output.extend(other.output);
    rig.mine(vec![split]);
    let mut sizes = Vec::new();
    for round in 0..4 {
        let built = rig.build(5_000, round).unwrap().funding;
        rig.wallet.record_unconfirmed(built.transaction(), 5);
        rig.mine(vec![built.transaction().clone()]);
        for _ in 0..=limits::ONCHAIN_CHECKPOINTS {
            rig.mine(vec![]);
        }
        let snapshot = rig.wallet.snapshot();
        sizes.push(snapshot.len());
        rig.journal = vec![snapshot];
        rig.restart();
    }
    assert!(sizes[3] < sizes[1] + 200, "{sizes:?}");
    let coins = rig.wallet.coins();
    assert_eq!(coins.len(), 2, "{coins:?}");
    let spendable = rig.wallet.spendable(CoinChoice::Confirmed);
    let built = rig.wallet.build_funding(&request(&[channel_output(sat(spendable) - 2_000)], 9)).unwrap();
    let known: BTreeSet<OutPoint> = coins.iter().map(|coin| coin.outpoint).collect();
    assert!(built.locked.iter().all(|coin| known.contains(coin)));
    assert!(matches!(rig.build(1_000, 1), Err(OnchainError::NotEnough { .. })));
}

#[test]
fn a_coin_that_is_spent_but_not_deep_stays_known_with_all_that_led_to_it() {
    let mut rig = Rig::new(AddressKind::P2tr);
    rig.receive(100_000);
    let first = rig.build(10_000, 1).unwrap().funding;
    rig.wallet.record_unconfirmed(first.transaction(), 5);
    rig.mine(vec![first.transaction().clone()]);
    for _ in 0..limits::ONCHAIN_CHECKPOINTS {
        rig.mine(vec![]);
    }
    let second = rig.build(20_000, 2).unwrap().funding;
    rig.wallet.record_unconfirmed(second.transaction(), 6);
    let tip = rig.mine(vec![second.transaction().clone()]);
    rig.journal = vec![rig.wallet.snapshot()];
    rig.restart();
    rig.wallet.disconnect(tip).unwrap();
    rig.journal();
    rig.restart();
    let outputs = [channel_output(20_000)];
    let again = rig.wallet.verify_funding(second.transaction().clone(), &outputs, FeeBounds::default());
    assert_eq!(again, Ok(second.clone()), "the coin that it spends is known still");
    // Undone and replaced: the coin is there again, and nothing that was spent before it.
    rig.wallet.release(second.transaction(), 7);
    rig.journal();
    assert_eq!(sat(rig.wallet.balance().confirmed), 90_000 - sat(first.fee()));
}

#[test]
fn a_stored_funding_transaction_is_verified_again_after_a_restart() {
    let mut rig = Rig::new(AddressKind::P2tr);
    rig.receive(100_000);
    let built = rig.build(50_000, 1).unwrap().funding;
    rig.restart();
    let outputs = [channel_output(50_000)];
    let again =
        rig.wallet.verify_funding(built.transaction().clone(), &outputs, FeeBounds::default()).unwrap();
    assert_eq!(again, built);
}

#[test]
fn coinbase_outputs_wait_until_they_are_mature() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    let mut coinbase = rig.payment(50_000);
    coinbase.input[0].previous_output = OutPoint::null();
    rig.mine(vec![coinbase]);
    assert_eq!(sat(rig.wallet.balance().immature), 50_000);
    assert!(matches!(rig.build(20_000, 1), Err(OnchainError::NotEnough { .. })));
    (0..99).for_each(|_| {
        rig.mine(vec![]);
    });
    assert_eq!(sat(rig.wallet.balance().confirmed), 50_000);
    rig.build(20_000, 1).unwrap();
}

#[test]
fn impossible_requests_are_refused_by_name() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    rig.receive(100_000);
    assert!(matches!(rig.build(100, 1), Err(OnchainError::Dust { index: 0, .. })));
    assert_eq!(rig.wallet.build_funding(&request(&[], 1)), Err(OnchainError::NoOutputs));
    assert!(matches!(rig.build(99_999, 1), Err(OnchainError::NotEnough { .. })));
    assert_eq!(sat(rig.wallet.balance().locked), 0);
}

#[test]
fn records_of_another_wallet_are_refused() {
    let rig = Rig::new(AddressKind::P2wpkh);
    let load = |config: OnchainConfig, records: &[Vec<u8>]| OnchainWallet::load(config, records).map(|_| ());
    let mut other = config(AddressKind::P2wpkh);
    other.master = Xpriv::new_master(NetworkKind::Test, &[8; 32]).unwrap();
    assert!(matches!(load(other, &rig.journal), Err(OnchainError::Mismatch { .. })));
    assert!(matches!(load(config(AddressKind::P2tr), &rig.journal), Err(OnchainError::Mismatch { .. })));
    let mut signet = config(AddressKind::P2wpkh);
    signet.network = Network::Signet;
    assert!(matches!(load(signet, &rig.journal), Err(OnchainError::Mismatch { .. })));
    let own = config(AddressKind::P2wpkh);
    assert!(matches!(load(own.clone(), &[]), Err(OnchainError::Record { .. })));
    assert!(matches!(load(own.clone(), &[vec![9]]), Err(OnchainError::Record { .. })));
    assert!(matches!(load(own, &[vec![]]), Err(OnchainError::Record { .. })));
}

#[test]
fn a_wallet_may_start_above_the_genesis_block() {
    let start = BlockRef { height: 500, hash: BlockHash::from_byte_array([3; 32]) };
    let config = OnchainConfig { start, ..config(AddressKind::P2tr) };
    let wallet = OnchainWallet::create(config.clone()).unwrap();
    let mut rig = Rig { wallet, config, journal: Vec::new(), salt: 0 };
    rig.journal();
    assert_eq!(rig.wallet.tip(), start);
    rig.receive(1_000);
    rig.restart();
    assert_eq!(rig.wallet.tip().height, 501);
}

#[test]
fn a_wallet_with_nothing_but_its_seed_finds_coins_beyond_many_unused_addresses() {
    let mut rig = Rig::new(AddressKind::P2wpkh);
    for _ in 0..150 {
        rig.wallet.new_address();
    }
    let payment = rig.payment(70_000);
    let mut restored = Rig::new(AddressKind::P2wpkh);
    restored.mine(vec![payment]);
    assert_eq!(sat(restored.wallet.balance().confirmed), 70_000);
    let fresh = restored.wallet.new_address();
    assert_eq!(fresh, rig.wallet.new_address(), "no address is given out again");
}

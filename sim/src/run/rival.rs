//! An opener who spends the coins of its funding twice.
//!
//! A reorganisation takes the funding out of the chain, and the miner puts a rival of it in its place. Both know it in the
//! end: the channel never was.

use bitcoin::{Amount, FeeRate, Network, OutPoint, Transaction, TxOut};
use channel::seed_signer::SeedSigner;
use proto::hub::v1 as pb;
use proto::hub::v1::operator_server::Operator;
use settlement::fees::FeeBounds;
use settlement::follow::BlockRef;
use settlement::onchain::{AddressKind, CoinChoice, FundingRequest, OnchainConfig, OnchainWallet};
use tonic::Request;

use super::Run;
use crate::audit::Broken;
use crate::chain::{Keep, Mine, SimNode};

/// As deep as it goes: below the final depth of hub and wallets.
const DEPTH: (u64, u64) = (1, 5);
/// Safely above the least that wallets may pay: a miner takes it in any case.
const FEERATE: FeeRate = FeeRate::from_sat_per_kwu(500);
/// What is left for fees.
const FEES: Amount = Amount::from_sat(20_000);

impl Run {
    /// A hostile wallet and a miner take back what it put into its last channels.
    pub(super) fn spend_a_funding_twice(&mut self) -> Result<(), Broken> {
        let Some(number) = self.somebody_hostile() else { return Ok(()) };
        let depth = u32::try_from(self.odd_chance().within(DEPTH.0, DEPTH.1)).unwrap_or(1);
        self.take_back(number, depth).map(|_| ())
    }

    /// Whatever it put into channels in so many blocks is its own again. False if that was nothing.
    pub(super) fn take_back(&mut self, number: usize, depth: u32) -> Result<bool, Broken> {
        let seed = self.wallets[number].setup.seed;
        let randomness = self.odd_chance().bytes();
        let Some(rival) = rival(&self.node, &seed, depth, randomness) else { return Ok(false) };
        let node_key = self.wallets[number].setup.node_id().as_bytes().to_vec();
        let listed = self.ask_operator(|operator| async move {
            operator.list_channels(Request::new(pb::ListChannelsRequest::default())).await
        })?;
        let of_wallet = listed.map(|listed| listed.channels).unwrap_or_default().into_iter();
        let of_wallet = of_wallet.filter(|channel| channel.node_key == node_key && !channel.funded_locally);
        // Nobody protects a hub from a chain that undoes more blocks than it waited for.
        self.lost.robbed_sat += of_wallet.map(|channel| channel.capacity_sat).sum::<u64>();
        self.note("cheats", format_args!("wallet {number} spends its coins again, {depth} blocks deep"));
        let how = Mine { include: vec![rival], ..Mine::nothing() };
        self.node.reorganise_with(depth, Keep::Drop, &how);
        self.counts.reorgs += 1;
        Ok(true)
    }
}

/// Spends everything that the wallet had so many blocks ago, to itself.
fn rival(node: &SimNode, seed: &[u8; 64], depth: u32, randomness: [u8; 32]) -> Option<Transaction> {
    let network = Network::Regtest;
    let genesis = bitcoin::constants::genesis_block(network).block_hash();
    let config = OnchainConfig {
        network,
        master: SeedSigner::new(seed).onchain_master(network),
        addresses: AddressKind::P2wpkh,
        address_gap: *settlement::limits::ADDRESS_GAPS.start(),
        start: BlockRef { height: 0, hash: genesis },
    };
    let mut wallet = OnchainWallet::create(config).ok()?;
    for (height, block) in node.blocks_from(1) {
        if height + depth > node.height() {
            break;
        }
        wallet.connect(height, &block).ok()?;
    }
    let all = wallet.spendable(CoinChoice::Confirmed).checked_sub(FEES)?;
    let outputs = [TxOut { value: all, script_pubkey: wallet.change_script() }];
    let request = FundingRequest {
        outputs: &outputs,
        feerate: FEERATE,
        coins: CoinChoice::Confirmed,
        fees: FeeBounds::default(),
        randomness,
    };
    let rival = wallet.build_funding(&request).ok()?.funding.transaction().clone();
    // It is one only if a block has spent the same coins since.
    let spent = |outpoint: OutPoint| node.spender_of(outpoint).is_some();
    rival.input.iter().any(|input| spent(input.previous_output)).then_some(rival)
}

//! Tickets, coins and batches for the tests of this crate.
#![allow(dead_code)] // Each test file uses a part.

pub mod onchain;
pub mod pair;
pub mod rig;
pub mod settling;

use std::collections::BTreeMap;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Amount, EcdsaSighashType, FeeRate, OutPoint, ScriptBuf, TapSighashType, Transaction, TxOut, Txid,
    WPubkeyHash, Witness, ecdsa, taproot,
};
use channel::amount::Msat;
use channel::bytes::KeyId;
use channel::closing::TicketSpec;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use secp256k1::SECP256K1;
use settlement::batch::{BatchRequest, BatchTicket, CoinSigner, Unconfirmed, merge};
use settlement::fees::FeeBounds;
use settlement::onchain::OnchainError;
use settlement::verify::{BatchCoin, BatchJob, CloseJob};

pub fn hub() -> SeedSigner {
    SeedSigner::new(&[1; 64])
}

pub fn wallet() -> SeedSigner {
    SeedSigner::new(&[2; 64])
}

pub fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

/// What differs between one ticket and another.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub funding_sat: u64,
    pub balance_msat: u64,
    pub fee_sat: u64,
}

pub fn outpoint(number: u32) -> OutPoint {
    let mut txid = [0xaa; 32];
    txid[..4].copy_from_slice(&number.to_be_bytes());
    OutPoint { txid: Txid::from_byte_array(txid), vout: number % 3 }
}

pub fn wallet_script(number: u32) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&number.to_be_bytes()))
}

/// The signed ticket of channel `number`.
pub fn ticket(number: u32, shape: Shape) -> BatchTicket {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let key_id = KeyId::from_bytes(id);
    let spec = TicketSpec {
        funding_outpoint: outpoint(number),
        funding_amount: sat(shape.funding_sat),
        wallet_key: wallet().channel_public_keys(&key_id).funding,
        hub_key: hub().channel_public_keys(&key_id).funding,
        wallet_balance: Msat::new(shape.balance_msat).unwrap(),
        fee: sat(shape.fee_sat),
        dust_limit: sat(354),
        wallet_script: wallet_script(number),
    };
    let signature = wallet().sign_ticket(&key_id, &spec).unwrap();
    BatchTicket { key_id, spec, signature, spent_by: None }
}

/// Coins of one key, half of them P2WPKH and half P2TR.
pub struct KeyCoins {
    key: Keypair,
}

impl KeyCoins {
    pub fn new() -> Self {
        Self { key: Keypair::from_seckey_slice(SECP256K1, &[9; 32]).unwrap() }
    }

    pub fn p2wpkh(&self, number: u32, value: u64) -> BatchCoin {
        let hash = WPubkeyHash::hash(&self.key.public_key().serialize());
        let script_pubkey = ScriptBuf::new_p2wpkh(&hash);
        BatchCoin {
            outpoint: outpoint(1_000_000 + number),
            output: TxOut { value: sat(value), script_pubkey },
        }
    }

    pub fn p2tr(&self, number: u32, value: u64) -> BatchCoin {
        let script_pubkey = ScriptBuf::new_p2tr(SECP256K1, self.key.x_only_public_key().0, None);
        BatchCoin {
            outpoint: outpoint(2_000_000 + number),
            output: TxOut { value: sat(value), script_pubkey },
        }
    }
}

impl CoinSigner for KeyCoins {
    fn sign_coins(
        &self,
        transaction: &Transaction,
        prevouts: &[TxOut],
    ) -> Result<Vec<(usize, Witness)>, OnchainError> {
        let mut cache = SighashCache::new(transaction);
        let mut signed = Vec::new();
        for (index, coin) in prevouts.iter().enumerate() {
            if coin.script_pubkey.is_p2tr() {
                let sighash_type = TapSighashType::Default;
                let sighash = cache
                    .taproot_key_spend_signature_hash(index, &Prevouts::All(prevouts), sighash_type)
                    .unwrap();
                let message = Message::from_digest(sighash.to_byte_array());
                let key = self.key.tap_tweak(SECP256K1, None).to_keypair();
                let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &key);
                signed
                    .push((index, Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type })));
            } else if coin.script_pubkey.is_p2wpkh() {
                let sighash_type = EcdsaSighashType::All;
                let sighash = cache
                    .p2wpkh_signature_hash(index, &coin.script_pubkey, coin.value, sighash_type)
                    .unwrap();
                let message = Message::from_digest(sighash.to_byte_array());
                let signature = SECP256K1.sign_ecdsa(&message, &self.key.secret_key());
                let signature = ecdsa::Signature { signature, sighash_type };
                signed.push((index, Witness::p2wpkh(&signature, &self.key.public_key())));
            }
        }
        Ok(signed)
    }
}

pub fn hub_script() -> ScriptBuf {
    KeyCoins::new().p2tr(0, 0).output.script_pubkey
}

/// The default request: 2 sat/vB, no coins, nothing replaced.
pub fn request<'a>(
    tickets: &'a [BatchTicket],
    coins: &'a [BatchCoin],
    unconfirmed: &'a BTreeMap<Txid, Unconfirmed>,
    hub_script: &'a ScriptBuf,
) -> BatchRequest<'a> {
    BatchRequest {
        tickets,
        unconfirmed,
        coins,
        hub_script,
        feerate: FeeRate::from_sat_per_kwu(500),
        incremental: FeeRate::from_sat_per_kwu(25),
        fees: FeeBounds::default(),
        max_hub_fee: sat(10_000_000),
    }
}

pub fn batch_job(job: &CloseJob) -> &BatchJob {
    match job {
        CloseJob::Batch(job) => job,
        CloseJob::Unilateral(_) | CloseJob::Claim(_) | CloseJob::Bump(_) => panic!("not a batch"),
    }
}

/// The outputs that a batch spends, in the order of its inputs.
pub fn spent_outputs(job: &BatchJob) -> Vec<TxOut> {
    let tickets = job.tickets.iter().map(TicketSpec::spent_output);
    tickets.chain(job.coins.iter().map(|coin| coin.output.clone())).collect()
}

/// Whether Bitcoin's own script interpreter accepts every input.
pub fn interpreter_accepts(transaction: &Transaction, spent: &[TxOut]) -> bool {
    let raw = serialize(transaction);
    let utxos: Vec<bitcoinconsensus::Utxo> = spent
        .iter()
        .map(|output| bitcoinconsensus::Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).unwrap(),
            value: i64::try_from(output.value.to_sat()).unwrap(),
        })
        .collect();
    let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;
    transaction.input.len() == spent.len()
        && spent.iter().enumerate().all(|(index, output)| {
            let script = output.script_pubkey.as_bytes();
            let value = output.value.to_sat();
            bitcoinconsensus::verify_with_flags(script, value, &raw, Some(&utxos), index, flags).is_ok()
        })
}

/// The place of the input that spends the hub's coin, of the ticket without a payout, and of the hub's output.
pub const COIN: usize = 4;
pub const LONE: usize = 3;
pub const HUB_OUTPUT: usize = 3;

/// Channels 0 to 2 with a payout, channel 3 without, one coin of the hub's, one output for the hub.
pub fn fixture_tickets() -> Vec<BatchTicket> {
    let full = Shape { funding_sat: 100_000, balance_msat: 100_000_000, fee_sat: 100 };
    let lone = Shape { funding_sat: 1_000, balance_msat: 200_000, fee_sat: 100 };
    vec![ticket(0, full), ticket(1, full), ticket(2, full), ticket(3, lone)]
}

pub fn valid(coin: BatchCoin) -> BatchJob {
    let (tickets, coins, script, none) = (fixture_tickets(), [coin], hub_script(), BTreeMap::new());
    let mut request = request(&tickets, &coins, &none, &script);
    request.feerate = FeeRate::from_sat_per_kwu(2_500);
    let job = merge(&request).unwrap().batch.sign(&hub(), &KeyCoins::new()).unwrap();
    let job = batch_job(&job).clone();
    assert_eq!((job.transaction.input.len(), job.transaction.output.len()), (COIN + 1, HUB_OUTPUT + 1));
    job
}

pub fn valid_p2wpkh() -> BatchJob {
    valid(KeyCoins::new().p2wpkh(1, 2_000_000))
}

pub fn valid_p2tr() -> BatchJob {
    valid(KeyCoins::new().p2tr(1, 2_000_000))
}

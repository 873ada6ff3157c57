//! BOLT 3, Appendix B.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{Message, SECP256K1};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Block, EcdsaSighashType, Network, OutPoint, PrivateKey, ScriptBuf, Sequence,
    Transaction, TxIn, TxOut, Witness,
};
use channel::funding::{check_funding, funding_output};
use channel::scripts;

use super::folder::Json;

pub fn check_case(_document: &Json<'_>, case: &Json<'_>) {
    let coinbase = coinbase(case);
    let (local, remote) = (case.point("local_funding_pubkey"), case.point("remote_funding_pubkey"));
    let witness_script = scripts::funding(&local, &remote);
    assert_eq!(witness_script.as_bytes(), case.bytes("funding_witness_script"));
    assert_eq!(scripts::funding(&remote, &local), witness_script);

    let funding = funding_output(&local, &remote, Amount::from_sat(case.number("funding_satoshis")));
    assert_eq!(funding.script_pubkey.as_bytes(), case.bytes("funding_script_pubkey"));

    let key = case.secret("block_1_coinbase_privkey");
    let change = TxOut {
        value: Amount::from_sat(case.number("change_satoshis")),
        script_pubkey: scripts::p2wpkh(&key.public_key(SECP256K1)),
    };
    assert_eq!(change.script_pubkey.as_bytes(), case.bytes("change_script_pubkey"));

    let input =
        OutPoint { txid: coinbase.compute_txid(), vout: u32::try_from(case.number("input_index")).unwrap() };
    assert_eq!(input.txid.to_string(), case.text("input_txid"));
    let spent = &coinbase.output[input.vout as usize];
    assert_eq!(spent.value.to_sat(), case.number("input_satoshis"));

    let left = spent.value - funding.value - change.value;
    let transaction = sign(&key, input, spent, vec![funding.clone(), change]);
    assert_eq!(left.to_sat(), transaction.weight().to_wu() * case.number("feerate_per_kw") / 1_000);
    assert_eq!(hex::encode(bitcoin::consensus::serialize(&transaction)), case.text("funding_tx"));
    let txid = transaction.compute_txid();
    assert_eq!(txid.to_string(), case.text("funding_txid"));
    super::assert_spends(&transaction, 0, spent);

    let outpoint = OutPoint { txid, vout: u32::try_from(case.number("funding_output_index")).unwrap() };
    assert_eq!(check_funding(&transaction, outpoint, &funding), Ok(()));
}

fn coinbase(case: &Json<'_>) -> Transaction {
    let genesis: Block = deserialize(&case.bytes("genesis_block")).unwrap();
    let block: Block = deserialize(&case.bytes("block_1")).unwrap();
    assert!(genesis.check_merkle_root() && block.check_merkle_root());
    assert_eq!(block.header.prev_blockhash, genesis.block_hash());
    let coinbase: Transaction = deserialize(&case.bytes("block_1_coinbase_tx")).unwrap();
    assert_eq!(block.txdata.as_slice(), std::slice::from_ref(&coinbase));
    let wif = PrivateKey::from_wif(case.text("block_1_coinbase_privkey_wif")).unwrap();
    assert_eq!(wif.inner, case.secret("block_1_coinbase_privkey"));
    let address = Address::p2pkh(wif.public_key(SECP256K1), Network::Testnet);
    assert_eq!(address.to_string(), case.text("block_1_coinbase_address"));
    assert_eq!(address.script_pubkey(), coinbase.output[0].script_pubkey);
    coinbase
}

/// Spends the coinbase as the specification does: an input that pays to a key's hash.
fn sign(
    key: &bitcoin::secp256k1::SecretKey,
    input: OutPoint,
    spent: &TxOut,
    output: Vec<TxOut>,
) -> Transaction {
    let mut transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: input,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output,
    };
    let sighash = SighashCache::new(&transaction)
        .legacy_signature_hash(0, &spent.script_pubkey, EcdsaSighashType::All.to_u32())
        .unwrap();
    let signature =
        bitcoin::ecdsa::Signature::sighash_all(SECP256K1.sign_ecdsa(&Message::from(sighash), key));
    transaction.input[0].script_sig = bitcoin::script::Builder::new()
        .push_slice(signature.serialize())
        .push_slice(key.public_key(SECP256K1).serialize())
        .into_script();
    transaction
}

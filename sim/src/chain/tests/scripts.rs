//! Scripts and signatures.

use bitcoin::key::{Keypair, TapTweak, UntweakedPublicKey};
use bitcoin::opcodes::all::{OP_CLTV, OP_CSV, OP_DROP, OP_PUSHNUM_1};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{EcdsaSighashType, PublicKey, TapSighashType};
use secp256k1::{Message, SECP256K1, SecretKey};

use super::*;

fn key() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

/// A coin with this script in the tip.
fn coin_with(lab: &Lab, script: &Script) -> OutPoint {
    lab.node.fund(script, Amount::from_sat(COIN));
    lab.node.mine(&Mine::nothing());
    lab.node.unspent(|other| other == script)[0].outpoint
}

fn signed_p2wpkh(transaction: &Transaction, script: &Script, high_s: bool) -> Transaction {
    let sighash = SighashCache::new(transaction)
        .p2wpkh_signature_hash(0, script, Amount::from_sat(COIN), EcdsaSighashType::All)
        .unwrap();
    let signature = SECP256K1.sign_ecdsa(&Message::from_digest(sighash.to_byte_array()), &key());
    let signature = if high_s { with_high_s(&signature) } else { signature };
    let mut bytes = signature.serialize_der().to_vec();
    bytes.push(EcdsaSighashType::All as u8);
    let mut transaction = transaction.clone();
    let public = key().public_key(SECP256K1).serialize();
    transaction.input[0].witness = Witness::from_slice(&[bytes.as_slice(), public.as_slice()]);
    transaction
}

/// The other signature that verifies just as well: S is turned around the group's order.
fn with_high_s(signature: &secp256k1::ecdsa::Signature) -> secp256k1::ecdsa::Signature {
    let compact = signature.serialize_compact();
    let low = SecretKey::from_slice(&compact[32..]).unwrap();
    let mut turned = compact;
    turned[32..].copy_from_slice(&low.negate().secret_bytes());
    secp256k1::ecdsa::Signature::from_compact(&turned).unwrap()
}

#[test]
fn a_signature_opens_an_output_of_a_key_and_no_other_does() {
    let lab = Lab::new();
    let script = ScriptBuf::new_p2wpkh(&PublicKey::new(key().public_key(SECP256K1)).wpubkey_hash().unwrap());
    let coin = coin_with(&lab, &script);
    let good = signed_p2wpkh(&spend(2, &[coin], &[COIN - 500]), &script, false);
    let mut changed = good.clone();
    changed.output[0].value = Amount::from_sat(COIN - 600);
    lab.refuses(&changed, &Reject::Script { input: 0 });
    let high = signed_p2wpkh(&spend(2, &[coin], &[COIN - 500]), &script, true);
    lab.refuses(&high, &Reject::HighS { input: 0 });
    lab.takes(&good);
    lab.node.mine(&Mine::default());
    assert!(lab.confirmed(&good));
}

#[test]
fn a_high_s_is_no_matter_of_consensus() {
    let lab = Lab::new();
    let script = ScriptBuf::new_p2wpkh(&PublicKey::new(key().public_key(SECP256K1)).wpubkey_hash().unwrap());
    let coin = coin_with(&lab, &script);
    let high = signed_p2wpkh(&spend(2, &[coin], &[COIN - 500]), &script, true);
    lab.node.mine(&Mine { include: vec![high.clone()], ..Mine::default() });
    assert!(lab.confirmed(&high));
}

#[test]
fn a_taproot_output_opens_to_its_tweaked_key_alone() {
    let lab = Lab::new();
    let pair = Keypair::from_secret_key(SECP256K1, &key());
    let (internal, _): (UntweakedPublicKey, _) = pair.x_only_public_key();
    let script = ScriptBuf::new_p2tr(SECP256K1, internal, None);
    let coin = coin_with(&lab, &script);
    let transaction = spend(2, &[coin], &[COIN - 500]);
    let signed = |pair: &Keypair| {
        let spent = [pays(COIN, script.clone())];
        let sighash = SighashCache::new(&transaction)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&spent), TapSighashType::Default)
            .unwrap();
        let message = Message::from_digest(sighash.to_byte_array());
        let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, pair);
        let mut transaction = transaction.clone();
        transaction.input[0].witness = Witness::from_slice(&[signature.as_ref()]);
        transaction
    };
    lab.refuses(&signed(&pair), &Reject::Script { input: 0 });
    lab.takes(&signed(&pair.tap_tweak(SECP256K1, None).to_keypair()));
}

/// A coin whose script drops a number that an opcode looked at.
fn locked(number: i64, opcode: bitcoin::opcodes::Opcode) -> ScriptBuf {
    let builder = ScriptBuf::builder().push_int(number).push_opcode(opcode).push_opcode(OP_DROP);
    builder.push_opcode(OP_PUSHNUM_1).into_script()
}

fn locked_spend(lab: &Lab, script: &Script) -> Transaction {
    let coin = coin_with(lab, &ScriptBuf::new_p2wsh(&WScriptHash::hash(script.as_bytes())));
    let mut transaction = spend(2, &[coin], &[COIN - 500]);
    transaction.input[0].witness = Witness::from_slice(&[script.as_bytes()]);
    transaction
}

#[test]
fn a_script_can_ask_for_a_lock_time() {
    let lab = Lab::new();
    let height = lab.node.height();
    let mut transaction = locked_spend(&lab, &locked(i64::from(height), OP_CLTV));
    transaction.lock_time = LockTime::from_height(height - 1).unwrap();
    lab.refuses(&transaction, &Reject::Script { input: 0 });
    transaction.lock_time = LockTime::from_height(height).unwrap();
    lab.takes(&transaction);
}

#[test]
fn a_script_can_ask_for_depth() {
    let lab = Lab::new();
    let mut transaction = locked_spend(&lab, &locked(3, OP_CSV));
    transaction.input[0].sequence = Sequence::from_height(1);
    lab.refuses(&transaction, &Reject::Script { input: 0 });
    transaction.input[0].sequence = Sequence::from_height(3);
    lab.refuses(&transaction, &Reject::SequenceLock);
    lab.node.mine_blocks(2);
    lab.takes(&transaction);
}

#[test]
fn an_anchor_takes_no_witness() {
    let mut lab = Lab::new();
    let coin = coin_with(&lab, &ScriptBuf::new_p2a());
    let mut transaction = spend(3, &[coin, lab.coin()], &[COIN]);
    lab.refuses(&transaction, &Reject::WitnessNonstandard);
    transaction.input[0].witness.clear();
    lab.takes(&transaction);
}

#[test]
fn witness_programs_that_nobody_knows_are_left_alone() {
    let lab = Lab::new();
    let unknown = ScriptBuf::from_hex("5202abcd").unwrap();
    let coin = coin_with(&lab, &unknown);
    let mut transaction = spend(2, &[coin], &[COIN - 500]);
    transaction.input[0].witness.clear();
    lab.refuses(&transaction, &Reject::NonstandardInputs);
    lab.node.mine(&Mine { include: vec![transaction.clone()], ..Mine::default() });
    assert!(lab.confirmed(&transaction), "miners may");
}

#[test]
fn elements_of_a_script_s_witness_have_eighty_bytes_at_most() {
    let lab = Lab::new();
    let script = ScriptBuf::builder().push_opcode(OP_DROP).push_opcode(OP_PUSHNUM_1).into_script();
    let mut transaction = locked_spend(&lab, &script);
    transaction.input[0].witness = Witness::from_slice(&[&[5; 81], script.as_bytes()]);
    lab.refuses(&transaction, &Reject::WitnessNonstandard);
    transaction.input[0].witness = Witness::from_slice(&[&[5; 80], script.as_bytes()]);
    lab.takes(&transaction);
}

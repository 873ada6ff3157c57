//! Every script of BOLT 3, each built exactly as the specification lists it.

use bitcoin::hashes::{Hash, hash160, ripemd160};
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_DROP, OP_DUP, OP_ELSE, OP_ENDIF,
    OP_EQUAL, OP_EQUALVERIFY, OP_HASH160, OP_IF, OP_IFDUP, OP_NOTIF, OP_SIZE, OP_SWAP,
};
use bitcoin::script::Builder;
use bitcoin::{Script, ScriptBuf, WPubkeyHash};
use secp256k1::PublicKey;

use crate::bytes::PaymentHash;
use crate::commitment::HtlcDirection;
use crate::format::CommitmentFormat;
use crate::keys::{HtlcKeys, Point};

fn push_key(builder: Builder, key: &PublicKey) -> Builder {
    builder.push_slice(key.serialize())
}

/// Pays to the hash of a witness script.
pub fn p2wsh(witness_script: &Script) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&witness_script.wscript_hash())
}

/// Pays to one key.
pub fn p2wpkh(key: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&key.serialize()))
}

/// The funding output's witness script: 2-of-2, keys in the order of their bytes.
pub fn funding(one: &PublicKey, other: &PublicKey) -> ScriptBuf {
    funding_of_points(&Point::from(one), &Point::from(other))
}

/// The same from keys as bytes. An output of keys that are no points could not be spent: parse them before funding it.
pub fn funding_of_points(one: &Point, other: &Point) -> ScriptBuf {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    Builder::new()
        .push_int(2)
        .push_slice(first.as_bytes())
        .push_slice(second.as_bytes())
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}

/// The broadcaster's own money, in `to_local` and in HTLC transactions alike: at once with the revocation key, after
/// the delay with the broadcaster's.
pub fn delayed(
    revocation: &PublicKey,
    to_self_delay_blocks: u16,
    broadcaster_delayed: &PublicKey,
) -> ScriptBuf {
    let builder = push_key(Builder::new().push_opcode(OP_IF), revocation)
        .push_opcode(OP_ELSE)
        .push_int(i64::from(to_self_delay_blocks))
        .push_opcode(OP_CSV)
        .push_opcode(OP_DROP);
    push_key(builder, broadcaster_delayed).push_opcode(OP_ENDIF).push_opcode(OP_CHECKSIG).into_script()
}

/// The countersignatory's money: its script, and its witness script where there is one (with anchors).
pub fn to_countersignatory(format: CommitmentFormat, payment: &PublicKey) -> (ScriptBuf, Option<ScriptBuf>) {
    if format.waits_one_block() {
        let witness_script = push_key(Builder::new(), payment)
            .push_opcode(OP_CHECKSIGVERIFY)
            .push_int(1)
            .push_opcode(OP_CSV)
            .into_script();
        (p2wsh(&witness_script), Some(witness_script))
    } else {
        (p2wpkh(payment), None)
    }
}

/// One party's anchor: spendable at once by its owner, by anyone 16 blocks later.
pub fn anchor(funding: &PublicKey) -> ScriptBuf {
    push_key(Builder::new(), funding)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_IFDUP)
        .push_opcode(OP_NOTIF)
        .push_int(16)
        .push_opcode(OP_CSV)
        .push_opcode(OP_ENDIF)
        .into_script()
}

/// The shared anchor, spendable by anyone with an empty witness: `OP_1 <4e73>`.
pub fn shared_anchor() -> ScriptBuf {
    ScriptBuf::new_p2a()
}

/// Where an HTLC's scripts start alike: at once with the revocation key.
fn htlc_start(revocation: &PublicKey, countersignatory: &PublicKey) -> Builder {
    let builder = Builder::new()
        .push_opcode(OP_DUP)
        .push_opcode(OP_HASH160)
        .push_slice(hash160::Hash::hash(&revocation.serialize()).to_byte_array())
        .push_opcode(OP_EQUAL)
        .push_opcode(OP_IF)
        .push_opcode(OP_CHECKSIG)
        .push_opcode(OP_ELSE);
    push_key(builder, countersignatory)
        .push_opcode(OP_SWAP)
        .push_opcode(OP_SIZE)
        .push_int(32)
        .push_opcode(OP_EQUAL)
}

fn htlc_end(format: CommitmentFormat, builder: Builder) -> ScriptBuf {
    let builder = if format.waits_one_block() {
        builder.push_int(1).push_opcode(OP_CSV).push_opcode(OP_DROP)
    } else {
        builder
    };
    builder.push_opcode(OP_ENDIF).into_script()
}

/// `<2> OP_SWAP <broadcaster's key> <2> OP_CHECKMULTISIG`: the HTLC transaction needs both parties.
fn both_sign(builder: Builder, broadcaster: &PublicKey) -> Builder {
    push_key(builder.push_int(2).push_opcode(OP_SWAP), broadcaster).push_int(2).push_opcode(OP_CHECKMULTISIG)
}

/// `OP_HASH160 <RIPEMD160(payment_hash)> OP_EQUALVERIFY`
fn open_lock(builder: Builder, payment_hash: &PaymentHash) -> Builder {
    builder
        .push_opcode(OP_HASH160)
        .push_slice(ripemd160::Hash::hash(payment_hash.as_bytes()).to_byte_array())
        .push_opcode(OP_EQUALVERIFY)
}

/// The lock of one HTLC output.
#[derive(Clone, Copy, Debug)]
pub struct HtlcLock<'a> {
    pub direction: HtlcDirection,
    pub payment_hash: &'a PaymentHash,
    /// Block height from which the offerer may take the HTLC back.
    pub cltv_expiry: u32,
}

/// The witness script of an HTLC output (BOLT 3, "Offered HTLC Outputs" and "Received HTLC Outputs").
pub fn htlc(
    format: CommitmentFormat,
    revocation: &PublicKey,
    keys: &HtlcKeys,
    lock: HtlcLock<'_>,
) -> ScriptBuf {
    let start = htlc_start(revocation, &keys.countersignatory);
    let builder = match lock.direction {
        HtlcDirection::Offered => {
            let builder = both_sign(start.push_opcode(OP_NOTIF).push_opcode(OP_DROP), &keys.broadcaster);
            open_lock(builder.push_opcode(OP_ELSE), lock.payment_hash)
                .push_opcode(OP_CHECKSIG)
                .push_opcode(OP_ENDIF)
        }
        HtlcDirection::Received => {
            let builder = open_lock(start.push_opcode(OP_IF), lock.payment_hash);
            both_sign(builder, &keys.broadcaster)
                .push_opcode(OP_ELSE)
                .push_opcode(OP_DROP)
                .push_int(i64::from(lock.cltv_expiry))
                .push_opcode(OP_CLTV)
                .push_opcode(OP_DROP)
                .push_opcode(OP_CHECKSIG)
                .push_opcode(OP_ENDIF)
        }
    };
    htlc_end(format, builder)
}

/// Whether money may be sent to the script at a close (BOLT 2, `option_shutdown_anysegwit`): a witness program, and of
/// a known version only where its length is one that can be spent.
pub fn is_standard_payout(script: &Script) -> bool {
    if script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr() {
        return true;
    }
    script.is_witness_program() && script.witness_version().is_some_and(|version| version.to_num() > 1)
}

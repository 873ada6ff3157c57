//! Weights, fees and dust limits of BOLT 3 and 5, and the constants of other implementations.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, PubkeyHash, ScriptBuf, ScriptHash, Sequence, Transaction, TxIn, TxOut, WScriptHash,
    Witness, WitnessProgram, WitnessVersion, hashes::Hash,
};
use channel::amount::Msat;
use channel::bytes::{PaymentHash, PaymentPreimage};
use channel::claim::{Claim, Found, Own, OwnHtlc, Revoked, Theirs};
use channel::commitment::{HtlcDirection, HtlcSpec};
use channel::format::CommitmentFormat;
use channel::keys::{Basepoints, CommitmentKeys, CompactSignature, HtlcKeys};
use channel::limits;
use channel::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use channel::scripts::{self, HtlcLock};
use channel::shachain::CommitmentSecret;

use super::folder::Json;

pub fn check_case(_document: &Json<'_>, case: &Json<'_>) {
    match case.find("kind").map(|kind| kind.as_text()) {
        None if case.find("commitment_base_weight").is_some() => format_weights(case),
        None if case.find("to_local_penalty_witness").is_some() => penalty_weights(case),
        Some("worked fee example") => fee_example(case),
        Some(kind) if kind.starts_with("implementation constants") => sweep_weights(case),
        Some(kind) if kind.starts_with("Bitcoin Core dust thresholds") => dust(case),
        kind => panic!("{}: unknown kind {kind:?}", case.place()),
    }
}

fn key() -> PublicKey {
    SecretKey::from_slice(&[1; 32]).unwrap().public_key(SECP256K1)
}

/// The extremes of what the length of a script depends on.
#[derive(Clone, Copy)]
struct Lengths {
    delay: u16,
    expiry: u32,
    /// DER and the sighash byte.
    signature: usize,
}

const SHORTEST: Lengths = Lengths { delay: 1, expiry: 144, signature: 72 };
const LONGEST: Lengths = Lengths { delay: u16::MAX, expiry: 499_999_999, signature: 73 };

fn htlc_script(format: CommitmentFormat, direction: HtlcDirection, lengths: Lengths) -> ScriptBuf {
    let lock =
        HtlcLock { direction, payment_hash: &PaymentHash::from_bytes([2; 32]), cltv_expiry: lengths.expiry };
    scripts::htlc(format, &key(), &HtlcKeys { broadcaster: key(), countersignatory: key() }, lock)
}

fn format_weights(case: &Json<'_>) {
    let format = match case.text("channel_type") {
        "static_remotekey" => CommitmentFormat::StaticRemoteKey,
        "anchors_zero_fee_htlc" => CommitmentFormat::AnchorsZeroFeeHtlc,
        "zero_fee_commitments" => CommitmentFormat::ZeroFeeCommitments,
        other => panic!("{}: unknown channel_type {other}", case.place()),
    };
    let (offered, received) = (HtlcDirection::Offered, HtlcDirection::Received);
    let script_length = |direction| htlc_script(format, direction, LONGEST).len() as u64;
    for (name, figure) in case.numbers() {
        let ours = match name {
            "commitment_base_weight" => format.commitment_base_weight().to_wu(),
            "per_untrimmed_htlc_output_weight" => format.htlc_output_weight().to_wu(),
            "htlc_timeout_weight" => format.htlc_transaction_weight(offered).to_wu(),
            "htlc_success_weight" => format.htlc_transaction_weight(received).to_wu(),
            "offered_htlc_script_len" => script_length(offered),
            "received_htlc_script_len" => script_length(received),
            "htlc_tx_fee_satoshi" => format.htlc_transaction_fee(u32::MAX, received).to_sat(),
            "anchor_output_satoshi" => limits::ANCHOR.to_sat(),
            "anchor_outputs_deducted_from_opener_satoshi" => format.anchors_cost().to_sat(),
            "anchor_input_weight" => {
                let witness = [vec![0; SHORTEST.signature], scripts::anchor(&key()).into_bytes()];
                input_weight(&Witness::from_slice(&witness))
            }
            "to_remote_input_csv" => u64::from(format.waits_one_block()),
            "commitment_fee_satoshi_from_balances" => format.commitment_fee(u32::MAX, 0).to_sat(),
            "shared_anchor_max_satoshi" => limits::MAX_SHARED_ANCHOR.to_sat(),
            "shared_anchor_output_size" => shared_anchor_output().size() as u64,
            // It has no witness; the byte that says so is counted with the rest of the transaction.
            "shared_anchor_input_weight" => input_weight(&Witness::new()) - 1,
            "max_accepted_htlcs" => limits::MAX_HTLCS_WITH_OUTPUT as u64,
            "truc_max_vbytes" => limits::MAX_COMMITMENT_WEIGHT.to_vbytes_ceil(),
            "truc_max_weight" => limits::MAX_COMMITMENT_WEIGHT.to_wu(),
            "truc_child_max_vbytes" => limits::MAX_ANCHOR_CHILD_WEIGHT.to_vbytes_ceil(),
            "truc_child_max_weight" => limits::MAX_ANCHOR_CHILD_WEIGHT.to_wu(),
            "max_commitment_weight_with_228_htlcs" => format.commitment_weight(228).to_wu(),
            other => panic!("{}: unknown figure {other}", case.place()),
        };
        assert_eq!(ours, figure, "{}: {name}", case.place());
    }
    htlc_transaction_weights(format);
    if case.find("shared_anchor_script_pubkey").is_some() {
        assert_eq!(scripts::shared_anchor().as_bytes(), case.bytes("shared_anchor_script_pubkey"));
    }
    for (name, figure) in case.get("observed_in_vectors").numbers() {
        let bound = match name {
            "max_htlc_timeout_tx_weight" => format.htlc_transaction_weight(offered),
            "max_htlc_success_tx_weight" => format.htlc_transaction_weight(received),
            other => panic!("{}: unknown figure {other}", case.place()),
        };
        assert!(figure <= bound.to_wu(), "{}: {name}", case.place());
    }
}

/// An HTLC transaction without a fee input is the claim's input, its pair, and the rest of a transaction. The
/// specification counts one unit more for the success.
fn htlc_transaction_weights(format: CommitmentFormat) {
    for (name, direction) in
        [("htlc_timeout_input", HtlcDirection::Offered), ("htlc_success_input", HtlcDirection::Received)]
    {
        let pair = TxOut { value: Amount::ZERO, script_pubkey: scripts::p2wsh(&ScriptBuf::new()) };
        let rest = 4 * (4 + 1 + 1 + 4) + 2 + pair.weight().to_wu();
        let ours = claim_weight(format, name, LONGEST).unwrap() + rest;
        let more = u64::from(direction == HtlcDirection::Received);
        assert_eq!(ours + more, format.htlc_transaction_weight(direction).to_wu(), "{name} in {format:?}");
    }
}

fn shared_anchor_output() -> TxOut {
    TxOut { value: Amount::ZERO, script_pubkey: scripts::shared_anchor() }
}

/// An input alone: its 41 bytes at weight 4, and its witness.
fn input_weight(witness: &Witness) -> u64 {
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: witness.clone(),
    };
    input.segwit_weight().to_wu()
}

/// What a whole transaction weighs besides its input: one output that pays to a key's hash, and the segwit marker.
fn rest_of_sweep() -> u64 {
    let output = TxOut { value: Amount::ZERO, script_pubkey: scripts::p2wpkh(&key()) };
    let transaction =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![], output: vec![output] };
    4 * transaction.base_size() as u64 + 2
}

/// A claim of each kind; all keys are alike, and no signature is made.
fn claim(format: CommitmentFormat, name: &str, lengths: Lengths) -> Option<Claim> {
    let context = context(format, lengths.delay);
    let keys = CommitmentKeys {
        per_commitment_point: key(),
        revocation: key(),
        broadcaster_delayed: key(),
        htlc: Some(HtlcKeys { broadcaster: key(), countersignatory: key() }),
    };
    let preimage = PaymentPreimage::from_bytes([2; 32]);
    let htlc = |direction| HtlcSpec {
        direction,
        id: 0,
        amount: Msat::from_sat_u32(1_000),
        payment_hash: preimage.payment_hash(),
        cltv_expiry: lengths.expiry,
    };
    let found = Found {
        outpoint: OutPoint::null(),
        output: TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() },
        height: 1,
    };
    let own = Own { context: &context, keys: &keys, number: 0 };
    let theirs = Theirs { context: &context, keys: &keys };
    let secret = CommitmentSecret::from_bytes([3; 32]);
    let revoked = Revoked { context: &context, keys: &keys, secret: &secret };
    let (offered, received) = (htlc(HtlcDirection::Offered), htlc(HtlcDirection::Received));
    let own_htlc = |htlc, found| {
        let countersignature = &CompactSignature::from_bytes([1; 64]);
        own.htlc(OwnHtlc { htlc, countersignature, preimage: Some(&preimage) }, found).unwrap()
    };
    Some(match name {
        "htlc_timeout_input" => own_htlc(&offered, found),
        "htlc_success_input" => own_htlc(&received, found),
        // From the counterparty's commitment, where what we receive was offered.
        "claim_htlc_success" => theirs.htlc(&offered, Some(&preimage), found).unwrap(),
        "claim_htlc_timeout" => theirs.htlc(&received, None, found).unwrap(),
        "to_local_delayed" => own.to_local(found),
        "htlc_delayed" => own.second_stage(0, found),
        "main_penalty" => revoked.to_local(found),
        "claim_htlc_penalty" => revoked.second_stage(found),
        "htlc_offered_penalty" => revoked.htlc(&offered, found).unwrap(),
        "htlc_received_penalty" => revoked.htlc(&received, found).unwrap(),
        "to_remote" => theirs.to_remote(found),
        _ => return None,
    })
}

fn context(format: CommitmentFormat, to_self_delay_blocks: u16) -> ChannelContext {
    let point = key().into();
    let basepoints =
        Basepoints { funding: point, revocation: point, payment: point, delayed_payment: point, htlc: point };
    let party = PartyParameters { basepoints, to_self_delay_blocks };
    ChannelContext::new(ChannelParameters {
        format,
        funding_outpoint: OutPoint::null(),
        funding_amount: Amount::from_sat(1_000_000),
        opener: Side::Holder,
        holder: party,
        counterparty: party,
        dust_limit: limits::MIN_DUST_LIMIT,
    })
    .unwrap()
}

/// What the engine counts with for a claim's input, but for signatures of that length: it counts the longest with a low
/// S, and the specification one byte more.
fn claim_weight(format: CommitmentFormat, name: &str, lengths: Lengths) -> Option<u64> {
    if name == "funding_input" {
        let signature = vec![0; lengths.signature];
        let script = scripts::funding(&key(), &key()).into_bytes();
        let witness = [vec![], signature.clone(), signature, script];
        return Some(input_weight(&Witness::from_slice(&witness)));
    }
    let claim = claim(format, name, lengths)?;
    let signatures = if claim.paired_output().is_some() { 2 } else { 1 };
    let more = (lengths.signature - SHORTEST.signature) as u64;
    Some(claim.input_weight().to_wu() + signatures * more)
}

/// Other implementations' constants depend on the delays and expiries they were measured with: ours enclose them.
fn sweep_weights(case: &Json<'_>) {
    let format = match case.text("channel_type") {
        "anchors_zero_fee_htlc" => CommitmentFormat::AnchorsZeroFeeHtlc,
        "zero_fee_commitments" => CommitmentFormat::ZeroFeeCommitments,
        "simple_taproot" => return taproot_weights(case),
        other => panic!("{}: unknown channel_type {other}", case.place()),
    };
    for (name, figure) in case.numbers() {
        let weight = |lengths| {
            let input = claim_weight(format, name, lengths)
                .unwrap_or_else(|| panic!("{}: unknown figure {name}", case.place()));
            if name.ends_with("_input") { input } else { input + rest_of_sweep() }
        };
        let enclosing = weight(SHORTEST)..=weight(LONGEST);
        assert!(enclosing.contains(&figure), "{}: {name}: {figure} not in {enclosing:?}", case.place());
    }
}

/// Taproot's scripts are not built here; what does not depend on them must agree all the same.
fn taproot_weights(case: &Json<'_>) {
    let by_key = Witness::from_slice(&[vec![0; 64]]);
    assert_eq!(case.number("funding_input"), input_weight(&by_key));
    assert_eq!(case.number("anchor_input"), input_weight(&by_key));
    let output = TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::new_witness_program(
            &WitnessProgram::new(WitnessVersion::V1, &[0; 32]).unwrap(),
        ),
    };
    assert_eq!(case.number("per_untrimmed_htlc_output_weight"), output.weight().to_wu());
    for (name, figure) in case.numbers() {
        let floor = if name.ends_with("_input") {
            input_weight(&by_key)
        } else if name.starts_with("per_untrimmed") {
            output.weight().to_wu()
        } else {
            input_weight(&by_key) + rest_of_sweep()
        };
        assert!(figure >= floor, "{}: {name}: {figure} is below the {floor} of a spend by key", case.place());
    }
}

fn penalty_weights(case: &Json<'_>) {
    let format = CommitmentFormat::StaticRemoteKey;
    let input = 4 * 41;
    let size = |name: &str, lengths| claim_weight(format, name, lengths).unwrap() - input;
    assert_eq!(case.number("txinput_weight"), input);
    for (kind, ours) in [
        ("to_local_penalty", "main_penalty"),
        ("offered_htlc_penalty", "htlc_offered_penalty"),
        ("accepted_htlc_penalty", "htlc_received_penalty"),
    ] {
        let figure = case.number(&format!("{kind}_witness"));
        // The specification counts expiries of three bytes, and is generous with the delayed script.
        let longest = size(ours, Lengths { expiry: 8_000_000, ..LONGEST });
        assert!(longest <= figure && figure <= longest + 4, "{kind}: {figure}, ours {longest}");
        assert_eq!(case.number(&format!("{kind}_input_weight")), input + figure);
    }
    let empty = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: scripts::p2wsh(&ScriptBuf::new()) }],
    };
    assert_eq!(case.number("rest_of_tx_non_witness_bytes"), empty.base_size() as u64);
    assert_eq!(case.number("segwit_header_bytes"), 2);
    let to_remote = claim_weight(format, "to_remote", SHORTEST).unwrap();
    assert_eq!(case.number("optional_to_remote_p2wpkh_input_weight"), to_remote);
    assert_eq!(case.number("max_standard_weight"), u64::from(bitcoin::policy::MAX_STANDARD_TX_WEIGHT));
    let room = case.number("max_standard_weight")
        - 4 * case.number("rest_of_tx_non_witness_bytes")
        - case.number("segwit_header_bytes")
        - case.number("to_local_penalty_input_weight")
        - case.number("optional_to_remote_p2wpkh_input_weight");
    assert_eq!(
        case.number("max_num_htlcs_single_tx"),
        room / case.number("accepted_htlc_penalty_input_weight")
    );
}

fn fee_example(case: &Json<'_>) {
    let format = CommitmentFormat::StaticRemoteKey;
    assert_eq!(case.text("channel_type"), "static_remotekey");
    let feerate = u32::try_from(case.number("feerate_per_kw")).unwrap();
    let dust_limit = Amount::from_sat(case.number("dust_limit_satoshi"));
    let fee = |direction| format.htlc_transaction_fee(feerate, direction).to_sat();
    assert_eq!(fee(HtlcDirection::Offered), case.number("htlc_timeout_fee_satoshi"));
    assert_eq!(fee(HtlcDirection::Received), case.number("htlc_success_fee_satoshi"));

    let mut outputs = 0;
    let mut trimmed = 0;
    for (name, direction) in
        [("offered_htlcs_msat", HtlcDirection::Offered), ("received_htlcs_msat", HtlcDirection::Received)]
    {
        for amount in case.list(name) {
            let amount = Msat::new(amount.as_number()).unwrap();
            if format.is_trimmed(dust_limit, feerate, direction, amount) {
                trimmed += amount.to_sat_floor().to_sat();
            } else {
                outputs += 1;
            }
        }
    }
    assert_eq!(format.commitment_weight(outputs).to_wu(), case.number("commitment_weight"));
    let base_fee = format.commitment_fee(feerate, outputs).to_sat();
    assert_eq!(base_fee, case.number("base_fee_satoshi"));
    assert_eq!(base_fee + trimmed, case.number("actual_fee_satoshi"));
}

fn dust(case: &Json<'_>) {
    let longest_program = WitnessProgram::new(WitnessVersion::V16, &[0; 40]).unwrap();
    for (name, figure) in case.numbers() {
        let script = match name {
            "p2pkh" => ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()),
            "p2sh" => ScriptBuf::new_p2sh(&ScriptHash::all_zeros()),
            "p2wpkh" => scripts::p2wpkh(&key()),
            "p2wsh" => ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()),
            "p2a" => scripts::shared_anchor(),
            "unknown_segwit" => ScriptBuf::new_witness_program(&longest_program),
            "op_return" => ScriptBuf::new_op_return([0; 4]),
            "min_dust_limit_satoshis_open_channel" => {
                assert_eq!(figure, limits::MIN_DUST_LIMIT.to_sat());
                continue;
            }
            other => panic!("{}: unknown figure {other}", case.place()),
        };
        assert_eq!(script.minimal_non_dust().to_sat(), figure, "{}: {name}", case.place());
    }
}

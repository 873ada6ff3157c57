//! BOLT 3, Appendices C and F, and the commitments without fees: transactions, signatures, outputs, second stage.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use bitcoin::{Amount, EcdsaSighashType, OutPoint, Transaction, TxOut};
use channel::amount::Msat;
use channel::bytes::{PaymentHash, PaymentPreimage};
use channel::commitment::{
    CommitmentSignatures, CommitmentSpec, CommitmentTransaction, HtlcDirection, HtlcSpec, OutputKind,
    commitment_number,
};
use channel::format::CommitmentFormat;
use channel::htlc_tx::HtlcSignatures;
use channel::keys::{
    Basepoints, CommitmentKeys, CompactSignature, HtlcOutputs, derive_private_key, derive_public_key,
};
use channel::parameters::{ChannelContext, ChannelParameters, PartyParameters, Side};
use channel::scripts;

use super::folder::Json;

/// What a file says about its channel, for all its cases.
struct Channel {
    parameters: ChannelParameters,
    point: PublicKey,
    local_funding: SecretKey,
    remote_funding: SecretKey,
    local_htlc: SecretKey,
    remote_htlc: SecretKey,
}

pub fn check_case(document: &Json<'_>, case: &Json<'_>) {
    let channel = read_channel(&document.get("parameters"), case);
    let context = ChannelContext::new(channel.parameters.clone()).unwrap();
    check_parameters(&document.get("parameters"), &context, &channel.point);

    let listed = htlcs(document, case);
    let spec = CommitmentSpec {
        number: document.get("parameters").number("commitment_number"),
        to_broadcaster: msat(case, "to_local_msat"),
        to_countersignatory: msat(case, "to_remote_msat"),
        htlcs: listed.iter().map(|htlc| htlc.spec).collect(),
        feerate_sat_per_kw: u32::try_from(case.number("feerate_per_kw")).unwrap(),
    };
    check_conservation(case, &context, &spec);
    let keys = CommitmentKeys::derive(&context, Side::Holder, &channel.point, context.htlc_outputs(&spec));
    let commitment = CommitmentTransaction::build(&context, Side::Holder, &keys, &spec).unwrap();

    check_fees(case, &context, &commitment);
    check_outputs(case, &context, &commitment, &listed);
    check_commitment(case, &channel, &context, &commitment);
    check_htlc_transactions(case, &channel, &context, &commitment, &listed);
    check_from_the_other_side(&channel, &spec, &commitment);
}

/// Both balances and the HTLCs are the capacity; and only formats with fees have a feerate.
fn check_conservation(case: &Json<'_>, context: &ChannelContext, spec: &CommitmentSpec) {
    let in_flight = spec.htlcs.iter().map(|htlc| htlc.amount);
    let sum = Msat::checked_sum(in_flight.chain([spec.to_broadcaster, spec.to_countersignatory]));
    assert_eq!(sum, Msat::from_sat(context.parameters().funding_amount), "{}", case.place());
    let has_fees = context.format() != CommitmentFormat::ZeroFeeCommitments;
    assert!(has_fees || spec.feerate_sat_per_kw == 0, "{}", case.place());
}

fn msat(place: &Json<'_>, name: &str) -> Msat {
    Msat::new(place.number(name)).unwrap()
}

fn format_of(case: &Json<'_>) -> CommitmentFormat {
    match case.text("channel_type") {
        "static_remotekey" => CommitmentFormat::StaticRemoteKey,
        "anchors_zero_fee_htlc" => CommitmentFormat::AnchorsZeroFeeHtlc,
        "zero_fee_commitments" => CommitmentFormat::ZeroFeeCommitments,
        other => panic!("{}: unknown channel_type {other}", case.place()),
    }
}

fn side(place: &Json<'_>, name: &str) -> Side {
    match place.text(name) {
        "local" => Side::Holder,
        "remote" => Side::Counterparty,
        other => panic!("{}: unknown side {other}", place.place()),
    }
}

fn read_channel(parameters: &Json<'_>, case: &Json<'_>) -> Channel {
    assert_eq!(parameters.text("transaction_owner"), "local");
    let public = |name: &str| parameters.secret(name).public_key(SECP256K1);
    // In Appendix C the HTLC basepoints are the payment basepoints.
    let htlc_secret = |name: &str, payment: &str| {
        parameters.secret(if parameters.find(name).is_some() { name } else { payment })
    };
    let local_htlc_base = htlc_secret("local_htlc_basepoint_secret", "local_payment_basepoint_secret");
    let remote_htlc_base = htlc_secret("remote_htlc_basepoint_secret", "remote_payment_basepoint_secret");
    let point = parameters.point("local_per_commitment_point");
    let delay = u16::try_from(parameters.number("to_self_delay")).unwrap();
    // Keys that no transaction of the local node contains.
    let unused = public("local_funding_privkey").into();

    let party = |basepoints| PartyParameters { basepoints, to_self_delay_blocks: delay };
    let local = Basepoints {
        funding: public("local_funding_privkey").into(),
        revocation: unused,
        payment: public("local_payment_basepoint_secret").into(),
        delayed_payment: public("local_delayed_payment_basepoint_secret").into(),
        htlc: local_htlc_base.public_key(SECP256K1).into(),
    };
    let remote = Basepoints {
        funding: public("remote_funding_privkey").into(),
        revocation: parameters.point("remote_revocation_basepoint").into(),
        payment: public("remote_payment_basepoint_secret").into(),
        delayed_payment: unused,
        htlc: remote_htlc_base.public_key(SECP256K1).into(),
    };
    let derive = |secret: &SecretKey| derive_private_key(secret, &secret.public_key(SECP256K1), &point);
    Channel {
        parameters: ChannelParameters {
            format: format_of(case),
            funding_outpoint: OutPoint {
                txid: parameters.text("funding_txid").parse().unwrap(),
                vout: u32::try_from(parameters.number("funding_output_index")).unwrap(),
            },
            funding_amount: Amount::from_sat(parameters.number("funding_amount_satoshi")),
            opener: side(parameters, "opener"),
            holder: party(local),
            counterparty: party(remote),
            dust_limit: Amount::from_sat(case.number("dust_limit_satoshi")),
        },
        point,
        local_funding: parameters.secret("local_funding_privkey"),
        remote_funding: parameters.secret("remote_funding_privkey"),
        local_htlc: derive(&local_htlc_base),
        remote_htlc: derive(&remote_htlc_base),
    }
}

/// Compares the keys that the file lists with those derived. Some files list them apart, as "derived".
fn check_parameters(parameters: &Json<'_>, context: &ChannelContext, point: &PublicKey) {
    let keys = CommitmentKeys::derive(context, Side::Holder, point, HtlcOutputs::Present);
    let htlc = keys.htlc.unwrap();
    let (local, remote) = (context.basepoints(Side::Holder), context.basepoints(Side::Counterparty));
    let points = [
        ("local_funding_pubkey", local.funding),
        ("remote_funding_pubkey", remote.funding),
        ("local_payment_basepoint", local.payment),
        ("remote_payment_basepoint", remote.payment),
        ("local_htlc_basepoint", local.htlc),
        ("remote_htlc_basepoint", remote.htlc),
        ("local_delayed_payment_basepoint", local.delayed_payment),
        ("remote_revocation_basepoint", remote.revocation),
        ("local_htlcpubkey", htlc.broadcaster),
        ("remote_htlcpubkey", htlc.countersignatory),
        ("local_delayedpubkey", keys.broadcaster_delayed),
        ("local_revocation_pubkey", keys.revocation),
        ("remotepubkey", remote.payment),
    ];
    for listed in [Some(parameters.clone()), parameters.find("derived")].into_iter().flatten() {
        for (name, computed) in &points {
            if listed.find(name).is_some() {
                assert_eq!(listed.point(name), *computed, "{}: {name}", listed.place());
            }
        }
        if listed.find("obscuring_factor").is_some() {
            assert_eq!(format!("{:012x}", context.obscuring_factor()), listed.text("obscuring_factor"));
        }
        if listed.find("funding_witness_script").is_some() {
            assert_eq!(context.funding_script().as_bytes(), listed.bytes("funding_witness_script"));
        }
        check_private_keys(&listed, parameters, point);
    }
}

fn check_private_keys(listed: &Json<'_>, parameters: &Json<'_>, point: &PublicKey) {
    for (name, base) in [
        ("local_privkey", "local_payment_basepoint_secret"),
        ("remote_privkey", "remote_payment_basepoint_secret"),
        ("local_delayed_privkey", "local_delayed_payment_basepoint_secret"),
    ] {
        if listed.find(name).is_some() {
            let secret = parameters.secret(base);
            let derived = derive_private_key(&secret, &secret.public_key(SECP256K1), point);
            assert_eq!(listed.secret(name), derived, "{}: {name}", listed.place());
            assert_eq!(
                derived.public_key(SECP256K1),
                derive_public_key(&secret.public_key(SECP256K1), point)
            );
        }
    }
    if listed.find("local_per_commitment_secret").is_some() {
        assert_eq!(listed.secret("local_per_commitment_secret").public_key(SECP256K1), *point);
    }
    if listed.find("remote_revocation_basepoint_secret").is_some() {
        let secret = listed.secret("remote_revocation_basepoint_secret");
        assert_eq!(secret.public_key(SECP256K1), parameters.point("remote_revocation_basepoint"));
    }
}

/// An HTLC as a file lists it, with the number other fields name it by.
struct ListedHtlc {
    index: u64,
    spec: HtlcSpec,
    preimage: PaymentPreimage,
}

fn htlcs(document: &Json<'_>, case: &Json<'_>) -> Vec<ListedHtlc> {
    let listed: Vec<_> = match case.find("htlcs") {
        Some(_) => case.list("htlcs"),
        None => {
            let all = document.list("htlcs");
            let pick = |index: &Json<'_>| {
                let found = all.iter().find(|htlc| htlc.number("index") == index.as_number());
                found.unwrap_or_else(|| panic!("{}: no such HTLC", index.place())).clone()
            };
            case.list("htlc_indices").iter().map(pick).collect()
        }
    };
    listed.iter().map(read_htlc).collect()
}

fn read_htlc(htlc: &Json<'_>) -> ListedHtlc {
    let index = htlc.number("index");
    let preimage = PaymentPreimage::from_bytes(htlc.array("payment_preimage"));
    let payment_hash = PaymentHash::from_bytes(htlc.array("payment_hash"));
    assert_eq!(preimage.payment_hash(), payment_hash, "{}", htlc.place());
    let spec = HtlcSpec {
        direction: match htlc.text("direction") {
            "offered" => HtlcDirection::Offered,
            "received" => HtlcDirection::Received,
            other => panic!("{}: unknown direction {other}", htlc.place()),
        },
        id: htlc.find("id").map_or(index, |id| id.as_number()),
        amount: msat(htlc, "amount_msat"),
        payment_hash,
        cltv_expiry: u32::try_from(htlc.number("cltv_expiry")).unwrap(),
    };
    ListedHtlc { index, spec, preimage }
}

/// HTLCs that differ in nothing but their ids are interchangeable.
fn assert_same_htlc(found: &HtlcSpec, place: &Json<'_>, listed: &[ListedHtlc]) {
    let index = place.number("htlc_index");
    let expected = listed.iter().find(|htlc| htlc.index == index);
    let expected = expected.unwrap_or_else(|| panic!("{}: no HTLC {index}", place.place()));
    assert_eq!(HtlcSpec { id: 0, ..*found }, HtlcSpec { id: 0, ..expected.spec }, "{}", place.place());
}

fn check_fees(case: &Json<'_>, context: &ChannelContext, commitment: &CommitmentTransaction) {
    let format = commitment.format();
    let outputs: Amount = commitment.transaction().output.iter().map(|output| output.value).sum();
    let fee = context.parameters().funding_amount - outputs;
    assert_eq!(fee.to_sat(), case.number("actual_fee_satoshi"), "{}", case.place());
    if case.find("base_fee_satoshi").is_some() {
        let base_fee = format.commitment_fee(commitment.feerate_sat_per_kw(), commitment.htlcs().len());
        assert_eq!(base_fee.to_sat(), case.number("base_fee_satoshi"), "{}", case.place());
    }
    if case.find("anchors_cost_satoshi").is_some() {
        assert_eq!(format.anchors_cost().to_sat(), case.number("anchors_cost_satoshi"), "{}", case.place());
    }
    if case.find("shared_anchor_satoshi").is_some() {
        let index = commitment.output_index(OutputKind::SharedAnchor).unwrap() as usize;
        let value = commitment.transaction().output[index].value;
        assert_eq!(value.to_sat(), case.number("shared_anchor_satoshi"), "{}", case.place());
    }
}

fn check_outputs(
    case: &Json<'_>,
    context: &ChannelContext,
    commitment: &CommitmentTransaction,
    listed: &[ListedHtlc],
) {
    let expected = case.list("outputs");
    assert_eq!(expected.len(), commitment.outputs().len(), "{}", case.place());
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(expected.number("index"), index as u64);
        let output = &commitment.transaction().output[index];
        assert_eq!(output.value.to_sat(), expected.number("amount_satoshi"), "{}", expected.place());
        assert_eq!(output.script_pubkey.as_bytes(), expected.bytes("script_pubkey"), "{}", expected.place());
        let kind = commitment.outputs()[index];
        assert_eq!(kind_name(commitment, kind), expected.text("kind"), "{}", expected.place());
        let witness_script = match kind {
            OutputKind::ToBroadcaster => Some(commitment.delayed_script().clone()),
            OutputKind::ToCountersignatory => {
                let payment = &context.basepoints(Side::Counterparty).payment;
                scripts::to_countersignatory(commitment.format(), payment).1
            }
            OutputKind::Htlc { position } => {
                let htlc = &commitment.htlcs()[position];
                assert_eq!(htlc.output_index as usize, index);
                assert_same_htlc(&htlc.htlc, expected, listed);
                Some(htlc.witness_script.clone())
            }
            OutputKind::SharedAnchor => None,
            OutputKind::BroadcasterAnchor => Some(scripts::anchor(&context.basepoints(Side::Holder).funding)),
            OutputKind::CountersignatoryAnchor => {
                Some(scripts::anchor(&context.basepoints(Side::Counterparty).funding))
            }
        };
        let expected_script = expected.find("witness_script").map(|_| expected.bytes("witness_script"));
        assert_eq!(witness_script.map(|script| script.to_bytes()), expected_script, "{}", expected.place());
    }
}

fn kind_name(commitment: &CommitmentTransaction, kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::ToBroadcaster => "to_local",
        OutputKind::ToCountersignatory => "to_remote",
        OutputKind::Htlc { position } => match commitment.htlcs()[position].htlc.direction {
            HtlcDirection::Offered => "htlc_offered",
            HtlcDirection::Received => "htlc_received",
        },
        OutputKind::SharedAnchor => "shared_anchor",
        OutputKind::BroadcasterAnchor => "to_local_anchor",
        OutputKind::CountersignatoryAnchor => "to_remote_anchor",
    }
}

fn sign(message: &Message, secret: &SecretKey) -> Signature {
    SECP256K1.sign_ecdsa(message, secret)
}

fn assert_signature(signature: &Signature, place: &Json<'_>, name: &str) {
    assert_eq!(hex::encode(signature.serialize_der()), place.text(name), "{}: {name}", place.place());
}

fn check_commitment(
    case: &Json<'_>,
    channel: &Channel,
    context: &ChannelContext,
    commitment: &CommitmentTransaction,
) {
    let message = commitment.sighash(context);
    let local = sign(&message, &channel.local_funding);
    let remote = sign(&message, &channel.remote_funding);
    assert_signature(&local, case, "local_signature");
    assert_signature(&remote, case, "remote_signature");

    let signed = commitment.signed(context, &local.into(), &remote.into()).unwrap();
    assert_eq!(hex::encode(serialize(&signed)), case.text("commitment_tx"), "{}", case.place());
    assert_eq!(commitment.txid().to_string(), case.text("commitment_txid"), "{}", case.place());
    assert_eq!(deserialize::<Transaction>(&case.bytes("commitment_tx")).unwrap(), signed);
    super::assert_spends(&signed, 0, &context.funding_output());
    assert!(signed.weight() <= commitment.format().commitment_weight(commitment.htlcs().len()));
    assert_eq!(commitment_number(&signed, context.obscuring_factor()), Some(commitment.number()));
}

fn check_htlc_transactions(
    case: &Json<'_>,
    channel: &Channel,
    context: &ChannelContext,
    commitment: &CommitmentTransaction,
    listed: &[ListedHtlc],
) {
    let expected = case.list("htlc_txs");
    assert_eq!(expected.len(), commitment.htlcs().len(), "{}", case.place());
    let sighash_type = commitment.format().htlc_sighash_type();
    let mut countersignatures = Vec::new();
    for (transaction, expected) in commitment.htlc_transactions().zip(&expected) {
        let output = transaction.spent_output();
        assert_eq!(u64::from(output.output_index), expected.number("output_index"), "{}", expected.place());
        assert_same_htlc(&output.htlc, expected, listed);
        assert_eq!(sighash_type.to_string(), expected.text("remote_sighash_type"));
        let remote = sign(&transaction.sighash(sighash_type), &channel.remote_htlc);
        let local = sign(&transaction.sighash(EcdsaSighashType::All), &channel.local_htlc);
        assert_signature(&remote, expected, "remote_htlc_signature");
        assert_signature(&local, expected, "local_htlc_signature");

        let (kind, preimage) = match output.htlc.direction {
            HtlcDirection::Offered => ("htlc_timeout", None),
            HtlcDirection::Received => {
                let of_hash = listed.iter().find(|htlc| htlc.spec.payment_hash == output.htlc.payment_hash);
                ("htlc_success", of_hash.map(|htlc| &htlc.preimage))
            }
        };
        assert_eq!(kind, expected.text("kind"), "{}", expected.place());
        let signatures = HtlcSignatures { broadcaster: local.into(), countersignatory: remote.into() };
        let signed = transaction.signed(&signatures, preimage).unwrap();
        assert_eq!(hex::encode(serialize(&signed)), expected.text("tx"), "{}", expected.place());
        assert_eq!(signed.compute_txid().to_string(), expected.text("txid"), "{}", expected.place());
        assert!(signed.weight() <= commitment.format().htlc_transaction_weight(output.htlc.direction));
        let spent = TxOut { value: output.value, script_pubkey: scripts::p2wsh(&output.witness_script) };
        super::assert_spends(&signed, 0, &spent);
        countersignatures.push(CompactSignature::from(remote));
    }
    let signatures = CommitmentSignatures {
        commitment: sign(&commitment.sighash(context), &channel.remote_funding).into(),
        htlcs: countersignatures,
    };
    assert_eq!(commitment.verify(context, &signatures), Ok(()), "{}", case.place());
}

/// The countersignatory, to whom the owner is the counterparty, builds the same bytes.
fn check_from_the_other_side(channel: &Channel, spec: &CommitmentSpec, commitment: &CommitmentTransaction) {
    let parameters = ChannelParameters {
        opener: channel.parameters.opener.other(),
        holder: channel.parameters.counterparty,
        counterparty: channel.parameters.holder,
        ..channel.parameters.clone()
    };
    let context = ChannelContext::new(parameters).unwrap();
    let keys =
        CommitmentKeys::derive(&context, Side::Counterparty, &channel.point, context.htlc_outputs(spec));
    let other = CommitmentTransaction::build(&context, Side::Counterparty, &keys, spec).unwrap();
    assert_eq!(other.transaction(), commitment.transaction());
    assert_eq!(other.htlcs(), commitment.htlcs());
}

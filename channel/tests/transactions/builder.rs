//! Laws that hold for any commitment at all.

use bitcoin::{Amount, ScriptBuf, TxOut};
use channel::amount::Msat;
use channel::bytes::PaymentHash;
use channel::commitment::{
    BuildError, CommitmentSpec, CommitmentTransaction, HtlcDirection, HtlcSpec, OutputKind, commitment_number,
};
use channel::format::CommitmentFormat;
use channel::funding::{FundingFlaw, check_funding, check_funding_output};
use channel::keys::HtlcOutputs;
use channel::limits::{MAX_COMMITMENT_NUMBER, MAX_SHARED_ANCHOR};
use channel::parameters::Side;
use channel::signer::Signer;
use proptest::prelude::*;

use super::pair::{DUST_LIMIT, FUNDING, pair, spec_with_htlcs};

fn htlc() -> impl Strategy<Value = (bool, u32, u32)> {
    // Amounts around the dust limit too; few expiries and amounts, so that ties are common.
    let amount = prop_oneof![0_u32..3_000_000, Just(353_999), Just(354_000), Just(1_000_000)];
    (any::<bool>(), amount, 500_u32..503)
}

fn specs() -> impl Strategy<Value = CommitmentSpec> {
    let htlcs = proptest::collection::vec(htlc(), 0..12);
    (0..=MAX_COMMITMENT_NUMBER, htlcs, 0_u32..=1_000_000, 0_u32..2_000).prop_map(
        |(number, htlcs, share, feerate_sat_per_kw)| {
            let spec = |(id, (offered, msat, cltv_expiry))| HtlcSpec {
                direction: if offered { HtlcDirection::Offered } else { HtlcDirection::Received },
                id,
                amount: Msat::from_u32(msat),
                payment_hash: PaymentHash::from_bytes([9; 32]),
                cltv_expiry,
            };
            let htlcs: Vec<_> = (0..).zip(htlcs).map(spec).collect();
            let in_flight = Msat::checked_sum(htlcs.iter().map(|htlc| htlc.amount)).unwrap();
            let left = Msat::from_sat(FUNDING).unwrap().checked_sub(in_flight).unwrap();
            let to_broadcaster = Msat::new(left.to_u64() / 1_000_000 * u64::from(share)).unwrap();
            let to_countersignatory = left.checked_sub(to_broadcaster).unwrap();
            CommitmentSpec { number, to_broadcaster, to_countersignatory, htlcs, feerate_sat_per_kw }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ends_build_the_same_sorted_transaction_which_creates_no_money(mut spec in specs()) {
        for format in CommitmentFormat::ALL {
            if format == CommitmentFormat::ZeroFeeCommitments {
                spec.feerate_sat_per_kw = 0;
            }
            let pair = pair(format);
            let own = pair.opener.own(&spec);
            let (seen, _) = pair.accepter.sign_for(&pair.opener, &spec);
            prop_assert_eq!(own.transaction(), seen.transaction());
            prop_assert_eq!(own.htlcs(), seen.htlcs());

            let outputs = &own.transaction().output;
            let order = |output: &TxOut| (output.value, output.script_pubkey.clone());
            prop_assert!(outputs.is_sorted_by_key(order));
            let sum: Amount = outputs.iter().map(|output| output.value).sum();
            prop_assert!(sum <= FUNDING);
            for (output, kind) in outputs.iter().zip(own.outputs()) {
                let trimmed_below = match kind {
                    OutputKind::SharedAnchor => Amount::ZERO,
                    OutputKind::BroadcasterAnchor | OutputKind::CountersignatoryAnchor => Amount::from_sat(330),
                    OutputKind::ToBroadcaster | OutputKind::ToCountersignatory | OutputKind::Htlc { .. } => DUST_LIMIT,
                };
                prop_assert!(output.value >= trimmed_below);
            }
            if format == CommitmentFormat::ZeroFeeCommitments {
                // What is left over pays a fee only once the anchor is full: what was trimmed.
                let anchor = own.output_index(OutputKind::SharedAnchor).unwrap() as usize;
                prop_assert!(sum == FUNDING || outputs[anchor].value == MAX_SHARED_ANCHOR);
            }
            let factor = pair.opener.context.obscuring_factor();
            prop_assert_eq!(factor, pair.accepter.context.obscuring_factor());
            prop_assert_eq!(commitment_number(own.transaction(), factor), Some(spec.number));
        }
    }
}

#[test]
fn a_state_that_cannot_be_is_refused_by_name() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let party = &pair.opener;
    let build = |spec: &CommitmentSpec, htlc_outputs| {
        let keys = party.signer.holder_commitment_keys(&party.key, &party.context, 0, htlc_outputs);
        CommitmentTransaction::build(&party.context, Side::Holder, &keys, spec)
    };
    let good = spec_with_htlcs();
    assert_eq!(build(&good, HtlcOutputs::Absent), Err(BuildError::HtlcKeysMissing));
    let number = MAX_COMMITMENT_NUMBER + 1;
    let bad = CommitmentSpec { number, ..good.clone() };
    assert_eq!(build(&bad, HtlcOutputs::Present), Err(BuildError::NumberTooLarge(number)));
    let bad = CommitmentSpec { to_broadcaster: Msat::from_sat_u32(600_101), ..good };
    let outputs = FUNDING + Amount::ONE_SAT;
    assert_eq!(
        build(&bad, HtlcOutputs::Present),
        Err(BuildError::OutputsExceedFunding { outputs, funding: FUNDING })
    );
}

#[test]
fn a_commitment_with_the_most_htlcs_fits_the_bound_when_signed() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let each = Msat::from_sat_u32(1_000);
    let mut spec = spec_with_htlcs();
    spec.htlcs = (0..114)
        .flat_map(|id| [HtlcDirection::Offered, HtlcDirection::Received].map(|direction| (direction, id)))
        .map(|(direction, id)| HtlcSpec { amount: each, ..super::pair::htlc(direction, id, 1) })
        .collect();
    spec.to_broadcaster = Msat::from_sat_u32(400_000);
    let commitment = pair.opener.own(&spec);
    let (_, signatures) = pair.accepter.sign_for(&pair.opener, &spec);
    assert_eq!(commitment.verify(&pair.opener.context, &signatures), Ok(()));
    let own = pair
        .opener
        .signer
        .sign_holder_commitment(&pair.opener.key, &pair.opener.context, &commitment)
        .unwrap();
    let signed = commitment.signed(&pair.opener.context, &own, &signatures.commitment).unwrap();
    assert!(signed.weight() <= channel::limits::MAX_COMMITMENT_WEIGHT);
    assert_eq!(commitment.htlcs().len(), 228);
}

#[test]
fn a_transaction_that_does_not_fund_the_channel_is_refused_by_name() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let expected = pair.opener.context.funding_output();
    assert_eq!(expected, pair.accepter.context.funding_output());
    assert_eq!(check_funding_output(&expected, &expected), Ok(()));
    let wrong = TxOut { value: expected.value - Amount::ONE_SAT, ..expected.clone() };
    let flaw = FundingFlaw::WrongAmount { found: wrong.value, expected: expected.value };
    assert_eq!(check_funding_output(&wrong, &expected), Err(flaw));
    let wrong = TxOut { script_pubkey: ScriptBuf::new(), ..expected.clone() };
    let flaw = FundingFlaw::WrongScript { found: ScriptBuf::new(), expected: expected.script_pubkey.clone() };
    assert_eq!(check_funding_output(&wrong, &expected), Err(flaw));

    let mut transaction = pair.opener.own(&spec_with_htlcs()).transaction().clone();
    transaction.output = vec![expected.clone()];
    let outpoint = |vout| bitcoin::OutPoint { txid: transaction.compute_txid(), vout };
    assert_eq!(check_funding(&transaction, outpoint(0), &expected), Ok(()));
    let flaw = FundingFlaw::NoSuchOutput { index: 1, outputs: 1 };
    assert_eq!(check_funding(&transaction, outpoint(1), &expected), Err(flaw));
    let other = bitcoin::OutPoint { vout: 0, ..pair.opener.context.parameters().funding_outpoint };
    let flaw = FundingFlaw::WrongTxid { found: transaction.compute_txid(), expected: other.txid };
    assert_eq!(check_funding(&transaction, other, &expected), Err(flaw));
}

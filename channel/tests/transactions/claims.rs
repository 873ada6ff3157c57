//! Every claim takes its output, from its height on, within its weight, and by its own secret only.

use bitcoin::{Amount, OutPoint, Witness};
use channel::bytes::{KeyId, PaymentPreimage};
use channel::claim::{
    ClaimError, ClaimKind, Contest, Found, Own, OwnHtlc, SpendKey, Theirs, Unclaimable, preimage_in,
};
use channel::commitment::{CommitmentTransaction, HtlcDirection, HtlcOutput};
use channel::format::CommitmentFormat;
use channel::keys::{CompactSignature, HtlcOutputs};
use channel::signer::{Signer, SignerError};

use super::claim_cases::{Case, HEIGHT, POSITION, SECOND_HEIGHT, cases};
use super::pair::{pair, preimage, spec_with_htlcs, spends};

fn all_cases() -> impl Iterator<Item = Case> {
    CommitmentFormat::NEGOTIABLE.into_iter().flat_map(cases)
}

fn htlc_found(commitment: &CommitmentTransaction, output: &HtlcOutput, height: u32) -> Found {
    Found {
        outpoint: OutPoint { txid: commitment.txid(), vout: output.output_index },
        output: commitment.transaction().output[output.output_index as usize].clone(),
        height,
    }
}

#[test]
fn every_claim_takes_its_output_before_the_interpreter_and_the_checker() {
    for case in all_cases() {
        let signed = case.signed(case.transaction());
        let what = format!("{} in {:?}", case.name, case.format);
        assert_eq!(case.claim.check(), Ok(()), "{what}");
        assert_eq!(case.claim.check_witness(&signed, POSITION), Ok(()), "{what}");
        assert!(spends(&signed, POSITION, &case.claim.output), "{what}");
    }
}

#[test]
fn every_kind_of_claim_is_among_the_cases() {
    let position = |kind| match kind {
        ClaimKind::ToLocal => 0,
        ClaimKind::ToRemote => 1,
        ClaimKind::HtlcSuccess { .. } => 2,
        ClaimKind::HtlcTimeout { .. } => 3,
        ClaimKind::SecondStage { .. } => 4,
        ClaimKind::PenaltyToLocal => 5,
        ClaimKind::PenaltyHtlc => 6,
        ClaimKind::PenaltySecondStage => 7,
    };
    for format in CommitmentFormat::NEGOTIABLE {
        let mut counts = [0; 8];
        cases(format).iter().for_each(|case| counts[position(case.claim.kind)] += 1);
        assert_eq!(counts, [1, 1, 2, 2, 2, 1, 2, 2]);
    }
}

/// A lock time or relative lock of n is kept by the block n, or n after the output's; the expiry is 800,000.
#[test]
fn a_claim_says_from_when_on_until_when_and_whether_alone() {
    let expiry = 800_000;
    let alone = |height| Contest::From { height };
    for case in all_cases() {
        let wait = u32::from(case.format == CommitmentFormat::AnchorsZeroFeeHtlc);
        let expected = match case.name {
            "to_local" => (HEIGHT + 144, Contest::Never, None),
            "second stage of a timeout" | "second stage of a success" => {
                (SECOND_HEIGHT + 144, Contest::Never, None)
            }
            "to_remote" => (HEIGHT + wait, Contest::Never, None),
            "own HTLC success" | "their HTLC success" => (HEIGHT + wait, alone(expiry + 1), Some(expiry)),
            "own HTLC timeout" | "their HTLC timeout" => (expiry + 1, Contest::Now, Some(expiry + 13)),
            "penalty of to_local" => (HEIGHT, alone(HEIGHT + 144), Some(HEIGHT + 143)),
            "penalty of an offered HTLC" => (HEIGHT, alone(expiry + 1), Some(HEIGHT + 143)),
            "penalty of a received HTLC" => (HEIGHT, Contest::Now, Some(HEIGHT + 143)),
            "penalty of a second stage" => {
                (SECOND_HEIGHT, alone(SECOND_HEIGHT + 144), Some(SECOND_HEIGHT + 143))
            }
            other => panic!("{other}: not in the table"),
        };
        let claim = &case.claim;
        assert_eq!((claim.earliest_height, claim.contest, claim.deadline), expected, "{}", case.name);
    }
}

#[test]
fn an_htlc_whose_commitment_confirms_near_its_expiry_or_after_is_contested_at_once() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let (commitment, _) = pair.accepter.sign_for(&pair.opener, &spec_with_htlcs());
    let theirs = Theirs { context: &pair.accepter.context, keys: commitment.keys() };
    assert_eq!(commitment.htlcs().len(), 2);
    for output in commitment.htlcs() {
        let at = |height| {
            let claim = theirs.htlc(&output.htlc, Some(&preimage()), htlc_found(&commitment, output, height));
            let claim = claim.unwrap();
            (claim.earliest_height, claim.contest, claim.deadline)
        };
        let alone = Contest::From { height: 800_001 };
        let (early, near, late) = match output.htlc.direction {
            HtlcDirection::Offered => (
                (799_999, alone, Some(800_000)),
                (800_000, Contest::Now, Some(800_000)),
                (810_000, Contest::Now, Some(800_000)),
            ),
            HtlcDirection::Received => (
                (800_001, Contest::Now, Some(800_013)),
                (800_001, Contest::Now, Some(800_013)),
                (810_000, Contest::Now, Some(810_012)),
            ),
        };
        assert_eq!([at(799_999), at(800_000), at(810_000)], [early, near, late]);
    }
}

#[test]
fn no_input_weighs_more_than_it_says_and_the_longest_signature_as_much() {
    for case in all_cases() {
        let bound = case.claim.input_weight();
        let weigh = |sat| {
            let mut transaction = case.transaction();
            transaction.output[0].value = Amount::from_sat(sat);
            case.signed(transaction).input[POSITION].segwit_weight()
        };
        let most = (0..16).map(weigh).max().unwrap();
        assert!(most <= bound, "{}: {most} > {bound}", case.name);
        // The countersignature is what it is, and may be a byte shorter.
        let slack = u64::from(case.is_htlc_transaction());
        assert!(bound.to_wu() - most.to_wu() <= slack, "{}: {most} < {bound}", case.name);
    }
}

#[test]
fn a_claim_is_signed_for_its_own_input_by_its_own_secret_only() {
    for case in all_cases() {
        let (signer, key) = (&case.party.signer, &case.party.key);
        let transaction = case.transaction();
        for index in [0, 2] {
            let refused = Err(SignerError::Claim(ClaimError::WrongInput { index }));
            assert_eq!(signer.sign_claim(key, &case.claim, &transaction, index), refused);
        }
        let refused = Err(SignerError::ForeignKey);
        let mut foreign = case.claim.clone();
        foreign.public_key = signer.node_id();
        assert_eq!(signer.sign_claim(key, &foreign, &transaction, POSITION), refused);
        let mut foreign = case.claim.clone();
        foreign.key = match foreign.key {
            SpendKey::Delayed { number } => SpendKey::Delayed { number: number + 1 },
            SpendKey::HolderHtlc { number } => SpendKey::HolderHtlc { number: number + 1 },
            SpendKey::Payment { .. } => SpendKey::Payment { key: signer.node_id() },
            SpendKey::CounterpartyHtlc { .. } => {
                SpendKey::CounterpartyHtlc { per_commitment_point: signer.node_id() }
            }
            SpendKey::Revocation { .. } => SpendKey::Revocation { secret: signer.release_secret(key, 0) },
        };
        assert_eq!(signer.sign_claim(key, &foreign, &transaction, POSITION), refused);
        let other_channel = KeyId::from_bytes([77; 32]);
        let answer = signer.sign_claim(&other_channel, &case.claim, &transaction, POSITION);
        match case.claim.key {
            // A payment key belongs to the seed.
            SpendKey::Payment { .. } => assert!(answer.is_ok()),
            SpendKey::Delayed { .. }
            | SpendKey::HolderHtlc { .. }
            | SpendKey::CounterpartyHtlc { .. }
            | SpendKey::Revocation { .. } => assert_eq!(answer, refused),
        }
    }
}

#[test]
fn a_received_htlc_is_claimed_with_its_preimage_and_no_other() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let (owner, spec) = (&pair.opener, spec_with_htlcs());
    let commitment = owner.own(&spec);
    let (_, countersigned) = pair.accepter.sign_for(owner, &spec);
    let wrong = PaymentPreimage::from_bytes([0; 32]);
    let own = Own { context: &owner.context, keys: commitment.keys(), number: spec.number };
    let theirs = Theirs { context: &pair.accepter.context, keys: commitment.keys() };
    for (output, countersignature) in commitment.htlcs().iter().zip(&countersigned.htlcs) {
        let found = || htlc_found(&commitment, output, HEIGHT);
        let htlc = &output.htlc;
        let from_own = |preimage| own.htlc(OwnHtlc { htlc, countersignature, preimage }, found()).map(|_| ());
        let from_theirs = |preimage| theirs.htlc(htlc, preimage, found()).map(|_| ());
        let (paid_by_preimage, by_time): ([_; 2], [_; 2]) = match htlc.direction {
            HtlcDirection::Received => {
                ([from_own(None), from_own(Some(&wrong))], [from_theirs(None), from_theirs(Some(&wrong))])
            }
            HtlcDirection::Offered => {
                ([from_theirs(None), from_theirs(Some(&wrong))], [from_own(None), from_own(Some(&wrong))])
            }
        };
        assert_eq!(paid_by_preimage, [Err(Unclaimable::PreimageUnknown), Err(Unclaimable::WrongPreimage)]);
        assert_eq!(by_time, [Ok(()), Ok(())]);

        let point = commitment.keys().per_commitment_point;
        let (signer, key) = (&pair.accepter.signer, &pair.accepter.key);
        let context = &pair.accepter.context;
        let keys = signer.counterparty_commitment_keys(key, context, &point, HtlcOutputs::Absent);
        let keyless = Theirs { context, keys: &keys };
        let result = keyless.htlc(htlc, Some(&preimage()), found());
        assert_eq!(result, Err(Unclaimable::HtlcKeysMissing));
    }
}

#[test]
fn a_preimage_is_read_from_both_kinds_of_claim_and_from_nothing_else() {
    for case in all_cases() {
        let signed = case.signed(case.transaction());
        let shown = preimage_in(&signed.input[POSITION].witness);
        match case.claim.kind {
            ClaimKind::HtlcSuccess { .. } => assert_eq!(shown, Some(preimage())),
            ClaimKind::ToLocal
            | ClaimKind::ToRemote
            | ClaimKind::HtlcTimeout { .. }
            | ClaimKind::SecondStage { .. }
            | ClaimKind::PenaltyToLocal
            | ClaimKind::PenaltyHtlc
            | ClaimKind::PenaltySecondStage => assert_eq!(shown, None, "{}", case.name),
        }
    }
    for elements in [0, 1, 2, 4, 6] {
        assert_eq!(preimage_in(&Witness::from_slice(&vec![[1; 32]; elements])), None);
    }
}

#[test]
fn a_signature_out_of_range_makes_no_witness() {
    for case in all_cases() {
        let out_of_range = CompactSignature::from_bytes([0xff; 64]);
        assert!(case.claim.witness(&out_of_range).is_err());
    }
}

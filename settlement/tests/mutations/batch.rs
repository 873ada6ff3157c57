//! A batch of tickets: one thing changed, exactly the flaw of the rule broken.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, Sequence, TxOut, WPubkeyHash, Witness, ecdsa};
use channel::amount::Msat;
use channel::closing::{BatchSighashes, TicketFlaw};
use channel::keys::CompactSignature;
use channel::signer::Signer;
use channel::witness::{OwnedSignature, funding};
use settlement::fees::{FeeBounds, fee_for};
use settlement::flaw::{Flaw, Party};
use settlement::limits;
use settlement::verify::{BatchJob, CloseJob, CoinFlaw};

use super::{Kind, assert_each_rule_was_found};
use crate::common::{
    COIN, HUB_OUTPUT, LONE, Shape, fixture_tickets, hub, hub_script, interpreter_accepts, outpoint, sat,
    spent_outputs, ticket, valid_p2tr, valid_p2wpkh, wallet,
};

fn flaw_of(job: BatchJob) -> Flaw {
    CloseJob::Batch(job).verify().unwrap_err()
}

/// Replaces an element of an input's witness.
fn set_element(job: &mut BatchJob, input: usize, element: usize, bytes: &[u8]) {
    let mut elements = job.transaction.input[input].witness.to_vec();
    elements[element] = bytes.to_vec();
    job.transaction.input[input].witness = Witness::from_slice(&elements);
}

fn element(job: &BatchJob, input: usize, element: usize) -> Vec<u8> {
    job.transaction.input[input].witness.nth(element).unwrap().to_vec()
}

/// The element of a ticket's witness that holds this party's signature.
fn signature_of(job: &BatchJob, input: usize, party: Party) -> usize {
    let spec = &job.tickets[input];
    let wallet_first = spec.wallet_key <= spec.hub_key;
    match (party, wallet_first) {
        (Party::Wallet, true) | (Party::Hub, false) => 1,
        (Party::Wallet, false) | (Party::Hub, true) => 2,
    }
}

fn with_sighash_type(job: &mut BatchJob, input: usize, party: Party, sighash_type: EcdsaSighashType) {
    let place = signature_of(job, input, party);
    let mut bytes = element(job, input, place);
    *bytes.last_mut().unwrap() = u8::try_from(sighash_type.to_u32()).unwrap();
    set_element(job, input, place, &bytes);
}

fn stranger() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(bitcoin::hashes::Hash::hash(b"a stranger")))
}

struct Case {
    change: fn(&mut BatchJob),
    flaw: Flaw,
}

fn case(change: fn(&mut BatchJob), flaw: Flaw) -> Case {
    Case { change, flaw }
}

fn form_cases() -> Vec<Case> {
    vec![
        case(
            |job| job.transaction.version = Version::non_standard(3),
            Flaw::Version { found: Version::non_standard(3), expected: Version::TWO },
        ),
        case(
            |job| job.transaction.lock_time = LockTime::from_consensus(1),
            Flaw::LockTime { found: LockTime::from_consensus(1), expected: LockTime::ZERO },
        ),
        case(|job| job.tickets.clear(), Flaw::NoTickets),
        case(|job| job.tickets.swap(2, LONE), Flaw::TicketOrder { index: LONE }),
        case(
            |job| job.tickets[1].wallet_balance = Msat::new(100_000_001).unwrap(),
            Flaw::Ticket {
                index: 1,
                flaw: TicketFlaw::BalanceExceedsFunding {
                    balance: Msat::new(100_000_001).unwrap(),
                    funding: sat(100_000),
                },
            },
        ),
        case(
            |job| {
                job.transaction.input.pop();
            },
            Flaw::InputCount { found: COIN, expected: COIN + 1 },
        ),
        case(
            |job| job.transaction.input.push(job.transaction.input[0].clone()),
            Flaw::InputCount { found: COIN + 2, expected: COIN + 1 },
        ),
        case(
            |job| job.transaction.input[2].previous_output = job.transaction.input[0].previous_output,
            Flaw::DuplicateInput { index: 2, outpoint: outpoint(0) },
        ),
        case(
            |job| job.transaction.input.swap(0, 1),
            Flaw::Input { index: 0, found: outpoint(1), expected: outpoint(0) },
        ),
        case(
            |job| job.transaction.input[LONE].sequence = Sequence::MAX,
            Flaw::Sequence { index: LONE, found: Sequence::MAX, expected: Sequence(0xffff_fffd) },
        ),
        case(
            |job| job.transaction.input[1].script_sig = ScriptBuf::from_bytes(vec![0]),
            Flaw::ScriptSig { index: 1 },
        ),
    ]
}

fn output_cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            |job| job.transaction.output.truncate(2),
            Flaw::MissingPayout { index: 2, expected: sat(99_900) },
        ),
        case(
            |job| job.transaction.output[1].value = sat(99_899),
            Flaw::PayoutAmount { index: 1, found: sat(99_899), expected: sat(99_900) },
        ),
        case(
            |job| job.transaction.output[0].script_pubkey = stranger(),
            Flaw::PayoutScript { index: 0, found: stranger(), expected: crate::common::wallet_script(0) },
        ),
        case(
            |job| job.transaction.output.push(TxOut { value: sat(1_000), script_pubkey: stranger() }),
            Flaw::ForeignOutput { index: HUB_OUTPUT + 1, value: sat(1_000) },
        ),
        case(
            |job| job.transaction.output[HUB_OUTPUT].value = sat(329),
            Flaw::Dust { index: HUB_OUTPUT, value: sat(329), minimum: sat(330) },
        ),
        case(
            |job| {
                job.tickets = vec![job.tickets[LONE].clone()];
                job.coins.clear();
                job.transaction.input = vec![job.transaction.input[LONE].clone()];
                job.transaction.output.clear();
            },
            Flaw::NoOutputs,
        ),
        case(|job| job.coins[0].output.value = Amount::MAX_MONEY, Flaw::ImpossibleSum),
        case(
            |job| job.transaction.output[HUB_OUTPUT].value = sat(2_001_301),
            Flaw::Overspent { inputs: sat(2_301_000), outputs: sat(2_301_001) },
        ),
    ];
    // The numbers of these follow from the valid batch.
    let job = valid_p2wpkh();
    let paid: u64 = job.transaction.output[..HUB_OUTPUT].iter().map(|output| output.value.to_sat()).sum();
    let (weight, without_hub) = (job.transaction.weight().to_wu(), 2_301_000 - paid);
    let minimum = sat((weight * 253).div_ceil(1_000));
    cases.push(case(
        |job| job.transaction.output[HUB_OUTPUT].value = sat(2_001_300 - 100),
        Flaw::FeeTooLow { found: sat(100), minimum },
    ));
    cases.push(case(
        |job| job.transaction.output[HUB_OUTPUT].value = sat(400),
        Flaw::FeeTooHigh { found: sat(without_hub - 400), maximum: sat((weight * 125_000).div_ceil(1_000)) },
    ));
    let fee = without_hub - job.transaction.output[HUB_OUTPUT].value.to_sat();
    cases.push(case(
        |job| job.max_hub_fee = sat(1_000),
        Flaw::HubFee { found: sat(fee - 3 * 100 - 200), maximum: sat(1_000) },
    ));
    cases.push(case(split_the_hubs_output, {
        let mut heavy = job.clone();
        split_the_hubs_output(&mut heavy);
        Flaw::Weight { found: heavy.transaction.weight(), maximum: limits::STANDARD_WEIGHT }
    }));
    cases
}

fn split_the_hubs_output(job: &mut BatchJob) {
    let part = TxOut { value: sat(400), script_pubkey: hub_script() };
    job.transaction.output.truncate(HUB_OUTPUT);
    job.transaction.output.extend(std::iter::repeat_n(part, 2_400));
}

fn witness_cases() -> Vec<Case> {
    let sighash_type = |party, found, expected| Flaw::SighashType { index: 1, party, found, expected };
    vec![
        case(|job| job.transaction.input[1].witness.push([1]), Flaw::WitnessForm { index: 1, found: 5 }),
        case(|job| set_element(job, 1, 0, &[1]), Flaw::WitnessForm { index: 1, found: 4 }),
        case(|job| job.transaction.input[1].witness.clear(), Flaw::WitnessForm { index: 1, found: 0 }),
        case(
            |job| {
                let other = element(job, 0, 3);
                set_element(job, 1, 3, &other);
            },
            Flaw::WitnessScript { index: 1 },
        ),
        case(
            |job| set_element(job, 1, signature_of(job, 1, Party::Wallet), &[0x30]),
            Flaw::SignatureEncoding { index: 1, party: Party::Wallet },
        ),
        case(
            |job| set_element(job, LONE, signature_of(job, LONE, Party::Hub), &[]),
            Flaw::SignatureEncoding { index: LONE, party: Party::Hub },
        ),
        case(
            |job| with_sighash_type(job, 1, Party::Wallet, EcdsaSighashType::All),
            sighash_type(Party::Wallet, EcdsaSighashType::All, EcdsaSighashType::SinglePlusAnyoneCanPay),
        ),
        case(
            |job| with_sighash_type(job, 1, Party::Hub, EcdsaSighashType::SinglePlusAnyoneCanPay),
            sighash_type(Party::Hub, EcdsaSighashType::SinglePlusAnyoneCanPay, EcdsaSighashType::All),
        ),
        case(
            |job| with_sighash_type(job, LONE, Party::Wallet, EcdsaSighashType::SinglePlusAnyoneCanPay),
            Flaw::SighashType {
                index: LONE,
                party: Party::Wallet,
                found: EcdsaSighashType::SinglePlusAnyoneCanPay,
                expected: EcdsaSighashType::NonePlusAnyoneCanPay,
            },
        ),
        case(
            |job| {
                let mut other =
                    ticket(1, Shape { funding_sat: 100_000, balance_msat: 99_000_000, fee_sat: 100 });
                other.spec.funding_outpoint = outpoint(1);
                let signature = ecdsa::Signature {
                    signature: other.signature.parse().unwrap(),
                    sighash_type: EcdsaSighashType::SinglePlusAnyoneCanPay,
                };
                set_element(job, 1, signature_of(job, 1, Party::Wallet), &signature.serialize());
            },
            Flaw::Signature { index: 1, party: Party::Wallet },
        ),
        case(
            // The hub's output is changed after it signed: every signature of the wallets still holds.
            |job| job.transaction.output[HUB_OUTPUT].value -= sat(1),
            Flaw::Signature { index: 0, party: Party::Hub },
        ),
        case(
            |job| set_element(job, COIN, 1, &element(job, 0, 1)),
            Flaw::Coin { index: COIN, flaw: CoinFlaw::Encoding },
        ),
    ]
}

#[test]
fn the_unchanged_batch_is_valid() {
    for job in [valid_p2wpkh(), valid_p2tr()] {
        assert!(interpreter_accepts(&job.transaction, &spent_outputs(&job)));
        CloseJob::Batch(job).verify().unwrap();
    }
}

#[test]
fn each_change_is_found_by_its_rule_and_each_rule_has_a_change() {
    let mut found = Vec::new();
    for case in [form_cases(), output_cases(), witness_cases()].into_iter().flatten() {
        let mut job = valid_p2wpkh();
        (case.change)(&mut job);
        assert_eq!(flaw_of(job), case.flaw);
        found.push(case.flaw);
    }
    assert_each_rule_was_found(Kind::Batch, found);
}

#[test]
fn the_rules_of_tickets_are_kept_in_a_batch() {
    let mut job = valid_p2wpkh();
    job.tickets[0].dust_limit = sat(353);
    let flaw = TicketFlaw::DustLimitOutOfRange { dust_limit: sat(353) };
    assert_eq!(flaw_of(job), Flaw::Ticket { index: 0, flaw });
    let mut job = valid_p2wpkh();
    job.tickets[2].wallet_script = ScriptBuf::from_bytes(vec![0x6a]);
    assert_eq!(flaw_of(job), Flaw::Ticket { index: 2, flaw: TicketFlaw::NonStandardScript });
}

/// A change of the hub's coin and the flaw that it makes.
type CoinCase = (fn(&mut BatchJob), CoinFlaw);

#[test]
fn each_flaw_of_a_coin_is_found() {
    let cases: [CoinCase; 5] = [
        (|job| job.transaction.input[COIN].witness.push([1]), CoinFlaw::Elements { found: 3, expected: 2 }),
        (|job| set_element(job, COIN, 0, &[0x30]), CoinFlaw::Encoding),
        (
            |job| {
                let mut signature = element(job, COIN, 0);
                *signature.last_mut().unwrap() = 0x81;
                set_element(job, COIN, 0, &signature);
            },
            CoinFlaw::Sighash,
        ),
        (
            |job| {
                let other = job.tickets[0].hub_key;
                set_element(job, COIN, 1, other.as_bytes());
            },
            CoinFlaw::Key,
        ),
        (
            |job| {
                let place = signature_of(job, 0, Party::Wallet);
                let mut signature = element(job, 0, place);
                *signature.last_mut().unwrap() = 0x01;
                set_element(job, COIN, 0, &signature);
            },
            CoinFlaw::Signature,
        ),
    ];
    for (change, flaw) in cases {
        let mut job = valid_p2wpkh();
        change(&mut job);
        assert_eq!(flaw_of(job), Flaw::Coin { index: COIN, flaw });
    }
    let mut job = valid_p2wpkh();
    job.coins[0].output.script_pubkey = ScriptBuf::new_p2a();
    assert_eq!(flaw_of(job), Flaw::Coin { index: COIN, flaw: CoinFlaw::Script });

    let taproot: [CoinCase; 4] = [
        (|job| job.transaction.input[COIN].witness.push([1]), CoinFlaw::Elements { found: 2, expected: 1 }),
        (|job| set_element(job, COIN, 0, &[7; 63]), CoinFlaw::Encoding),
        (
            |job| {
                let mut signature = element(job, COIN, 0);
                signature.push(0x83);
                set_element(job, COIN, 0, &signature);
            },
            CoinFlaw::Sighash,
        ),
        (|job| set_element(job, COIN, 0, &[7; 64]), CoinFlaw::Signature),
    ];
    for (change, flaw) in taproot {
        let mut job = valid_p2tr();
        change(&mut job);
        assert_eq!(flaw_of(job), Flaw::Coin { index: COIN, flaw });
    }
}

#[test]
fn a_batch_built_for_other_amounts_than_the_chains_is_refused() {
    // The hub's signature covers the amounts of what it spends: a wrong one in our books makes it invalid.
    let mut job = valid_p2wpkh();
    job.tickets[0].funding_amount = sat(100_001);
    assert_eq!(flaw_of(job), Flaw::Signature { index: 0, party: Party::Wallet });
}

#[test]
fn a_ticket_signed_as_single_beyond_the_outputs_is_refused() {
    // A wallet below dust that signs SINGLE would hand over the whole channel to whoever adds outputs.
    let mut job = valid_p2wpkh();
    let spec = job.tickets[LONE].clone();
    let key_id = fixture_tickets()[LONE].key_id;
    let mut sighashes = BatchSighashes::new(&job.transaction);
    let hub_signature = hub().sign_closing_input(&key_id, &sighashes.sighash(LONE, &spec).unwrap());
    let wallet_signature: CompactSignature = wallet().sign_ticket(&key_id, &spec).unwrap();
    job.transaction.input[LONE].witness = funding(
        &spec.witness_script(),
        OwnedSignature::new(spec.wallet_key, &wallet_signature, EcdsaSighashType::SinglePlusAnyoneCanPay)
            .unwrap(),
        OwnedSignature::new(spec.hub_key, &hub_signature, EcdsaSighashType::All).unwrap(),
    );
    assert!(matches!(flaw_of(job), Flaw::SighashType { index: LONE, party: Party::Wallet, .. }));
}

#[test]
fn floor_and_ceiling_are_inclusive() {
    let bounds = FeeBounds::default();
    let job = valid_p2wpkh();
    let weight = job.transaction.weight();
    let paid: u64 = job.transaction.output[..HUB_OUTPUT].iter().map(|output| output.value.to_sat()).sum();
    let with_fee = |fee: u64| {
        let mut job = job.clone();
        job.transaction.output[HUB_OUTPUT].value = sat(2_301_000 - paid - fee);
        flaw_of(job)
    };
    let (lowest, highest) = (fee_for(bounds.floor(), weight), fee_for(bounds.ceiling(), weight));
    // A fee within the bounds is next found not to be what the hub signed.
    let signature = Flaw::Signature { index: 0, party: Party::Hub };
    assert_eq!(with_fee(lowest.to_sat()), signature);
    assert_eq!(with_fee(highest.to_sat()), signature);
    assert!(matches!(with_fee(lowest.to_sat() - 1), Flaw::FeeTooLow { .. }));
    assert!(matches!(with_fee(highest.to_sat() + 1), Flaw::FeeTooHigh { .. }));
}

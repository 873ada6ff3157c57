//! One thing about a good claim is changed: the checker names it, and Bitcoin's interpreter refuses it too.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, Sequence, Transaction, TxOut, Witness, ecdsa};
use channel::bytes::PaymentPreimage;
use channel::claim::{self, Claim, ClaimError, Found, SpendPath, Unlock};
use channel::format::CommitmentFormat;
use channel::scripts;
use channel::signer::Signer;

use super::claim_cases::{Case, POSITION, cases, foreign_signature};
use super::pair::spends;

/// A claim and its transaction, one of them broken; `None` where the change does not apply.
type Break = fn(&Case) -> Option<(Claim, Transaction, ClaimError)>;

const BREAKS: [(&str, Break); 22] = [
    ("the signature of another key", foreign_key_signs),
    ("another key in the claim", foreign_key_claimed),
    ("another preimage in the claim", wrong_preimage_claimed),
    ("another preimage in the witness", wrong_preimage_shown),
    ("a lock time below the transaction's expiry", lock_time_too_low),
    ("a lock time below the expiry in the claim", lock_time_claimed_too_low),
    ("a lock time switched off", lock_time_switched_off),
    ("a sequence below the delay", sequence_too_low),
    ("a sequence below the delay in the claim", sequence_claimed_too_low),
    ("less in the output that the counterparty signed", pair_pays_less),
    ("the output that the counterparty signed elsewhere", pair_elsewhere),
    ("no output at the pair's position", pair_missing),
    ("another type of our signature", sighash_type_flipped),
    ("another type of the counterparty's signature", countersignature_type_flipped),
    ("both signatures swapped", signatures_swapped),
    ("a signature of another transaction", signature_of_another_transaction),
    ("another countersignature", foreign_countersignature),
    ("another countersignatory", foreign_countersignatory),
    ("another version", wrong_version),
    ("a script in the input", script_in_the_input),
    ("another script", foreign_script),
    ("an element too many", element_too_many),
];

#[test]
fn a_claim_broken_in_one_way_is_refused_by_name_and_by_the_interpreter() {
    let mut applied = [0; BREAKS.len()];
    let mut seen = BTreeSet::new();
    for case in CommitmentFormat::NEGOTIABLE.into_iter().flat_map(cases) {
        for (count, (what, make)) in applied.iter_mut().zip(BREAKS) {
            let Some((claim, transaction, expected)) = make(&case) else { continue };
            let what = format!("{} in {:?}, {what}", case.name, case.format);
            assert_eq!(claim.check_witness(&transaction, POSITION), Err(expected), "{what}");
            assert!(!spends(&transaction, POSITION, &case.claim.output), "{what}");
            *count += 1;
            seen.insert(name(expected));
        }
        // Of no matter to the interpreter, which is told the input.
        let signed = case.signed(case.transaction());
        for index in [0, 2] {
            let refused = ClaimError::WrongInput { index };
            assert_eq!(case.claim.check_witness(&signed, index), Err(refused));
            seen.insert(name(refused));
        }
    }
    for (count, (what, _)) in applied.iter().zip(BREAKS) {
        assert!(*count > 0, "{what}: applies to no case");
    }
    assert_eq!(seen.len(), RULES, "rules that no case breaks: {seen:?}");
}

const RULES: usize = 14;

fn name(error: ClaimError) -> &'static str {
    match error {
        ClaimError::Script => "script",
        ClaimError::ForeignKey => "foreign key",
        ClaimError::WrongPreimage => "wrong preimage",
        ClaimError::ClaimTooEarly => "too early",
        ClaimError::WrongInput { .. } => "wrong input",
        ClaimError::ScriptSig => "script in the input",
        ClaimError::WrongSequence { .. } => "wrong sequence",
        ClaimError::WrongLockTime { .. } => "wrong lock time",
        ClaimError::WrongVersion { .. } => "wrong version",
        ClaimError::WrongPair { .. } => "wrong pair",
        ClaimError::Witness => "witness",
        ClaimError::SighashType => "sighash type",
        ClaimError::Signature => "signature",
        ClaimError::Countersignature => "countersignature",
    }
}

/// Signs a transaction for a claim that the signer may refuse, with the case's own secret all the same.
fn resign(case: &Case, claim: &Claim, mut transaction: Transaction) -> Transaction {
    let signature = case.sign(&transaction);
    transaction.input[POSITION].witness = claim.witness(&signature).unwrap();
    transaction
}

fn witness_changed(case: &Case, change: impl Fn(&mut Vec<Vec<u8>>)) -> Transaction {
    let mut transaction = case.signed(case.transaction());
    let mut elements = transaction.input[POSITION].witness.to_vec();
    change(&mut elements);
    transaction.input[POSITION].witness = Witness::from_slice(&elements);
    transaction
}

fn our_signature_at(case: &Case) -> usize {
    if case.is_htlc_transaction() { 2 } else { 0 }
}

fn foreign_key_signs(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut transaction = case.transaction();
    let signature = foreign_signature(&case.claim.sighash(&transaction, POSITION).unwrap());
    transaction.input[POSITION].witness = case.claim.witness(&signature).unwrap();
    Some((case.claim.clone(), transaction, ClaimError::Signature))
}

fn foreign_key_claimed(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut claim = case.claim.clone();
    claim.public_key = case.party.signer.node_id();
    let mut transaction = case.transaction();
    let signature = foreign_signature(&claim.sighash(&transaction, POSITION).unwrap());
    transaction.input[POSITION].witness = claim.witness(&signature).unwrap();
    Some((claim, transaction, ClaimError::ForeignKey))
}

fn wrong_preimage_claimed(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let wrong = PaymentPreimage::from_bytes([0; 32]);
    let mut claim = case.claim.clone();
    match &mut claim.path {
        SpendPath::Direct { unlock: Unlock::Preimage(preimage), .. }
        | SpendPath::HtlcTransaction { preimage: Some(preimage), .. } => *preimage = wrong,
        SpendPath::Direct { .. } | SpendPath::HtlcTransaction { .. } => return None,
    }
    let transaction = resign(case, &claim, case.transaction());
    Some((claim, transaction, ClaimError::WrongPreimage))
}

fn wrong_preimage_shown(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let (_, transaction, _) = wrong_preimage_claimed(case)?;
    Some((case.claim.clone(), transaction, ClaimError::Witness))
}

fn lock_time_too_low(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let expected = case.claim.lock_time();
    let found = LockTime::from_consensus(expected.to_consensus_u32().checked_sub(1)?);
    let mut transaction = case.transaction();
    transaction.lock_time = found;
    let transaction = case.signed(transaction);
    Some((case.claim.clone(), transaction, ClaimError::WrongLockTime { found, expected }))
}

fn lock_time_claimed_too_low(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let (mut claim, transaction, _) = lock_time_too_low(case)?;
    let (SpendPath::Direct { lock_time, .. } | SpendPath::HtlcTransaction { lock_time, .. }) =
        &mut claim.path;
    *lock_time = transaction.lock_time;
    let error = if case.is_htlc_transaction() {
        // Nothing in its script says so; the counterparty signed no earlier transaction.
        ClaimError::Countersignature
    } else {
        ClaimError::ClaimTooEarly
    };
    Some((claim, transaction, error))
}

fn lock_time_switched_off(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut claim = case.claim.clone();
    match &mut claim.path {
        SpendPath::Direct { unlock: Unlock::Expired, sequence, .. } => *sequence = Sequence::MAX,
        SpendPath::Direct { .. } | SpendPath::HtlcTransaction { .. } => return None,
    }
    let mut transaction = case.transaction();
    transaction.input[POSITION].sequence = Sequence::MAX;
    let transaction = case.signed(transaction);
    Some((claim, transaction, ClaimError::ClaimTooEarly))
}

fn sequence_too_low(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let expected = case.claim.sequence();
    if !expected.is_relative_lock_time() || expected == Sequence::ZERO {
        return None;
    }
    let found = Sequence(expected.to_consensus_u32() - 1);
    let mut transaction = case.transaction();
    transaction.input[POSITION].sequence = found;
    let transaction = case.signed(transaction);
    Some((case.claim.clone(), transaction, ClaimError::WrongSequence { found, expected }))
}

fn sequence_claimed_too_low(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let (mut claim, transaction, _) = sequence_too_low(case)?;
    let (SpendPath::Direct { sequence, .. } | SpendPath::HtlcTransaction { sequence, .. }) = &mut claim.path;
    *sequence = transaction.input[POSITION].sequence;
    Some((claim, transaction, ClaimError::ClaimTooEarly))
}

fn with_outputs(case: &Case, change: fn(&mut Transaction)) -> Option<(Claim, Transaction, ClaimError)> {
    case.is_htlc_transaction().then(|| {
        let mut transaction = case.transaction();
        change(&mut transaction);
        (case.claim.clone(), case.signed(transaction), ClaimError::WrongPair { index: POSITION })
    })
}

fn pair_pays_less(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    with_outputs(case, |transaction| transaction.output[POSITION].value -= Amount::ONE_SAT)
}

fn pair_elsewhere(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    with_outputs(case, |transaction| transaction.output.swap(0, POSITION))
}

fn pair_missing(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    with_outputs(case, |transaction| transaction.output.truncate(POSITION))
}

fn sighash_type_flipped(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let transaction = witness_changed(case, |elements| {
        *elements[our_signature_at(case)].last_mut().unwrap() = EcdsaSighashType::None as u8;
    });
    Some((case.claim.clone(), transaction, ClaimError::SighashType))
}

fn countersignature_type_flipped(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let transaction = case.is_htlc_transaction().then(|| {
        witness_changed(case, |elements| *elements[1].last_mut().unwrap() = EcdsaSighashType::All as u8)
    })?;
    Some((case.claim.clone(), transaction, ClaimError::Witness))
}

fn signatures_swapped(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let transaction =
        case.is_htlc_transaction().then(|| witness_changed(case, |elements| elements.swap(1, 2)))?;
    Some((case.claim.clone(), transaction, ClaimError::SighashType))
}

fn signature_of_another_transaction(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut transaction = case.signed(case.transaction());
    transaction.output[0].value += Amount::ONE_SAT;
    Some((case.claim.clone(), transaction, ClaimError::Signature))
}

fn foreign_countersignature(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut claim = case.claim.clone();
    let transaction = case.transaction();
    let SpendPath::HtlcTransaction { countersignature, .. } = &mut claim.path else { return None };
    *countersignature = case.sign(&transaction);
    let transaction = resign(case, &claim, transaction);
    Some((claim, transaction, ClaimError::Countersignature))
}

fn foreign_countersignatory(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut claim = case.claim.clone();
    let mut transaction = case.transaction();
    let foreign = foreign_signature(&claim.sighash(&transaction, POSITION).unwrap());
    let SpendPath::HtlcTransaction { countersignature, countersignatory_key, .. } = &mut claim.path else {
        return None;
    };
    (*countersignature, *countersignatory_key) = (foreign, case.party.signer.node_id());
    transaction = resign(case, &claim, transaction);
    Some((claim, transaction, ClaimError::ForeignKey))
}

fn wrong_version(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut transaction = case.transaction();
    let found = match case.claim.fixed_version() {
        Some(version) => Version(5 - version.0),
        // Only where a relative lock time counts does the version matter to the interpreter.
        None if case.claim.sequence().is_relative_lock_time() => Version::ONE,
        None => return None,
    };
    transaction.version = found;
    let transaction = case.signed(transaction);
    Some((case.claim.clone(), transaction, ClaimError::WrongVersion { found }))
}

fn script_in_the_input(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut transaction = case.signed(case.transaction());
    transaction.input[POSITION].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    Some((case.claim.clone(), transaction, ClaimError::ScriptSig))
}

fn foreign_script(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let mut claim = case.claim.clone();
    let foreign = ScriptBuf::from_bytes(vec![0x51]);
    match &mut claim.path {
        SpendPath::Direct { witness_script, .. } => *witness_script = Some(foreign),
        SpendPath::HtlcTransaction { witness_script, .. } => *witness_script = foreign,
    }
    let transaction = resign(case, &claim, case.transaction());
    Some((claim, transaction, ClaimError::Script))
}

fn element_too_many(case: &Case) -> Option<(Claim, Transaction, ClaimError)> {
    let transaction =
        witness_changed(case, |elements| elements.insert(our_signature_at(case) + 1, Vec::new()));
    Some((case.claim.clone(), transaction, ClaimError::Witness))
}

/// Each way to unlock an output goes with one script: a claim that takes another is refused before anything is signed.
#[test]
fn a_way_to_unlock_goes_with_its_own_script_only() {
    for case in CommitmentFormat::NEGOTIABLE.into_iter().flat_map(cases) {
        let unlocks = [
            Unlock::Key,
            Unlock::Signature,
            Unlock::Delayed,
            Unlock::RevokedDelayed,
            Unlock::RevokedHtlc,
            Unlock::Preimage(super::pair::preimage()),
            Unlock::Expired,
        ];
        for other in unlocks {
            let mut claim = case.claim.clone();
            let SpendPath::Direct { unlock, .. } = &mut claim.path else { continue };
            if *unlock == other {
                continue;
            }
            *unlock = other.clone();
            let refused = claim.check();
            let named = matches!(refused, Err(ClaimError::Script | ClaimError::ForeignKey));
            assert!(named, "{}: {other:?} gives {refused:?}", case.name);
        }
    }
}

/// Stricter than the interpreter: a signature that leaves the outputs open would let anybody take the money.
#[test]
fn a_signature_of_less_than_everything_is_refused_though_it_holds() {
    let secret = SecretKey::from_slice(&[42; 32]).unwrap();
    let key = secret.public_key(SECP256K1);
    for case in cases(CommitmentFormat::ZeroFeeCommitments) {
        let output = TxOut { script_pubkey: scripts::p2wpkh(&key), ..case.claim.output.clone() };
        let found = Found { outpoint: case.claim.outpoint, output, height: 1 };
        let claim = claim::to_remote(case.format, &key, found);
        let mut transaction = case.transaction();
        transaction.input[POSITION] = claim.unsigned_input();
        for (sighash_type, expected) in [
            (EcdsaSighashType::All, Ok(())),
            (EcdsaSighashType::None, Err(ClaimError::SighashType)),
            (EcdsaSighashType::SinglePlusAnyoneCanPay, Err(ClaimError::SighashType)),
        ] {
            let (script, value) = (&claim.output.script_pubkey, claim.output.value);
            let sighash = SighashCache::new(&transaction)
                .p2wpkh_signature_hash(POSITION, script, value, sighash_type)
                .unwrap();
            let signature = SECP256K1.sign_ecdsa(&Message::from(sighash), &secret);
            let signature = ecdsa::Signature { signature, sighash_type };
            transaction.input[POSITION].witness = Witness::p2wpkh(&signature, &key);
            assert!(spends(&transaction, POSITION, &claim.output));
            assert_eq!(claim.check_witness(&transaction, POSITION), expected);
        }
    }
}

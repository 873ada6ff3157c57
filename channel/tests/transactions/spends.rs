//! Every way to spend a commitment's outputs, in every format.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use channel::bytes::PaymentPreimage;
use channel::commitment::{CommitmentTransaction, HtlcDirection, OutputKind};
use channel::format::CommitmentFormat;
use channel::htlc_tx::{HtlcSignatures, HtlcWitnessError};
use channel::keys::{
    Basepoints, CommitmentKeys, HtlcOutputs, derive_private_key, derive_revocation_private_key,
};
use channel::parameters::{ChannelContext, PartyParameters, Side};
use channel::scripts;
use channel::signer::Signer;

use super::pair::{pair, preimage, spec_with_htlcs, spends};

#[test]
fn the_owner_publishes_its_commitment_with_both_signatures() {
    for format in CommitmentFormat::ALL {
        let pair = pair(format);
        let spec = spec_with_htlcs();
        for (owner, other) in [(&pair.opener, &pair.accepter), (&pair.accepter, &pair.opener)] {
            let commitment = owner.own(&spec);
            let (_, countersigned) = other.sign_for(owner, &spec);
            let signature =
                owner.signer.sign_holder_commitment(&owner.key, &owner.context, &commitment).unwrap();
            let signed = commitment.signed(&owner.context, &signature, &countersigned.commitment).unwrap();
            assert!(spends(&signed, 0, &owner.context.funding_output()));
            assert!(!spends(&signed, 0, &TxOut { value: Amount::ONE_SAT, ..owner.context.funding_output() }));
        }
    }
}

#[test]
fn an_htlc_transaction_takes_the_right_preimage_and_only_where_it_belongs() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let spec = spec_with_htlcs();
    let commitment = pair.opener.own(&spec);
    let (_, countersigned) = pair.accepter.sign_for(&pair.opener, &spec);
    let wrong = PaymentPreimage::from_bytes([0; 32]);
    for (transaction, countersignatory) in commitment.htlc_transactions().zip(countersigned.htlcs) {
        let signatures = HtlcSignatures { broadcaster: countersignatory, countersignatory };
        match transaction.spent_output().htlc.direction {
            HtlcDirection::Offered => {
                let result = transaction.witness(&signatures, Some(&preimage()));
                assert_eq!(result, Err(HtlcWitnessError::PreimageUnexpected));
            }
            HtlcDirection::Received => {
                let result = transaction.witness(&signatures, None);
                assert_eq!(result, Err(HtlcWitnessError::PreimageMissing));
                let result = transaction.witness(&signatures, Some(&wrong));
                assert_eq!(result, Err(HtlcWitnessError::WrongPreimage));
            }
        }
    }
}

fn foreign_input() -> TxIn {
    TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([8; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}

/// A published commitment whose secrets the test knows.
struct Published {
    commitment: CommitmentTransaction,
    format: CommitmentFormat,
    owner_secret: SecretKey,
    owner: SecretKey,
    other: SecretKey,
    to_other: ScriptBuf,
    to_other_script: Option<ScriptBuf>,
}

/// Both parties use one secret each for all basepoints.
fn publish(format: CommitmentFormat) -> Published {
    let secret = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
    let (owner, other, owner_secret) = (secret(11), secret(12), secret(13));
    let party = |secret: &SecretKey| {
        let point = secret.public_key(SECP256K1).into();
        let basepoints = Basepoints {
            funding: point,
            revocation: point,
            payment: point,
            delayed_payment: point,
            htlc: point,
        };
        PartyParameters { basepoints, to_self_delay_blocks: 144 }
    };
    let mut parameters = pair(format).opener.context.parameters().clone();
    parameters.holder = party(&owner);
    parameters.counterparty = party(&other);
    let context = ChannelContext::new(parameters).unwrap();
    let point = owner_secret.public_key(SECP256K1);
    let keys = CommitmentKeys::derive(&context, Side::Holder, &point, HtlcOutputs::Present);
    let commitment = CommitmentTransaction::build(&context, Side::Holder, &keys, &spec_with_htlcs()).unwrap();
    let (to_other, to_other_script) = scripts::to_countersignatory(format, &other.public_key(SECP256K1));
    Published { commitment, format, owner_secret, owner, other, to_other, to_other_script }
}

impl Published {
    fn derived(&self, secret: &SecretKey) -> SecretKey {
        let point = self.owner_secret.public_key(SECP256K1);
        derive_private_key(secret, &secret.public_key(SECP256K1), &point)
    }

    fn output(&self, index: u32) -> TxOut {
        self.commitment.transaction().output[index as usize].clone()
    }

    /// Spends one output to a script of no matter, with the elements that follow the signature.
    fn sweep(&self, index: u32, script: &ScriptBuf, with: Sweep<'_>) -> bool {
        let spent = self.output(index);
        let mut input = foreign_input();
        input.previous_output = OutPoint { txid: self.commitment.txid(), vout: index };
        input.sequence = Sequence(with.sequence);
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(with.lock_time),
            input: vec![input],
            output: vec![TxOut { value: Amount::from_sat(500), script_pubkey: self.to_other.clone() }],
        };
        let sighash = SighashCache::new(&transaction)
            .p2wsh_signature_hash(0, script, spent.value, EcdsaSighashType::All)
            .unwrap();
        let signature = SECP256K1.sign_ecdsa(&Message::from(sighash), with.secret);
        let witness = &mut transaction.input[0].witness;
        witness.push_ecdsa_signature(&bitcoin::ecdsa::Signature::sighash_all(signature));
        for element in with.elements {
            witness.push(element);
        }
        witness.push(script);
        spends(&transaction, 0, &spent)
    }
}

struct Sweep<'a> {
    secret: &'a SecretKey,
    elements: &'a [&'a [u8]],
    sequence: u32,
    lock_time: u32,
}

#[test]
fn the_owners_balance_waits_for_the_delay() {
    for format in CommitmentFormat::ALL {
        let published = publish(format);
        let index = published.commitment.output_index(OutputKind::ToBroadcaster).unwrap();
        let secret = published.derived(&published.owner);
        let sweep = |sequence| {
            let with = Sweep { secret: &secret, elements: &[&[]], sequence, lock_time: 0 };
            published.sweep(index, published.commitment.delayed_script(), with)
        };
        assert!(sweep(144));
        assert!(!sweep(143));
    }
}

#[test]
fn a_revoked_commitment_pays_everything_to_the_victim() {
    for format in CommitmentFormat::ALL {
        let published = publish(format);
        let revocation = derive_revocation_private_key(&published.other, &published.owner_secret);
        let key = revocation.public_key(SECP256K1).serialize();
        assert_eq!(revocation.public_key(SECP256K1), published.commitment.keys().revocation);
        // At once: from the output of an HTLC with anchors too, one block after the commitment.
        let sequence = u32::from(published.format.waits_one_block());
        let index = published.commitment.output_index(OutputKind::ToBroadcaster).unwrap();
        let with = Sweep { secret: &revocation, elements: &[&[1]], sequence, lock_time: 0 };
        assert!(published.sweep(index, published.commitment.delayed_script(), with));
        for htlc in published.commitment.htlcs() {
            let with = Sweep { secret: &revocation, elements: &[&key], sequence, lock_time: 0 };
            assert!(published.sweep(htlc.output_index, &htlc.witness_script, with));
        }
    }
}

#[test]
fn the_countersignatory_claims_htlcs_by_preimage_or_after_expiry() {
    for format in CommitmentFormat::ALL {
        let published = publish(format);
        let secret = published.derived(&published.other);
        let sequence = u32::from(published.format.waits_one_block());
        for htlc in published.commitment.htlcs() {
            let preimage = preimage();
            let expiry = htlc.htlc.cltv_expiry;
            let sweep = |element: &[u8], lock_time| {
                let with = Sweep { secret: &secret, elements: &[element], sequence, lock_time };
                published.sweep(htlc.output_index, &htlc.witness_script, with)
            };
            match htlc.htlc.direction {
                HtlcDirection::Offered => {
                    assert!(sweep(preimage.as_bytes(), 0));
                    assert!(!sweep(&[0; 32], 0));
                    assert!(!sweep(&[], expiry));
                }
                HtlcDirection::Received => {
                    assert!(sweep(&[], expiry));
                    assert!(!sweep(&[], expiry - 1));
                    assert!(!sweep(preimage.as_bytes(), 0));
                }
            }
        }
    }
}

#[test]
fn the_countersignatorys_balance_is_its_own_at_once() {
    for format in CommitmentFormat::ALL {
        let published = publish(format);
        let index = published.commitment.output_index(OutputKind::ToCountersignatory).unwrap();
        assert_eq!(published.output(index).script_pubkey, published.to_other);
        match &published.to_other_script {
            Some(script) => {
                let with = Sweep { secret: &published.other, elements: &[], sequence: 1, lock_time: 0 };
                assert!(published.sweep(index, script, with));
                let with = Sweep { secret: &published.other, elements: &[], sequence: 0, lock_time: 0 };
                assert!(!published.sweep(index, script, with));
            }
            None => assert!(published.to_other.is_p2wpkh()),
        }
    }
}

#[test]
fn anyone_spends_the_shared_anchor_without_a_witness() {
    let published = publish(CommitmentFormat::ZeroFeeCommitments);
    let index = published.commitment.output_index(OutputKind::SharedAnchor).unwrap();
    let mut input = foreign_input();
    input.previous_output = OutPoint { txid: published.commitment.txid(), vout: index };
    let child = Transaction {
        version: Version::non_standard(3),
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: published.to_other.clone() }],
    };
    assert!(spends(&child, 0, &published.output(index)));
}

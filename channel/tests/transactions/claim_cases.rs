//! Every kind of claim on one published commitment, with the party that makes it; and transactions that hold them.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use channel::claim::{Claim, Found, Own, OwnHtlc, Revoked, Theirs};
use channel::commitment::{CommitmentTransaction, HtlcDirection, OutputKind};
use channel::format::CommitmentFormat;
use channel::keys::{CompactSignature, HtlcOutputs};
use channel::signer::Signer;

use super::pair::{Party, pair, preimage, spec_with_htlcs};

/// The height of the block with the commitment.
pub const HEIGHT: u32 = 799_000;
/// The height of the block with the HTLC transactions.
pub const SECOND_HEIGHT: u32 = 799_100;
/// Where the claim's input stands in [`Case::transaction`].
pub const POSITION: usize = 1;

/// One claim and who makes it.
pub struct Case {
    pub name: &'static str,
    pub format: CommitmentFormat,
    pub party: Party,
    pub claim: Claim,
}

impl Case {
    /// The claim's transaction, unsigned: beside a coin that pays the fee, which stands before it.
    pub fn transaction(&self) -> Transaction {
        let change = TxOut { value: Amount::from_sat(900), script_pubkey: ScriptBuf::new_p2a() };
        let paired = self.claim.paired_output().cloned();
        Transaction {
            version: self.claim.fixed_version().unwrap_or(Version::TWO),
            lock_time: self.claim.lock_time(),
            input: vec![coin(), self.claim.unsigned_input()],
            output: vec![change.clone(), paired.unwrap_or(change)],
        }
    }

    /// Our signature of the claim in a transaction.
    pub fn sign(&self, transaction: &Transaction) -> CompactSignature {
        self.party.signer.sign_claim(&self.party.key, &self.claim, transaction, POSITION).unwrap()
    }

    /// The transaction with the claim's witness.
    pub fn signed(&self, mut transaction: Transaction) -> Transaction {
        let signature = self.sign(&transaction);
        transaction.input[POSITION].witness = self.claim.witness(&signature).unwrap();
        transaction
    }

    pub fn is_htlc_transaction(&self) -> bool {
        self.claim.paired_output().is_some()
    }
}

/// Signs with a secret of no party.
pub fn foreign_signature(message: &Message) -> CompactSignature {
    SECP256K1.sign_ecdsa(message, &SecretKey::from_slice(&[42; 32]).unwrap()).into()
}

fn coin() -> TxIn {
    TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([8; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}

fn found(transaction: &Transaction, index: u32, height: u32) -> Found {
    Found {
        outpoint: OutPoint { txid: transaction.compute_txid(), vout: index },
        output: transaction.output[index as usize].clone(),
        height,
    }
}

fn at(commitment: &CommitmentTransaction, kind: OutputKind) -> Found {
    found(commitment.transaction(), commitment.output_index(kind).unwrap(), HEIGHT)
}

fn second_stages(commitment: &CommitmentTransaction) -> Vec<Found> {
    let transactions = commitment.htlc_transactions();
    transactions.map(|second| found(second.transaction(), 0, SECOND_HEIGHT)).collect()
}

/// What both parties may claim of the opener's commitment, as if it were its latest and as if it were revoked.
pub fn cases(format: CommitmentFormat) -> Vec<Case> {
    let mut claims = own_claims(format);
    claims.extend(other_claims(format));
    claims
        .into_iter()
        .map(|(name, opener_claims, claim)| {
            let pair = pair(format);
            let party = if opener_claims { pair.opener } else { pair.accepter };
            Case { name, format, party, claim }
        })
        .collect()
}

fn own_claims(format: CommitmentFormat) -> Vec<(&'static str, bool, Claim)> {
    let pair = pair(format);
    let (owner, spec) = (&pair.opener, spec_with_htlcs());
    let commitment = owner.own(&spec);
    let (_, countersigned) = pair.accepter.sign_for(owner, &spec);
    let own = Own { context: &owner.context, keys: commitment.keys(), number: spec.number };
    let mut claims = vec![("to_local", true, own.to_local(at(&commitment, OutputKind::ToBroadcaster)))];
    let seconds = second_stages(&commitment);
    for (position, (output, second)) in commitment.htlcs().iter().zip(seconds).enumerate() {
        let htlc = OwnHtlc {
            htlc: &output.htlc,
            countersignature: &countersigned.htlcs[position],
            preimage: Some(&preimage()),
        };
        let claim = own.htlc(htlc, at(&commitment, OutputKind::Htlc { position })).unwrap();
        let names = match output.htlc.direction {
            HtlcDirection::Offered => ["own HTLC timeout", "second stage of a timeout"],
            HtlcDirection::Received => ["own HTLC success", "second stage of a success"],
        };
        claims.push((names[0], true, claim));
        claims.push((names[1], true, own.second_stage(output.htlc.id, second)));
    }
    claims
}

fn other_claims(format: CommitmentFormat) -> Vec<(&'static str, bool, Claim)> {
    let pair = pair(format);
    let (owner, other, spec) = (&pair.opener, &pair.accepter, spec_with_htlcs());
    let point = owner.signer.per_commitment_point(&owner.key, spec.number).parse().unwrap();
    let keys =
        other.signer.counterparty_commitment_keys(&other.key, &other.context, &point, HtlcOutputs::Present);
    let (commitment, _) = other.sign_for(owner, &spec);
    let secret = owner.signer.release_secret(&owner.key, spec.number);
    let theirs = Theirs { context: &other.context, keys: &keys };
    let revoked = Revoked { context: &other.context, keys: &keys, secret: &secret };
    let mut claims = vec![
        ("to_remote", false, theirs.to_remote(at(&commitment, OutputKind::ToCountersignatory))),
        ("penalty of to_local", false, revoked.to_local(at(&commitment, OutputKind::ToBroadcaster))),
    ];
    let seconds = second_stages(&commitment);
    for (position, (output, second)) in commitment.htlcs().iter().zip(seconds).enumerate() {
        let at = || at(&commitment, OutputKind::Htlc { position });
        let claim = theirs.htlc(&output.htlc, Some(&preimage()), at()).unwrap();
        let penalty = revoked.htlc(&output.htlc, at()).unwrap();
        let names = match output.htlc.direction {
            HtlcDirection::Offered => ["their HTLC success", "penalty of an offered HTLC"],
            HtlcDirection::Received => ["their HTLC timeout", "penalty of a received HTLC"],
        };
        claims.push((names[0], false, claim));
        claims.push((names[1], false, penalty));
        claims.push(("penalty of a second stage", false, revoked.second_stage(second)));
    }
    claims
}

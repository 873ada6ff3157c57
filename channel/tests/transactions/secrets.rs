//! What a signer derives, reveals and refuses.

use bitcoin::Network;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::{Message, SECP256K1};
use channel::bytes::KeyId;
use channel::commitment::SignatureError;
use channel::format::CommitmentFormat;
use channel::keys::{CommitmentKeys, CompactSignature, HtlcOutputs, Point};
use channel::parameters::Side;
use channel::seed_signer::{PAYMENT_KEYS, SeedSigner};
use channel::signer::{Signer, SignerError, tagged_hash, verify_tagged};

use super::pair::{pair, spec_with_htlcs};

const FORMATS: [CommitmentFormat; 3] = CommitmentFormat::ALL;

#[test]
fn own_secrets_give_the_same_keys_as_public_points() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let (owner, other) = (&pair.opener, &pair.accepter);
    let point = owner.signer.per_commitment_point(&owner.key, 3).parse().unwrap();
    for outputs in [HtlcOutputs::Absent, HtlcOutputs::Present] {
        let public = CommitmentKeys::derive(&owner.context, Side::Holder, &point, outputs);
        assert_eq!(owner.signer.holder_commitment_keys(&owner.key, &owner.context, 3, outputs), public);
        let seen = other.signer.counterparty_commitment_keys(&other.key, &other.context, &point, outputs);
        assert_eq!(seen, public);
        assert_eq!(public.htlc.is_some(), outputs == HtlcOutputs::Present);
    }
}

#[test]
fn hardened_steps_are_those_of_bip_32() {
    let signer = SeedSigner::new(&[9; 64]);
    let master = Xpriv::new_master(Network::Regtest, &[9; 64]).unwrap();
    assert_eq!(signer.onchain_master(Network::Regtest), master);
    let path = |last: &[u32]| -> Point {
        let steps = last.iter().map(|index| ChildNumber::from_hardened_idx(*index).unwrap());
        let child = master.derive_priv(SECP256K1, &steps.collect::<Vec<_>>()).unwrap();
        child.private_key.public_key(SECP256K1).into()
    };
    assert_eq!(signer.node_id(), path(&[9735, 0]));
    assert_eq!(signer.payment_keys().len(), PAYMENT_KEYS);
    for (index, key) in (0..).zip(signer.payment_keys()) {
        assert_eq!(*key, path(&[9735, 2, index]));
    }
}

#[test]
fn a_channel_has_keys_of_its_own_but_a_payment_key_that_a_scan_finds() {
    let signer = SeedSigner::new(&[9; 64]);
    let (one, other) = (KeyId::from_bytes([1; 32]), KeyId::from_bytes([2; 32]));
    let (first, second) = (signer.channel_public_keys(&one), signer.channel_public_keys(&other));
    assert_eq!(SeedSigner::new(&[9; 64]).channel_public_keys(&one), first);
    for (key, another) in [
        (first.funding, second.funding),
        (first.revocation, second.revocation),
        (first.delayed_payment, second.delayed_payment),
        (first.htlc, second.htlc),
    ] {
        assert_ne!(key, another);
    }
    for last in 0..=u8::MAX {
        let mut key = [7; 32];
        key[0] = last;
        let keys = signer.channel_public_keys(&KeyId::from_bytes(key));
        assert!(signer.payment_keys().contains(&keys.payment));
    }
}

#[test]
fn a_released_secret_opens_its_point_and_no_other() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let (signer, key) = (&pair.opener.signer, &pair.opener.key);
    let secret = signer.release_secret(key, 5);
    assert!(secret.opens(&signer.per_commitment_point(key, 5)));
    assert!(!secret.opens(&signer.per_commitment_point(key, 6)));
}

#[test]
fn both_ends_sign_what_the_other_verifies() {
    for format in FORMATS {
        let pair = pair(format);
        let spec = spec_with_htlcs();
        for (owner, other) in [(&pair.opener, &pair.accepter), (&pair.accepter, &pair.opener)] {
            let commitment = owner.own(&spec);
            let (seen, signatures) = other.sign_for(owner, &spec);
            assert_eq!(seen.transaction(), commitment.transaction());
            assert_eq!(commitment.verify(&owner.context, &signatures), Ok(()));
        }
    }
}

#[test]
fn a_changed_signature_is_refused_by_its_name() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let spec = spec_with_htlcs();
    let commitment = pair.opener.own(&spec);
    let (_, good) = pair.accepter.sign_for(&pair.opener, &spec);
    let verify = |signatures| commitment.verify(&pair.opener.context, &signatures);

    let mut bad = good.clone();
    bad.commitment = good.htlcs[0];
    assert_eq!(verify(bad), Err(SignatureError::Commitment));
    let mut bad = good.clone();
    bad.htlcs.swap(0, 1);
    assert_eq!(verify(bad), Err(SignatureError::Htlc { position: 0 }));
    let mut bad = good.clone();
    bad.htlcs.pop();
    assert_eq!(verify(bad), Err(SignatureError::WrongHtlcCount { found: 1, expected: 2 }));
    let mut bad = good.clone();
    bad.commitment = CompactSignature::from_bytes([0xff; 64]);
    assert_eq!(verify(bad), Err(SignatureError::Commitment));
    let mut bad = good.clone();
    bad.commitment = with_high_s(&good.commitment);
    assert_eq!(verify(bad), Err(SignatureError::Commitment));
}

/// The other of the two signatures that are equal but for the sign of S.
fn with_high_s(signature: &CompactSignature) -> CompactSignature {
    let mut bytes = signature.to_bytes();
    let s = bitcoin::secp256k1::SecretKey::from_slice(&bytes[32..]).unwrap();
    bytes[32..].copy_from_slice(&s.negate().secret_bytes());
    CompactSignature::from_bytes(bytes)
}

#[test]
fn a_signer_signs_for_the_side_that_was_asked_only() {
    let pair = pair(CommitmentFormat::ZeroFeeCommitments);
    let spec = spec_with_htlcs();
    let own = pair.opener.own(&spec);
    let (signer, key, context) = (&pair.opener.signer, &pair.opener.key, &pair.opener.context);
    assert_eq!(
        signer.sign_counterparty_commitment(key, context, &own),
        Err(SignerError::WrongSide { found: Side::Holder, expected: Side::Counterparty })
    );
    let (others, _) = pair.opener.sign_for(&pair.accepter, &spec);
    assert_eq!(
        signer.sign_holder_commitment(key, context, &others),
        Err(SignerError::WrongSide { found: Side::Counterparty, expected: Side::Holder })
    );
}

#[test]
fn a_nodes_signature_holds_for_its_tag_and_message_only() {
    let signer = SeedSigner::new(&[9; 64]);
    let signature = signer.sign_tagged("hub/handshake", b"hello");
    let verify = |tag, message: &[u8]| verify_tagged(&signer.node_id(), tag, message, &signature).is_ok();
    assert!(verify("hub/handshake", b"hello"));
    assert!(!verify("hub/receipt", b"hello"));
    assert!(!verify("hub/handshake", b"hallo"));

    let hash: Message = tagged_hash("lightning", b"invoice");
    let recoverable = signer.sign_invoice(&hash);
    let recovered = SECP256K1.recover_ecdsa(&hash, &recoverable).unwrap();
    assert_eq!(Point::from(recovered), signer.node_id());
}

#[test]
fn a_shared_secret_is_the_same_at_both_ends_and_a_derived_one_has_a_purpose() {
    let (one, other) = (SeedSigner::new(&[1; 64]), SeedSigner::new(&[2; 64]));
    let shared = one.shared_secret(&other.node_id()).unwrap();
    assert_eq!(other.shared_secret(&one.node_id()).unwrap(), shared);
    assert!(one.shared_secret(&Point::from_bytes([0; 33])).is_err());
    let derived = one.derive_secret("blob", b"a");
    assert_eq!(derived, one.derive_secret("blob", b"a"));
    assert_ne!(derived, one.derive_secret("blob", b"b"));
    assert_ne!(derived, one.derive_secret("other", b"a"));
}

#[test]
fn secrets_do_not_print() {
    let signer = SeedSigner::new(&[9; 64]);
    let key = KeyId::from_bytes([1; 32]);
    assert_eq!(format!("{:?}", signer.release_secret(&key, 0)), "CommitmentSecret(hidden)");
    assert_eq!(format!("{:?}", signer.derive_secret("blob", b"")), "DerivedSecret(hidden)");
    let node_id = signer.node_id();
    assert_eq!(format!("{signer:?}"), format!("SeedSigner {{ node_id: {node_id:?}, .. }}"));
}

//! Public keys, signatures as bytes, and the derivation of one commitment's keys (BOLT 3, "Key Derivation").
//!
//! What is stored or sent is bytes ([`Point`], [`CompactSignature`]); what is computed with is parsed, once. So decoding
//! a journal costs no curve operation, and a hostile peer's bytes are judged where they are used.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};
use serde::{Deserialize, Serialize};

use crate::bytes::named_bytes;
use crate::parameters::{ChannelContext, Side};
use crate::shachain::CommitmentSecret;

named_bytes!(
    /// A compressed point as bytes, not yet known to lie on the curve.
    Point,
    33,
    shown
);

named_bytes!(
    /// An ECDSA signature as 64 bytes (r, then s), not yet known to be in range.
    CompactSignature,
    64,
    shown
);

/// The bytes are no point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a point of the curve")]
pub struct InvalidPoint(pub Point);

/// A signature that does not hold: out of range, with a high S, or of another key or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is invalid")]
pub struct InvalidSignature;

impl Point {
    /// Finds the point; about 5 microseconds, so the result is kept where it is needed again.
    pub fn parse(&self) -> Result<PublicKey, InvalidPoint> {
        PublicKey::from_slice(self.as_bytes()).map_err(|_| InvalidPoint(*self))
    }
}

impl From<PublicKey> for Point {
    fn from(key: PublicKey) -> Self {
        Self::from_bytes(key.serialize())
    }
}

impl From<&PublicKey> for Point {
    fn from(key: &PublicKey) -> Self {
        Self::from_bytes(key.serialize())
    }
}

impl From<Signature> for CompactSignature {
    fn from(signature: Signature) -> Self {
        Self::from_bytes(signature.serialize_compact())
    }
}

impl CompactSignature {
    /// The signature, if both halves are in range.
    pub fn parse(&self) -> Result<Signature, InvalidSignature> {
        Signature::from_compact(self.as_bytes()).map_err(|_| InvalidSignature)
    }

    /// Verifies the signature; a high S, which Bitcoin's nodes do not relay, is refused.
    pub fn verify(&self, message: &Message, key: &PublicKey) -> Result<Signature, InvalidSignature> {
        let signature = self.parse()?;
        SECP256K1.verify_ecdsa(message, &signature, key).map_err(|_| InvalidSignature)?;
        Ok(signature)
    }
}

/// One party's public keys for one channel, as told to the other at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basepoints {
    /// Signs the funding output.
    pub funding: Point,
    /// Half of the key that punishes the *other* party's revoked commitments.
    pub revocation: Point,
    /// Receives this party's balance in the other's commitments, unchanged (`option_static_remotekey`).
    pub payment: Point,
    /// Receives this party's balance in its own commitments, after the delay.
    pub delayed_payment: Point,
    /// Signs this party's side of HTLCs.
    pub htlc: Point,
}

/// [`Basepoints`] found to be on the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedBasepoints {
    pub funding: PublicKey,
    pub revocation: PublicKey,
    pub payment: PublicKey,
    pub delayed_payment: PublicKey,
    pub htlc: PublicKey,
}

impl Basepoints {
    /// Finds all five points.
    pub fn parse(&self) -> Result<ParsedBasepoints, InvalidPoint> {
        Ok(ParsedBasepoints {
            funding: self.funding.parse()?,
            revocation: self.revocation.parse()?,
            payment: self.payment.parse()?,
            delayed_payment: self.delayed_payment.parse()?,
            htlc: self.htlc.parse()?,
        })
    }
}

/// Whether a commitment has HTLC outputs: only then are HTLC keys worth two curve operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HtlcOutputs {
    Absent,
    Present,
}

/// The keys of one commitment transaction. The countersignatory's payment key is no part: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentKeys {
    /// The broadcaster's point for this commitment.
    pub per_commitment_point: PublicKey,
    /// Punishes the broadcaster once the commitment is revoked.
    pub revocation: PublicKey,
    /// Receives the broadcaster's balance after the delay.
    pub broadcaster_delayed: PublicKey,
    /// Present exactly when an HTLC has an output.
    pub htlc: Option<HtlcKeys>,
}

/// The HTLC keys of one commitment transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtlcKeys {
    /// `local_htlcpubkey`: of the party that owns the commitment.
    pub broadcaster: PublicKey,
    /// `remote_htlcpubkey`: of the party that signs it for the owner.
    pub countersignatory: PublicKey,
}

impl CommitmentKeys {
    /// Derives the keys from public points alone: two tweak-multiplications and one to three tweak-additions.
    /// A [`crate::signer::Signer`] does it with less, its own secrets taking the place of points.
    pub fn derive(
        context: &ChannelContext,
        broadcaster: Side,
        per_commitment_point: &PublicKey,
        htlc_outputs: HtlcOutputs,
    ) -> Self {
        let owner = context.basepoints(broadcaster);
        let countersignatory = context.basepoints(broadcaster.other());
        Self {
            per_commitment_point: *per_commitment_point,
            revocation: derive_revocation_public_key(&countersignatory.revocation, per_commitment_point),
            broadcaster_delayed: derive_public_key(&owner.delayed_payment, per_commitment_point),
            htlc: match htlc_outputs {
                HtlcOutputs::Absent => None,
                HtlcOutputs::Present => Some(HtlcKeys {
                    broadcaster: derive_public_key(&owner.htlc, per_commitment_point),
                    countersignatory: derive_public_key(&countersignatory.htlc, per_commitment_point),
                }),
            },
        }
    }
}

const HASH_IS_A_SCALAR: &str = "a SHA-256 value reaches the group's order with probability 2^-128";
const NO_CANCELLATION: &str = "points that cancel a hash of themselves cannot be found";

/// SHA256 of two points, as a scalar: every derivation of BOLT 3 rests on it.
fn hash_points(first: &PublicKey, second: &PublicKey) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&first.serialize());
    engine.input(&second.serialize());
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array()).expect(HASH_IS_A_SCALAR)
}

/// `pubkey = basepoint + SHA256(per_commitment_point || basepoint) * G`
pub fn derive_public_key(basepoint: &PublicKey, per_commitment_point: &PublicKey) -> PublicKey {
    let tweak = hash_points(per_commitment_point, basepoint);
    basepoint.add_exp_tweak(SECP256K1, &tweak).expect(NO_CANCELLATION)
}

/// `privkey = basepoint_secret + SHA256(per_commitment_point || basepoint)`
pub fn derive_private_key(
    basepoint_secret: &SecretKey,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> SecretKey {
    let tweak = hash_points(per_commitment_point, basepoint);
    basepoint_secret.add_tweak(&tweak).expect(NO_CANCELLATION)
}

/// `revocation_basepoint * SHA256(revocation_basepoint || per_commitment_point)
///  + per_commitment_point * SHA256(per_commitment_point || revocation_basepoint)`
pub fn derive_revocation_public_key(
    revocation_basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> PublicKey {
    let (basepoint_factor, point_factor) = revocation_factors(revocation_basepoint, per_commitment_point);
    let first = revocation_basepoint.mul_tweak(SECP256K1, &basepoint_factor).expect(HASH_IS_A_SCALAR);
    let second = per_commitment_point.mul_tweak(SECP256K1, &point_factor).expect(HASH_IS_A_SCALAR);
    first.combine(&second).expect(NO_CANCELLATION)
}

/// The same for the party that owns the revocation basepoint's secret: one of the two multiplications is of the base
/// point, which is faster.
pub fn derive_revocation_public_key_with_basepoint_secret(
    revocation_basepoint_secret: &SecretKey,
    revocation_basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> PublicKey {
    let (basepoint_factor, point_factor) = revocation_factors(revocation_basepoint, per_commitment_point);
    let first = multiply(revocation_basepoint_secret, &basepoint_factor).public_key(SECP256K1);
    let second = per_commitment_point.mul_tweak(SECP256K1, &point_factor).expect(HASH_IS_A_SCALAR);
    first.combine(&second).expect(NO_CANCELLATION)
}

/// The same for the party that owns the commitment and thus its secret.
pub fn derive_revocation_public_key_with_commitment_secret(
    revocation_basepoint: &PublicKey,
    per_commitment_secret: &SecretKey,
    per_commitment_point: &PublicKey,
) -> PublicKey {
    let (basepoint_factor, point_factor) = revocation_factors(revocation_basepoint, per_commitment_point);
    let first = revocation_basepoint.mul_tweak(SECP256K1, &basepoint_factor).expect(HASH_IS_A_SCALAR);
    let second = multiply(per_commitment_secret, &point_factor).public_key(SECP256K1);
    first.combine(&second).expect(NO_CANCELLATION)
}

/// The secret of the revocation key: only who was given the commitment's secret and owns the basepoint's can form it.
pub fn derive_revocation_private_key(
    revocation_basepoint_secret: &SecretKey,
    per_commitment_secret: &SecretKey,
) -> SecretKey {
    let basepoint = revocation_basepoint_secret.public_key(SECP256K1);
    let point = per_commitment_secret.public_key(SECP256K1);
    let (basepoint_factor, point_factor) = revocation_factors(&basepoint, &point);
    let second = Scalar::from(multiply(per_commitment_secret, &point_factor));
    multiply(revocation_basepoint_secret, &basepoint_factor).add_tweak(&second).expect(NO_CANCELLATION)
}

fn revocation_factors(basepoint: &PublicKey, per_commitment_point: &PublicKey) -> (Scalar, Scalar) {
    (hash_points(basepoint, per_commitment_point), hash_points(per_commitment_point, basepoint))
}

fn multiply(secret: &SecretKey, factor: &Scalar) -> SecretKey {
    secret.mul_tweak(factor).expect(HASH_IS_A_SCALAR)
}

impl CommitmentSecret {
    /// The secret as a scalar; `None` for 0 and for values beyond the group's order, which only a hostile peer sends.
    pub fn to_secret_key(&self) -> Option<SecretKey> {
        SecretKey::from_slice(self.as_bytes()).ok()
    }

    /// Whether this is the secret of the point: one base-point multiplication.
    pub fn opens(&self, per_commitment_point: &Point) -> bool {
        self.to_secret_key()
            .is_some_and(|secret| Point::from(secret.public_key(SECP256K1)) == *per_commitment_point)
    }
}

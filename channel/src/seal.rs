//! What crosses the hub unread: payloads sealed for a payment's recipient, and a side's essentials sealed for
//! itself.
//!
//! - A **payload** is sealed with a fresh key of the payer and the recipient's node key, and bound to the
//!   HTLC it rides on: moved to another hash, amount or expiry it does not open.
//! - A **blob of essentials** is sealed with a key of the seed alone, kept by the counterparty, and given
//!   back at each connection: with it a wallet that lost all but its seed finds its channel's keys (DESIGN
//!   section 5, "Data loss").

use bitcoin::OutPoint;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305, XNonce};
use secp256k1::SecretKey;
use secp256k1::ecdh::SharedSecret;
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::bytes::{KeyId, PaymentHash, PaymentPreimage};
use crate::ids::ChannelId;
use crate::kdf::{hkdf, hmac};
use crate::keys::{InvalidPoint, Point};
use crate::limits::SEALED_PAYLOAD_BYTES;
use crate::signer::Signer;

const PAYLOAD_INFO: &[u8] = b"payment-hub/payload/1";
const ESSENTIALS_TAG: &str = "payment-hub/essentials/1";
const NONCE_BYTES: usize = 24;
/// The number of bytes before they are sealed: kind, 32 bytes, total.
const CONTENT_BYTES: usize = 1 + 32 + 8;

/// What a payer tells the recipient alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentPayload {
    pub content: PayloadContent,
    /// The sum of all HTLCs of the payment, as the payer intends it.
    pub total_msat: Msat,
}

/// The proof that the payer may pay, or what lets the recipient take an unasked payment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PayloadContent {
    /// The `payment_secret` of the recipient's invoice (BOLT 11): who probes the hub's channels does not know
    /// it.
    InvoiceSecret([u8; 32]),
    /// A payment without an invoice carries the preimage of its hash.
    Spontaneous(PaymentPreimage),
}

impl std::fmt::Debug for PayloadContent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::InvoiceSecret(_) => "InvoiceSecret(hidden)",
            Self::Spontaneous(_) => "Spontaneous(hidden)",
        })
    }
}

/// The HTLC a payload is for, as it arrives at the recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadBinding {
    pub payment_hash: PaymentHash,
    pub amount_msat: Msat,
    pub cltv_expiry: u32,
}

impl PayloadBinding {
    fn to_bytes(self) -> [u8; 44] {
        let mut bytes = [0; 44];
        bytes[..32].copy_from_slice(self.payment_hash.as_bytes());
        bytes[32..40].copy_from_slice(&self.amount_msat.to_u64().to_be_bytes());
        bytes[40..].copy_from_slice(&self.cltv_expiry.to_be_bytes());
        bytes
    }
}

/// Why a payload or a blob did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{found} bytes, expected are {expected}")]
    WrongSize { found: usize, expected: usize },
    #[error(transparent)]
    Ephemeral(#[from] InvalidPoint),
    /// Sealed for somebody else, for another HTLC, or changed on the way.
    #[error("the seal does not hold")]
    Seal,
    #[error("the content has an unknown form")]
    Content,
}

/// Seals a payload for a recipient. `ephemeral` must be fresh: it is used for this payload and never again.
pub fn seal_payload(
    recipient: &Point,
    ephemeral: &SecretKey,
    payload: &PaymentPayload,
    binding: &PayloadBinding,
) -> Result<Vec<u8>, InvalidPoint> {
    let shared = SharedSecret::new(&recipient.parse()?, ephemeral);
    let ephemeral = Point::from(ephemeral.public_key(secp256k1::SECP256K1));
    let (kind, value) = match &payload.content {
        PayloadContent::InvoiceSecret(secret) => (1, secret),
        PayloadContent::Spontaneous(preimage) => (2, preimage.as_bytes()),
    };
    let mut content = [0; CONTENT_BYTES];
    content[0] = kind;
    content[1..33].copy_from_slice(value);
    content[33..].copy_from_slice(&payload.total_msat.to_u64().to_be_bytes());

    let sealed = payload_cipher(&shared.secret_bytes(), &ephemeral, recipient)
        .encrypt(&Default::default(), Payload { msg: &content, aad: &binding.to_bytes() })
        .expect("41 bytes are never too many");
    let mut bytes = Vec::with_capacity(SEALED_PAYLOAD_BYTES);
    bytes.extend_from_slice(ephemeral.as_bytes());
    bytes.extend_from_slice(&sealed);
    Ok(bytes)
}

/// Opens a payload sealed for this signer's node, if it belongs to this very HTLC.
pub fn open_payload(
    signer: &dyn Signer,
    sealed: &[u8],
    binding: &PayloadBinding,
) -> Result<PaymentPayload, OpenError> {
    let wrong_size = OpenError::WrongSize { found: sealed.len(), expected: SEALED_PAYLOAD_BYTES };
    if sealed.len() != SEALED_PAYLOAD_BYTES {
        return Err(wrong_size);
    }
    let (ephemeral, sealed) = sealed.split_at(Point::LENGTH);
    let ephemeral = Point::from_slice(ephemeral).ok_or(wrong_size)?;
    let shared = signer.shared_secret(&ephemeral)?;
    let content = payload_cipher(shared.as_bytes(), &ephemeral, &signer.node_id())
        .decrypt(&Default::default(), Payload { msg: sealed, aad: &binding.to_bytes() })
        .map_err(|_| OpenError::Seal)?;
    let (kind, rest) = content.split_first().ok_or(OpenError::Content)?;
    let (value, total) = rest.split_at_checked(32).ok_or(OpenError::Content)?;
    let value: [u8; 32] = value.try_into().map_err(|_| OpenError::Content)?;
    let total = u64::from_be_bytes(total.try_into().map_err(|_| OpenError::Content)?);
    let content = match kind {
        1 => PayloadContent::InvoiceSecret(value),
        2 => PayloadContent::Spontaneous(PaymentPreimage::from_bytes(value)),
        _ => return Err(OpenError::Content),
    };
    Ok(PaymentPayload { content, total_msat: Msat::new(total).ok_or(OpenError::Content)? })
}

/// The key serves one message, so its nonce is zero.
fn payload_cipher(shared: &[u8; 32], ephemeral: &Point, recipient: &Point) -> ChaCha20Poly1305 {
    let key = hkdf(PAYLOAD_INFO, shared, &[ephemeral.as_bytes(), recipient.as_bytes()]);
    ChaCha20Poly1305::new(&key.into())
}

/// What a side needs to find and check its channel with nothing but its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEssentials {
    pub channel_id: ChannelId,
    pub key_id: KeyId,
    pub counterparty_node: Point,
    /// With our own, the keys of the 2-of-2.
    pub counterparty_funding_key: Point,
    pub outpoint: OutPoint,
    pub capacity_sat: u64,
    /// The latest of the counterparty's commitments we signed when this was made.
    pub commitment_number: u64,
}

/// Seals our essentials for ourselves. The same essentials give the same bytes: the nonce follows from the
/// content, so that none ever serves two contents.
pub fn seal_essentials(signer: &dyn Signer, essentials: &SealedEssentials) -> Vec<u8> {
    let key = signer.derive_secret(ESSENTIALS_TAG, &[]);
    let content = postcard::to_stdvec(essentials).expect("plain data can always be written");
    let nonce = hmac(key.as_bytes(), &[&content]);
    let nonce = XNonce::from_slice(&nonce[..NONCE_BYTES]);
    let sealed = essentials_cipher(key.as_bytes())
        .encrypt(nonce, content.as_slice())
        .expect("two hundred bytes are never too many");
    let mut bytes = Vec::with_capacity(NONCE_BYTES + sealed.len());
    bytes.extend_from_slice(nonce);
    bytes.extend_from_slice(&sealed);
    bytes
}

/// Opens what [`seal_essentials`] sealed with the same seed.
pub fn open_essentials(signer: &dyn Signer, sealed: &[u8]) -> Result<SealedEssentials, OpenError> {
    let (nonce, sealed) = sealed
        .split_at_checked(NONCE_BYTES)
        .ok_or(OpenError::WrongSize { found: sealed.len(), expected: NONCE_BYTES })?;
    let key = signer.derive_secret(ESSENTIALS_TAG, &[]);
    let content = essentials_cipher(key.as_bytes())
        .decrypt(XNonce::from_slice(nonce), sealed)
        .map_err(|_| OpenError::Seal)?;
    crate::bytes::read_all(&content).ok_or(OpenError::Content)
}

/// A key of its own for the cipher: the derived one makes the nonces.
fn essentials_cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&hkdf(b"cipher", key, &[]).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_SEALED_BLOB_BYTES;
    use crate::seed_signer::SeedSigner;
    use bitcoin::hashes::Hash;

    fn binding() -> PayloadBinding {
        PayloadBinding {
            payment_hash: PaymentHash::from_bytes([1; 32]),
            amount_msat: Msat::from_u32(5_000),
            cltv_expiry: 700_000,
        }
    }

    fn payload() -> PaymentPayload {
        PaymentPayload { content: PayloadContent::InvoiceSecret([9; 32]), total_msat: Msat::from_u32(5_000) }
    }

    fn sealed_for(signer: &SeedSigner) -> Vec<u8> {
        let ephemeral = SecretKey::from_slice(&[3; 32]).unwrap();
        seal_payload(&signer.node_id(), &ephemeral, &payload(), &binding()).unwrap()
    }

    #[test]
    fn the_recipient_opens_what_the_payer_sealed() {
        let recipient = SeedSigner::new(&[1; 64]);
        let sealed = sealed_for(&recipient);
        assert_eq!(sealed.len(), SEALED_PAYLOAD_BYTES);
        assert_eq!(open_payload(&recipient, &sealed, &binding()), Ok(payload()));
        let spontaneous = PaymentPayload {
            content: PayloadContent::Spontaneous(PaymentPreimage::from_bytes([4; 32])),
            ..payload()
        };
        let ephemeral = SecretKey::from_slice(&[4; 32]).unwrap();
        let sealed = seal_payload(&recipient.node_id(), &ephemeral, &spontaneous, &binding()).unwrap();
        assert_eq!(open_payload(&recipient, &sealed, &binding()), Ok(spontaneous));
    }

    #[test]
    fn nobody_else_opens_a_payload() {
        let sealed = sealed_for(&SeedSigner::new(&[1; 64]));
        let other = SeedSigner::new(&[2; 64]);
        assert_eq!(open_payload(&other, &sealed, &binding()), Err(OpenError::Seal));
    }

    #[test]
    fn a_payload_on_another_htlc_does_not_open() {
        let recipient = SeedSigner::new(&[1; 64]);
        let sealed = sealed_for(&recipient);
        for changed in [
            PayloadBinding { payment_hash: PaymentHash::from_bytes([2; 32]), ..binding() },
            PayloadBinding { amount_msat: Msat::from_u32(5_001), ..binding() },
            PayloadBinding { cltv_expiry: 700_001, ..binding() },
        ] {
            assert_eq!(open_payload(&recipient, &sealed, &changed), Err(OpenError::Seal));
        }
    }

    #[test]
    fn a_payload_with_any_byte_changed_does_not_open() {
        let recipient = SeedSigner::new(&[1; 64]);
        let sealed = sealed_for(&recipient);
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open_payload(&recipient, &changed, &binding()).is_err());
        }
        for length in 0..sealed.len() {
            let short = &sealed[..length];
            let found = OpenError::WrongSize { found: length, expected: SEALED_PAYLOAD_BYTES };
            assert_eq!(open_payload(&recipient, short, &binding()), Err(found));
        }
    }

    fn essentials() -> SealedEssentials {
        SealedEssentials {
            channel_id: ChannelId([7; 32]),
            key_id: KeyId::from_bytes([8; 32]),
            counterparty_node: Point::from_bytes([2; 33]),
            counterparty_funding_key: Point::from_bytes([3; 33]),
            outpoint: OutPoint { txid: bitcoin::Txid::from_byte_array([5; 32]), vout: u32::MAX },
            capacity_sat: u64::MAX,
            commitment_number: u64::MAX,
        }
    }

    #[test]
    fn the_seed_alone_opens_the_essentials() {
        let signer = SeedSigner::new(&[1; 64]);
        let sealed = seal_essentials(&signer, &essentials());
        assert!(sealed.len() <= MAX_SEALED_BLOB_BYTES, "{} bytes", sealed.len());
        assert_eq!(open_essentials(&signer, &sealed), Ok(essentials()));
        assert_eq!(sealed, seal_essentials(&signer, &essentials()));
        assert_eq!(open_essentials(&SeedSigner::new(&[2; 64]), &sealed), Err(OpenError::Seal));
        assert_eq!(
            open_essentials(&signer, &sealed[..10]),
            Err(OpenError::WrongSize { found: 10, expected: NONCE_BYTES })
        );
    }

    #[test]
    fn essentials_that_differ_share_no_nonce() {
        let signer = SeedSigner::new(&[1; 64]);
        let one = seal_essentials(&signer, &essentials());
        let other = seal_essentials(&signer, &SealedEssentials { commitment_number: 1, ..essentials() });
        assert_ne!(one[..NONCE_BYTES], other[..NONCE_BYTES]);
    }
}

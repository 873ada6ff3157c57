//! Every secret of the ledger follows from the seed and a random salt, so that neither records nor snapshots hold one.

use channel::ids::StreamId;
use channel::keys::{InvalidPoint, Point};
use channel::message::Preimage;
use channel::signer::Signer;
use channel::stream::StreamKey;
use secp256k1::{SECP256K1, SecretKey};

/// 16 random bytes, new for each invoice or payment.
pub type Salt = [u8; 16];

/// What an invoice's payer buys.
pub fn invoice_preimage(signer: &dyn Signer, salt: &Salt) -> Preimage {
    Preimage::from_bytes(signer.derive_secret("payment-hub/invoice-preimage/1", salt).to_bytes())
}

/// What proves that the payer has seen the invoice (BOLT 11 `payment_secret`).
pub fn invoice_secret(signer: &dyn Signer, salt: &Salt) -> [u8; 32] {
    signer.derive_secret("payment-hub/invoice-secret/1", salt).to_bytes()
}

/// What a payment without an invoice carries.
pub fn spontaneous_preimage(signer: &dyn Signer, salt: &Salt) -> Preimage {
    Preimage::from_bytes(signer.derive_secret("payment-hub/spontaneous-preimage/1", salt).to_bytes())
}

/// The key that seals one payload. `None` for the odds of 1 in 2^128 that the bytes are no key: take another salt.
pub fn payload_key(signer: &dyn Signer, salt: &Salt) -> Option<SecretKey> {
    SecretKey::from_slice(signer.derive_secret("payment-hub/payload-key/1", salt).as_bytes()).ok()
}

/// The payer's key for one stream, by the stream's random id. `None`: take another id.
pub fn stream_payer_key(signer: &dyn Signer, id: &StreamId) -> Option<SecretKey> {
    SecretKey::from_slice(signer.derive_secret("payment-hub/stream-payer-key/1", &id.0).as_bytes()).ok()
}

/// The point of [`stream_payer_key`].
pub fn stream_payer_point(key: &SecretKey) -> Point {
    Point::from(key.public_key(SECP256K1))
}

/// The payer's stream key.
pub fn payer_stream_key(
    signer: &dyn Signer,
    payee: &Point,
    id: &StreamId,
) -> Result<StreamKey, InvalidPoint> {
    let key = stream_payer_key(signer, id).ok_or(InvalidPoint(*payee))?;
    StreamKey::for_payer(&key, payee, id)
}

/// Authenticates a stream's terms with the stream's key. The key's last tick is never a tick of a stream (its index is above
/// every limit), so its preimage serves as the key of this MAC and nothing else.
pub fn authenticate(key: &StreamKey, terms: &[u8]) -> [u8; 32] {
    use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
    let mut engine = HmacEngine::<sha256::Hash>::new(key.preimage(u64::MAX).as_bytes());
    engine.input(terms);
    Hmac::from_engine(engine).to_byte_array()
}

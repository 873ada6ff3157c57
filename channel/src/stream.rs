//! Micropayment streams: one key agreement, then hashes alone (DESIGN section 6).
//!
//! Tick *i* is locked by `SHA256(HMAC(stream key, i))`. The payer and the payee compute both, the hub
//! neither. Who opens a tick must have made its index durable first; that an index is used once is for the
//! wallet's ledger.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use secp256k1::SecretKey;
use secp256k1::ecdh::SharedSecret;

use crate::amount::Msat;
use crate::bytes::{PaymentHash, PaymentPreimage};
use crate::ids::StreamId;
use crate::kdf::hkdf;
use crate::keys::{CompactSignature, InvalidPoint, Point};
use crate::signer::{Signer, TaggedError, verify_tagged};

const STREAM_INFO: &[u8] = b"payment-hub/stream/1";
const RECEIPT_TAG: &str = "payment-hub/stream-receipt/1";

/// Opens every tick of one stream: a secret of its payer and payee.
#[derive(Clone)]
pub struct StreamKey {
    /// Keyed once: a tick costs two compressions fewer.
    engine: HmacEngine<sha256::Hash>,
}

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StreamKey(hidden)")
    }
}

impl StreamKey {
    /// The payer's way: with the secret of a key made for this stream alone, whose point it tells the payee.
    pub fn for_payer(payer: &SecretKey, payee: &Point, id: &StreamId) -> Result<Self, InvalidPoint> {
        let shared = SharedSecret::new(&payee.parse()?, payer);
        Ok(Self::from_shared(&shared.secret_bytes(), id))
    }

    /// The payee's way: with its node key and the payer's point.
    pub fn for_payee(payee: &dyn Signer, payer: &Point, id: &StreamId) -> Result<Self, InvalidPoint> {
        Ok(Self::from_shared(payee.shared_secret(payer)?.as_bytes(), id))
    }

    fn from_shared(shared: &[u8; 32], id: &StreamId) -> Self {
        Self { engine: HmacEngine::new(&hkdf(STREAM_INFO, shared, &[&id.0])) }
    }

    /// What opens a tick.
    pub fn preimage(&self, index: u64) -> PaymentPreimage {
        let mut engine = self.engine.clone();
        engine.input(&index.to_be_bytes());
        PaymentPreimage::from_bytes(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array())
    }

    /// What locks a tick.
    pub fn payment_hash(&self, index: u64) -> PaymentHash {
        self.preimage(index).payment_hash()
    }
}

/// What a payee attests: all it was paid in a stream up to a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub stream: StreamId,
    pub highest_tick: u64,
    pub total_msat: Msat,
}

impl Receipt {
    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.stream.0);
        bytes[16..24].copy_from_slice(&self.highest_tick.to_be_bytes());
        bytes[24..].copy_from_slice(&self.total_msat.to_u64().to_be_bytes());
        bytes
    }

    /// The payee's signature, with its node key.
    pub fn sign(&self, payee: &dyn Signer) -> CompactSignature {
        payee.sign_tagged(RECEIPT_TAG, &self.to_bytes())
    }

    /// Whether the payee signed this receipt.
    pub fn verify(&self, payee: &Point, signature: &CompactSignature) -> Result<(), TaggedError> {
        verify_tagged(payee, RECEIPT_TAG, &self.to_bytes(), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed_signer::SeedSigner;
    use secp256k1::SECP256K1;

    const ID: StreamId = StreamId([5; 16]);

    #[test]
    fn payer_and_payee_compute_the_same_ticks_and_nobody_else() {
        let payee = SeedSigner::new(&[1; 64]);
        let payer = SecretKey::from_slice(&[6; 32]).unwrap();
        let payer_point = Point::from(payer.public_key(SECP256K1));
        let here = StreamKey::for_payer(&payer, &payee.node_id(), &ID).unwrap();
        let there = StreamKey::for_payee(&payee, &payer_point, &ID).unwrap();
        let elsewhere = StreamKey::for_payee(&SeedSigner::new(&[2; 64]), &payer_point, &ID).unwrap();
        let other_stream = StreamKey::for_payee(&payee, &payer_point, &StreamId([6; 16])).unwrap();
        for index in [0, 1, 2, u64::MAX] {
            assert_eq!(here.preimage(index), there.preimage(index));
            assert_eq!(here.payment_hash(index), there.preimage(index).payment_hash());
            assert_ne!(here.preimage(index), elsewhere.preimage(index));
            assert_ne!(here.preimage(index), other_stream.preimage(index));
        }
        assert_ne!(here.preimage(0), here.preimage(1));
    }

    #[test]
    fn a_receipt_holds_for_its_own_values_only() {
        let payee = SeedSigner::new(&[1; 64]);
        let receipt = Receipt { stream: ID, highest_tick: 9, total_msat: Msat::from_u32(1_000) };
        let signature = receipt.sign(&payee);
        assert_eq!(receipt.verify(&payee.node_id(), &signature), Ok(()));
        let raised = Receipt { total_msat: Msat::from_u32(1_001), ..receipt };
        assert!(raised.verify(&payee.node_id(), &signature).is_err());
        assert!(receipt.verify(&SeedSigner::new(&[2; 64]).node_id(), &signature).is_err());
    }
}

//! Per-commitment secrets: the sender's are all derived from one seed, the receiver keeps all it was ever given in at
//! most 49 buckets (BOLT 3, "Per-commitment Secret Requirements" and "Efficient Per-commitment Secret Storage").
//!
//! Commitment numbers rise from 0; the specification's index falls from 2^48 - 1, so that a later secret yields the
//! earlier ones and never the reverse. This module alone converts between the two.

use bitcoin::hashes::{Hash, sha256};
use serde::{Deserialize, Serialize};

use crate::bytes::named_bytes;
use crate::limits::MAX_COMMITMENT_NUMBER;

named_bytes!(
    /// The secret whose public point made one commitment's keys; to reveal it is to revoke that commitment.
    CommitmentSecret,
    32,
    secret
);

/// Bits of an index, and the bucket that only index 0 fills.
const INDEX_BITS: u32 = 48;

/// The index of a commitment's secret: 2^48 - 1 for commitment 0, falling from there.
///
/// Numbers above [`MAX_COMMITMENT_NUMBER`] do not exist; the state machine stops before.
pub const fn index_of(number: u64) -> u64 {
    MAX_COMMITMENT_NUMBER.saturating_sub(number)
}

/// The secret at an index (BOLT 3, `generate_from_seed`).
pub fn secret_at_index(seed: &[u8; 32], index: u64) -> CommitmentSecret {
    CommitmentSecret::from_bytes(derive(*seed, INDEX_BITS, index))
}

/// The secret of a commitment number.
pub fn commitment_secret(seed: &[u8; 32], number: u64) -> CommitmentSecret {
    secret_at_index(seed, index_of(number))
}

/// BOLT 3, `derive_secret`: from a secret whose index ends in `bits` zeros to that of an index with the same start.
fn derive(base: [u8; 32], bits: u32, index: u64) -> [u8; 32] {
    let mut value = base;
    for bit in (0..bits).rev() {
        if index >> bit & 1 == 1 {
            value[(bit / 8) as usize] ^= 1 << (bit % 8);
            value = sha256::Hash::hash(&value).to_byte_array();
        }
    }
    value
}

/// The counterparty's revealed secrets, from commitment 0 on without a gap.
///
/// Bucket *b* holds the latest secret whose index ends in exactly *b* zero bits; which index that is follows from the
/// number of secrets, so only the secrets themselves are kept: 32 bytes for each doubling of the channel's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStore {
    count: u64,
    buckets: Vec<CommitmentSecret>,
}

/// Why a revealed secret was not stored. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Secrets come in the order of commitments, without a gap.
    #[error("secret of commitment {number} given, that of {expected} is next")]
    OutOfOrder { number: u64, expected: u64 },
    /// The secret does not lead to an earlier one as the scheme demands.
    #[error("secret of commitment {number} does not fit the earlier ones")]
    Inconsistent { number: u64 },
}

impl SecretStore {
    /// An empty store, for a channel whose commitment 0 is not yet revoked.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many secrets were stored: also the number of the commitment whose secret is next.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Checks the next secret against all the earlier ones without storing it: 1 hash on average.
    ///
    /// That its point is the commitment's is for the caller to check: it costs a curve operation.
    pub fn check(&self, number: u64, secret: &CommitmentSecret) -> Result<(), SecretError> {
        if number != self.count || number > MAX_COMMITMENT_NUMBER {
            return Err(SecretError::OutOfOrder { number, expected: self.count });
        }
        let index = index_of(number);
        let bucket = bucket_of(index);
        let consistent = self.buckets.iter().zip(0..bucket).all(|(known, lower)| {
            // The latest index that ends in exactly `lower` zeros is the nearest above this one.
            derive(secret.to_bytes(), bucket, index + (1 << lower)) == *known.as_bytes()
        });
        if consistent { Ok(()) } else { Err(SecretError::Inconsistent { number }) }
    }

    /// Stores a secret that [`SecretStore::check`] has passed. No hash is computed, so replay is fast.
    pub fn insert_checked(&mut self, secret: CommitmentSecret) {
        let bucket = bucket_of(index_of(self.count)) as usize;
        match self.buckets.get_mut(bucket) {
            Some(place) => *place = secret,
            // Indices fall from all ones, so that buckets are first filled in their order.
            None => self.buckets.push(secret),
        }
        self.count += 1;
    }

    /// Checks and stores the secret of the next commitment.
    pub fn insert(&mut self, number: u64, secret: CommitmentSecret) -> Result<(), SecretError> {
        self.check(number, &secret)?;
        self.insert_checked(secret);
        Ok(())
    }

    /// The secret of any revoked commitment; `None` when it was not revealed yet.
    pub fn get(&self, number: u64) -> Option<CommitmentSecret> {
        if number >= self.count {
            return None;
        }
        let wanted = index_of(number);
        let lowest = index_of(self.count - 1);
        self.buckets.iter().zip(0..).find_map(|(secret, bucket)| {
            let kept = lowest_index_in_bucket(bucket, lowest);
            (kept >> bucket == wanted >> bucket)
                .then(|| CommitmentSecret::from_bytes(derive(secret.to_bytes(), bucket, wanted)))
        })
    }
}

/// The bucket of an index: the zero bits it ends in.
fn bucket_of(index: u64) -> u32 {
    index.trailing_zeros().min(INDEX_BITS)
}

/// The lowest index that ends in exactly `bucket` zeros and is not below `lowest`.
fn lowest_index_in_bucket(bucket: u32, lowest: u64) -> u64 {
    if bucket == INDEX_BITS {
        return 0;
    }
    let quotient = lowest.div_ceil(1 << bucket);
    (quotient | 1) << bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_revoked_secret_is_found_and_no_other() {
        let seed = [7; 32];
        let mut store = SecretStore::new();
        for number in 0..300 {
            assert_eq!(store.get(number), None);
            store.insert(number, commitment_secret(&seed, number)).unwrap();
            for earlier in 0..=number {
                assert_eq!(store.get(earlier), Some(commitment_secret(&seed, earlier)));
            }
        }
        assert_eq!(store.buckets.len(), 9);
        let encoded = postcard::to_stdvec(&store).unwrap();
        assert_eq!(encoded.len(), 2 + 1 + 9 * 32);
        assert_eq!(postcard::from_bytes::<SecretStore>(&encoded), Ok(store));
    }

    #[test]
    fn a_secret_out_of_order_or_foreign_changes_nothing() {
        let seed = [7; 32];
        let mut store = SecretStore::new();
        store.insert(0, commitment_secret(&seed, 0)).unwrap();
        let before = store.clone();
        assert_eq!(
            store.insert(2, commitment_secret(&seed, 2)),
            Err(SecretError::OutOfOrder { number: 2, expected: 1 })
        );
        assert_eq!(
            store.insert(0, commitment_secret(&seed, 0)),
            Err(SecretError::OutOfOrder { number: 0, expected: 1 })
        );
        assert_eq!(
            store.insert(1, commitment_secret(&[8; 32], 1)),
            Err(SecretError::Inconsistent { number: 1 })
        );
        assert_eq!(store, before);
    }

    #[test]
    fn the_last_index_fills_the_last_bucket() {
        assert_eq!(bucket_of(index_of(MAX_COMMITMENT_NUMBER)), INDEX_BITS);
        assert_eq!(lowest_index_in_bucket(INDEX_BITS, 0), 0);
    }
}

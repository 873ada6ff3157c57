//! What the machine's single operations cost: the yardstick of every other figure.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, sha256};
use secp256k1::{Message, PublicKey, SECP256K1, Scalar, SecretKey};
use serde::Serialize;

/// How long each cost is timed for. Short enough to be no burden, long enough for thousands of operations.
const EACH: Duration = Duration::from_millis(200);

/// What one commit of a small batch writes: a page of the log and the pages of the tree above it.
const FSYNC_BYTES: usize = 24 * 1024;

/// Microseconds of one core an operation; for `fsync`, of waiting.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RawCosts {
    /// Checking an ECDSA signature.
    pub verify: f64,
    /// Making one, without grinding for a low R.
    pub sign: f64,
    /// The generator times a secret.
    pub base_mult: f64,
    /// A point times a secret.
    pub tweak_mul: f64,
    /// A point plus the generator times a secret.
    pub tweak_add: f64,
    /// SHA-256 of 32 bytes.
    pub sha256: f64,
    /// Appending to a file what a small commit takes, and waiting until it is on the disk.
    pub fsync: f64,
}

impl RawCosts {
    /// Times each on this thread; the file of the fsyncs lies in `folder`, which should be on the disk of the journals.
    ///
    /// # Errors
    /// The operating system's.
    pub fn measure(folder: &Path) -> std::io::Result<RawCosts> {
        let secret =
            SecretKey::from_slice(&[0x5a; 32]).expect("this constant is below the order of the curve");
        let point = PublicKey::from_secret_key(SECP256K1, &secret);
        let scalar =
            Scalar::from_be_bytes([0x3c; 32]).expect("this constant is below the order of the curve");
        let message = Message::from_digest([0xa5; 32]);
        let signature = SECP256K1.sign_ecdsa(&message, &secret);
        let mut digest = [0u8; 32];
        Ok(RawCosts {
            verify: time(|| {
                black_box(SECP256K1.verify_ecdsa(black_box(&message), &signature, &point)).is_ok()
            }),
            sign: time(|| black_box(SECP256K1.sign_ecdsa(black_box(&message), &secret))),
            base_mult: time(|| black_box(PublicKey::from_secret_key(SECP256K1, black_box(&secret)))),
            tweak_mul: time(|| black_box(black_box(point).mul_tweak(SECP256K1, &scalar))),
            tweak_add: time(|| black_box(black_box(point).add_exp_tweak(SECP256K1, &scalar))),
            sha256: time(|| digest = sha256::Hash::hash(black_box(&digest)).to_byte_array()),
            fsync: fsync(folder)?,
        })
    }
}

/// Microseconds an operation: batches of it for [`EACH`], and the median batch, which other processes disturb least.
fn time<T>(mut operation: impl FnMut() -> T) -> f64 {
    const BATCH: u32 = 64;
    let end = Instant::now() + EACH;
    let mut batches = Vec::new();
    while Instant::now() < end || batches.is_empty() {
        let start = Instant::now();
        for _ in 0..BATCH {
            black_box(operation());
        }
        batches.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    median(batches)
}

fn fsync(folder: &Path) -> std::io::Result<f64> {
    let mut file = tempfile::tempfile_in(folder)?;
    let bytes = vec![0x77; FSYNC_BYTES];
    let end = Instant::now() + EACH;
    let mut times = Vec::new();
    while Instant::now() < end || times.len() < 3 {
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cost_is_measured_and_in_its_order_of_magnitude() {
        let costs = RawCosts::measure(&std::env::temp_dir()).unwrap();
        let curve = [costs.verify, costs.sign, costs.base_mult, costs.tweak_mul, costs.tweak_add];
        assert!(curve.iter().all(|cost| (1.0..10_000.0).contains(cost)), "{costs:?}");
        assert!(costs.sha256 > 0.0 && costs.sha256 < costs.verify, "{costs:?}");
        assert!(costs.fsync > 0.0, "{costs:?}");
    }
}

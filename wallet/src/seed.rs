//! The wallet's one secret: BIP 39 words in a file only its owner can read. Every key follows from them.

use bip39::Mnemonic;
use rand::RngCore;

use crate::data_dir::{DataDirError, Layout, read_secret, write_secret};

/// 256 bits.
const ENTROPY_BYTES: usize = 32;

/// The words.
#[derive(Clone)]
pub struct Seed(Mnemonic);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The words are none of BIP 39.
#[derive(Debug, thiserror::Error)]
#[error("these are not 12 to 24 English BIP 39 words with a correct checksum: {0}")]
pub struct WrongWords(bip39::Error);

impl Seed {
    /// Draws a new one.
    pub fn generate() -> Seed {
        let mut entropy = [0u8; ENTROPY_BYTES];
        rand::rngs::OsRng.fill_bytes(&mut entropy);
        Seed(Mnemonic::from_entropy(&entropy).expect("32 bytes are a length BIP 39 knows"))
    }

    /// Reads words as people write them: any case, any white space.
    pub fn from_words(words: &str) -> Result<Seed, WrongWords> {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        Mnemonic::parse_normalized(&words).map(Seed).map_err(WrongWords)
    }

    /// The words, to be shown once.
    pub fn words(&self) -> String {
        self.0.to_string()
    }

    /// The BIP 39 seed, without a passphrase.
    pub fn bytes(&self) -> [u8; 64] {
        self.0.to_seed("")
    }

    /// Keeps it in the data folder, which must not hold one.
    pub fn store(&self, layout: &Layout) -> Result<(), DataDirError> {
        if layout.seed().exists() || layout.journal().exists() {
            return Err(DataDirError::HasWallet { root: layout.root().to_owned() });
        }
        write_secret(&layout.seed(), format!("{}\n", self.words()).as_bytes())
    }

    /// Finds it in the data folder.
    pub fn load(layout: &Layout) -> Result<Seed, DataDirError> {
        let path = layout.seed();
        let bytes =
            read_secret(&path)?.ok_or_else(|| DataDirError::NoWallet { root: layout.root().to_owned() })?;
        let text = String::from_utf8_lossy(&bytes);
        Seed::from_words(&text).map_err(|error| DataDirError::Malformed {
            path,
            found: error.to_string(),
            expected: "the words that `hubwallet init` wrote",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert!(matches!(Seed::load(&layout), Err(DataDirError::NoWallet { .. })));
        let seed = Seed::generate();
        seed.store(&layout).unwrap();
        assert_eq!(Seed::load(&layout).unwrap().bytes(), seed.bytes());
        assert_eq!(seed.words().split_whitespace().count(), 24);
        assert!(matches!(Seed::generate().store(&layout), Err(DataDirError::HasWallet { .. })));
        assert_eq!(Seed::load(&layout).unwrap().bytes(), seed.bytes());
    }

    #[test]
    fn words_are_read_as_people_write_them_and_wrong_ones_are_refused() {
        let seed = Seed::generate();
        let untidy = format!("  {}\n", seed.words().to_uppercase().replace(' ', "\n  "));
        assert_eq!(Seed::from_words(&untidy).unwrap().bytes(), seed.bytes());
        assert!(Seed::from_words("").is_err());
        assert!(Seed::from_words(&"abandon ".repeat(24)).is_err(), "the checksum is wrong");
    }
}

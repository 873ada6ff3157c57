//! The one secret of a node: BIP 39 words in a file only its owner can read. Every key follows from them.

use std::path::Path;

use bip39::Mnemonic;
use rand::RngCore;

use crate::data_dir::{FolderError, write_secret};

/// 256 bits: twenty-four words.
const ENTROPY_BYTES: usize = 32;

/// The words. Never printed by accident.
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
pub struct WrongWords(pub bip39::Error);

impl Seed {
    /// Draws a new one.
    pub fn generate() -> Seed {
        let mut entropy = [0u8; ENTROPY_BYTES];
        rand::rngs::OsRng.fill_bytes(&mut entropy);
        Seed(Mnemonic::from_entropy(&entropy).expect("32 bytes are a length BIP 39 knows"))
    }

    /// Reads words as [`Seed::write`] writes them, in lower case.
    pub fn parse(words: &str) -> Result<Seed, WrongWords> {
        Mnemonic::parse_normalized(words.trim()).map(Seed).map_err(WrongWords)
    }

    /// Reads words as people write them: any case, any white space.
    pub fn from_words(words: &str) -> Result<Seed, WrongWords> {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        Seed::parse(&words)
    }

    /// The words, to be shown once.
    pub fn words(&self) -> String {
        self.0.to_string()
    }

    /// The BIP 39 seed, without a passphrase.
    pub fn bytes(&self) -> [u8; 64] {
        self.0.to_seed("")
    }

    /// Writes the words to a file, in the place of whatever is there: ask first whether something is.
    pub fn write(&self, path: &Path) -> Result<(), FolderError> {
        write_secret(path, format!("{}\n", self.words()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::read_secret;

    #[test]
    fn what_is_written_is_twenty_four_words_that_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let seed = Seed::generate();
        seed.write(&path).unwrap();
        let text = String::from_utf8(read_secret(&path).unwrap().unwrap()).unwrap();
        assert_eq!(text.split_whitespace().count(), 24);
        assert_eq!(Seed::parse(&text).unwrap().bytes(), seed.bytes());
        assert_eq!(format!("{seed:?}"), "Seed(..)");
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

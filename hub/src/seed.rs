//! The one secret of the hub: twenty-four BIP 39 words in a file, from which every key derives.
//!
//! It is made on the first start. A data folder with a journal but without its seed is refused: a new seed
//! beside old channels would sign nothing they accept.

use bip39::Mnemonic;
use rand::RngCore;

use crate::data_dir::{DataDirError, Layout, read_secret, write_secret};

/// 256 bits of entropy.
const WORDS: usize = 24;

/// The BIP 39 seed: 64 bytes. Never printed.
#[derive(Clone)]
pub struct Seed(pub [u8; 64]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Whether the seed was found or made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Loaded,
    Created,
}

/// Loads the seed, or makes and stores a new one if the folder is new.
pub fn load_or_create(layout: &Layout) -> Result<(Seed, Origin), DataDirError> {
    let path = layout.seed();
    if let Some(bytes) = read_secret(&path)? {
        let malformed = |found: String| DataDirError::Malformed {
            path: path.clone(),
            found,
            expected: "12 to 24 BIP 39 words in English, with a correct checksum",
        };
        let text = String::from_utf8(bytes).map_err(|_| malformed("bytes that are not text".into()))?;
        let words = Mnemonic::parse_normalized(text.trim()).map_err(|error| malformed(error.to_string()))?;
        return Ok((Seed(words.to_seed("")), Origin::Loaded));
    }
    if layout.journal().exists() {
        return Err(DataDirError::SeedMissing { journal: layout.journal(), seed: path });
    }
    let mut entropy = [0u8; WORDS * 4 / 3];
    rand::rngs::OsRng.fill_bytes(&mut entropy);
    let words = Mnemonic::from_entropy(&entropy).expect("32 bytes are a length BIP 39 knows");
    write_secret(&path, format!("{words}\n").as_bytes())?;
    Ok((Seed(words.to_seed("")), Origin::Created))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        (folder, layout)
    }

    #[test]
    fn the_second_start_finds_the_seed_of_the_first() {
        let (_folder, layout) = folder();
        let (first, origin) = load_or_create(&layout).unwrap();
        assert_eq!(origin, Origin::Created);
        let (second, origin) = load_or_create(&layout).unwrap();
        assert_eq!(origin, Origin::Loaded);
        assert_eq!(first.0, second.0);
        let words = std::fs::read_to_string(layout.seed()).unwrap();
        assert_eq!(words.split_whitespace().count(), WORDS);
    }

    #[test]
    fn words_with_a_wrong_checksum_are_refused_and_never_replaced() {
        let (_folder, layout) = folder();
        let wrong = "abandon ".repeat(24);
        write_secret(&layout.seed(), wrong.as_bytes()).unwrap();
        let text = load_or_create(&layout).unwrap_err().to_string();
        assert!(text.contains("expected 12 to 24 BIP 39 words"), "{text}");
        assert_eq!(std::fs::read_to_string(layout.seed()).unwrap(), wrong);
    }

    #[test]
    fn a_journal_without_its_seed_is_refused() {
        let (_folder, layout) = folder();
        std::fs::write(layout.journal(), b"x").unwrap();
        let text = load_or_create(&layout).unwrap_err().to_string();
        assert!(text.contains("restore the seed"), "{text}");
    }
}

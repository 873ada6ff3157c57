//! The one secret of the hub: twenty-four BIP 39 words in a file, from which every key derives.
//!
//! It is made on the first start. A data folder with a journal but without its seed is refused: a new seed
//! beside old channels would sign nothing they accept.

use std::path::PathBuf;

use daemon::data_dir::{FolderError, read_secret};
use daemon::seed::Seed;

use crate::data_dir::Layout;

/// Why there is no seed to start with.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(
        "{} holds a journal but {} is missing: restore the seed from its backup before starting",
        journal.display(), seed.display()
    )]
    Missing { journal: PathBuf, seed: PathBuf },
}

/// Whether the seed was found or made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Loaded,
    Created,
}

/// Loads the seed, or makes and stores a new one if the folder is new.
pub fn load_or_create(layout: &Layout) -> Result<(Seed, Origin), SeedError> {
    let path = layout.seed();
    if let Some(bytes) = read_secret(&path)? {
        let malformed = |found: String| FolderError::Malformed {
            path: path.clone(),
            found,
            expected: "12 to 24 BIP 39 words in English, with a correct checksum".into(),
        };
        let text = String::from_utf8(bytes).map_err(|_| malformed("bytes that are not text".into()))?;
        let seed = Seed::parse(&text).map_err(|wrong| malformed(wrong.0.to_string()))?;
        return Ok((seed, Origin::Loaded));
    }
    if layout.journal().exists() {
        return Err(SeedError::Missing { journal: layout.journal(), seed: path });
    }
    let seed = Seed::generate();
    seed.write(&path)?;
    Ok((seed, Origin::Created))
}

#[cfg(test)]
mod tests {
    use daemon::data_dir::write_secret;

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
        assert_eq!(first.bytes(), second.bytes());
        let words = std::fs::read_to_string(layout.seed()).unwrap();
        assert_eq!(words.split_whitespace().count(), 24);
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

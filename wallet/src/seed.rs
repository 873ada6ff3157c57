//! The wallet's seed in its folder: stored once, by `hubwallet init`, and never replaced.

use daemon::data_dir::{FolderError, read_secret};
use daemon::seed::Seed;

use crate::data_dir::{DataDirError, Layout};

/// Keeps it in the data folder, which must not hold one.
pub fn store(seed: &Seed, layout: &Layout) -> Result<(), DataDirError> {
    if layout.seed().exists() || layout.journal().exists() {
        return Err(DataDirError::HasWallet { root: layout.root().to_owned() });
    }
    Ok(seed.write(&layout.seed())?)
}

/// Finds it in the data folder.
pub fn load(layout: &Layout) -> Result<Seed, DataDirError> {
    let path = layout.seed();
    let bytes =
        read_secret(&path)?.ok_or_else(|| DataDirError::NoWallet { root: layout.root().to_owned() })?;
    let text = String::from_utf8_lossy(&bytes);
    let seed = Seed::from_words(&text).map_err(|error| FolderError::Malformed {
        path,
        found: error.to_string(),
        expected: "the words that `hubwallet init` wrote".into(),
    })?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert!(matches!(load(&layout), Err(DataDirError::NoWallet { .. })));
        let seed = Seed::generate();
        store(&seed, &layout).unwrap();
        assert_eq!(load(&layout).unwrap().bytes(), seed.bytes());
        assert_eq!(seed.words().split_whitespace().count(), 24);
        assert!(matches!(store(&Seed::generate(), &layout), Err(DataDirError::HasWallet { .. })));
        assert_eq!(load(&layout).unwrap().bytes(), seed.bytes());
    }
}

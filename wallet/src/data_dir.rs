//! The folder of one wallet: what lies in it. One process at a time holds it, by a [`DataDir`].

use std::path::{Path, PathBuf};

use daemon::Program;
use daemon::data_dir::{FolderError, Held, hold};

/// How messages about the folder name what runs in it.
pub const PROGRAM: Program = Program { name: "the daemon", stop: "hubwallet stop" };

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{} holds no wallet: make one with `hubwallet init --data-dir {}`", root.display(), root.display())]
    NoWallet { root: PathBuf },
    #[error("{} holds a wallet already; choose another --data-dir, nothing was changed", root.display())]
    HasWallet { root: PathBuf },
}

/// The paths inside a data folder; needs no lock, so that commands find the daemon's token and address.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("wallet.toml")
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.redb")
    }

    pub fn seed(&self) -> PathBuf {
        self.root.join("seed")
    }

    pub fn token(&self) -> PathBuf {
        self.root.join("wallet.token")
    }

    /// The address the daemon really listens on, written at each start.
    pub fn address(&self) -> PathBuf {
        self.root.join("wallet.addr")
    }
}

/// An open data folder. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    layout: Layout,
    _held: Held,
}

impl DataDir {
    /// Creates the folder if needed, checks that nobody else can look into it, and locks it.
    pub fn open(root: &Path) -> Result<DataDir, FolderError> {
        let held = hold(root, &PROGRAM)?;
        Ok(DataDir { layout: Layout::new(root), _held: held })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_how_to_stop_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let _first = DataDir::open(&root).unwrap();
        let text = DataDir::open(&root).unwrap_err().to_string();
        assert!(text.ends_with("stop it first (`hubwallet stop`), or choose another --data-dir"), "{text}");
    }
}

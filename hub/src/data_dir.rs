//! The folder of one hub: what lies in it. One process at a time holds it, by a [`DataDir`].

use std::path::{Path, PathBuf};

use daemon::Program;
use daemon::data_dir::{FolderError, Held, hold};

/// How messages about the folder name what runs in it.
pub const PROGRAM: Program = Program { name: "hubd", stop: "hubctl stop" };

/// The paths inside a data folder; needs no lock, so that `hubctl` can find token and address.
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
        self.root.join("hubd.toml")
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.redb")
    }

    pub fn seed(&self) -> PathBuf {
        self.root.join("seed")
    }

    pub fn certificate(&self) -> PathBuf {
        self.root.join("tls-certificate.pem")
    }

    pub fn certificate_key(&self) -> PathBuf {
        self.root.join("tls-key.pem")
    }

    pub fn operator_token(&self) -> PathBuf {
        self.root.join("operator.token")
    }

    /// The address the wallets' listener really has, written at each start.
    pub fn wallets_address(&self) -> PathBuf {
        self.root.join("wallets.addr")
    }

    /// The address the operator's listener really has, written at each start.
    pub fn operator_address(&self) -> PathBuf {
        self.root.join("operator.addr")
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
        assert!(text.ends_with("stop it first (`hubctl stop`), or choose another --data-dir"), "{text}");
    }
}

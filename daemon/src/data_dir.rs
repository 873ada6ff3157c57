//! The folder of one daemon: who may use it, and how files in it are read and written.
//!
//! One process at a time holds it ([`hold`] takes the lock and [`Held`] keeps it). Secrets are readable by the
//! owner alone, and a secret readable by others is refused rather than used. Every file is written whole: to a
//! neighbour, synced, then renamed.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Program;

/// Reading and writing by the owner only.
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
/// The file that is locked while a process holds the folder.
const LOCK: &str = "lock";

/// Why a folder or a file in it cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error(
        "another process uses {}: stop it first (`{stop}`), or choose another --data-dir",
        path.display()
    )]
    InUse { path: PathBuf, stop: &'static str },
    #[error("{} has mode {found:o}, expected {expected:o}: others can read it; run `chmod {expected:o} {}`", path.display(), path.display())]
    OpenToOthers { path: PathBuf, found: u32, expected: u32 },
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds {found}, expected {expected}", path.display())]
    Malformed { path: PathBuf, found: String, expected: Cow<'static, str> },
}

/// A folder that no other process can hold, until this is dropped.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// Creates the folder if needed, checks that nobody else can look into it, and locks it.
pub fn hold(root: &Path, program: &Program) -> Result<Held, FolderError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Unwritable { path, source }
    };
    if !root.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unwritable(root))?;
    }
    check_mode(root, 0o700)?;
    let lock_path = root.join(LOCK);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(SECRET_MODE)
        .open(&lock_path)
        .map_err(unwritable(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Held { _lock: lock }),
        Err(TryLockError::WouldBlock) => {
            Err(FolderError::InUse { path: root.to_owned(), stop: program.stop })
        }
        Err(TryLockError::Error(source)) => Err(FolderError::Unwritable { path: lock_path, source }),
    }
}

/// Reads a secret; a file that others may read is refused by name. `None` when there is none.
pub fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            check_mode(path, SECRET_MODE)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FolderError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Writes a secret whole and durably, readable by the owner alone.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    write_whole(path, bytes, SECRET_MODE)
}

/// Writes a file anybody may read, whole and durably.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    write_whole(path, bytes, PUBLIC_MODE)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FolderError> {
    let write = || -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let mut file = File::options().create(true).truncate(true).write(true).mode(mode).open(&beside)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| FolderError::Unwritable { path: path.to_owned(), source })
}

fn check_mode(path: &Path, expected: u32) -> Result<(), FolderError> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| FolderError::Unreadable { path: path.to_owned(), source })?;
    let found = metadata.permissions().mode() & 0o777;
    if found & 0o077 != 0 {
        return Err(FolderError::OpenToOthers { path: path.to_owned(), found, expected });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TESTED;

    #[test]
    fn a_second_process_on_the_same_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let first = hold(&root, &TESTED).unwrap();
        let text = hold(&root, &TESTED).unwrap_err().to_string();
        assert!(text.contains("another process uses"), "{text}");
        assert!(text.contains("(`testctl stop`)"), "{text}");
        drop(first);
        assert!(hold(&root, &TESTED).is_ok());
    }

    #[test]
    fn a_folder_or_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = hold(&root, &TESTED).unwrap_err().to_string();
        assert!(text.contains("chmod 700"), "{text}");

        let secret = folder.path().join("secret");
        write_secret(&secret, b"x").unwrap();
        assert_eq!(read_secret(&secret).unwrap(), Some(b"x".to_vec()));
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
        let text = read_secret(&secret).unwrap_err().to_string();
        assert!(text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_missing_secret_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_secret(&folder.path().join("none")).unwrap().is_none());
    }
}

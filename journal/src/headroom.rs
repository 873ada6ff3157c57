//! Room on the disk: refused early and by name, before a write fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that this user may still write on the file system that holds `path`, a file or a folder that exists.
/// Costs one system call.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    fs4::available_space(path)
}

/// The least free space with which new work is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// In bytes.
    pub minimum: u64,
}

/// Why new work must be refused.
#[derive(Debug, thiserror::Error)]
pub enum HeadroomError {
    #[error("{} has {free} bytes free, at least {minimum} are needed", path.display())]
    TooLittle { path: PathBuf, free: u64, minimum: u64 },
    #[error("the free space of {} is unknown: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Headroom {
    /// The free bytes of the file system that holds `path`, if they are enough.
    pub fn check(&self, path: &Path) -> Result<u64, HeadroomError> {
        self.judge(path, free_bytes(path))
    }

    fn judge(&self, path: &Path, free: io::Result<u64>) -> Result<u64, HeadroomError> {
        let free = free.map_err(|source| HeadroomError::Io { path: path.to_owned(), source })?;
        if free < self.minimum {
            return Err(HeadroomError::TooLittle { path: path.to_owned(), free, minimum: self.minimum });
        }
        Ok(free)
    }
}

/// Whether there is room for new work where a journal is kept, asked as often as wanted: a journal need not lie on a file
/// system (see [`Journal::open_with_backend`](crate::Journal::open_with_backend)). Cheap to clone.
#[derive(Clone)]
pub struct Room(Arc<dyn Fn() -> Result<u64, HeadroomError> + Send + Sync>);

impl Room {
    /// The room on the file system that holds `path`, a file or a folder that exists.
    pub fn on_file_system(path: PathBuf, least: Headroom) -> Self {
        Room(Arc::new(move || least.check(&path)))
    }

    /// The room in a storage that tells its free bytes itself; `name` is for messages.
    pub fn in_storage(
        name: &str,
        least: Headroom,
        free: impl Fn() -> io::Result<u64> + Send + Sync + 'static,
    ) -> Self {
        let name = PathBuf::from(name);
        Room(Arc::new(move || least.judge(&name, free())))
    }

    /// The free bytes, if they are enough.
    pub fn check(&self) -> Result<u64, HeadroomError> {
        (self.0)()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_that_tells_its_free_bytes_is_judged_like_a_file_system() {
        let least = Headroom { minimum: 10 };
        let with = |free: u64| Room::in_storage("memory", least, move || Ok(free)).check();
        assert_eq!(with(10).unwrap(), 10);
        assert!(matches!(with(9), Err(HeadroomError::TooLittle { free: 9, minimum: 10, .. })));
        let broken = Room::in_storage("memory", least, || Err(io::Error::other("unplugged"))).check();
        assert!(matches!(broken, Err(HeadroomError::Io { .. })));
    }
}

//! One process at a time has an archive open.

use crate::error::ArchiveError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Held while an archive is open; the system lets go of it when the process ends, however it ends.
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock of the archive in `dir`. Error: it is taken.
    pub(crate) fn take(dir: &Path) -> Result<Self, ArchiveError> {
        let path = dir.join("lock");
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let store = |e: std::io::Error| ArchiveError::Store {
            path: path.clone(),
            reason: e.to_string(),
        };
        let file = opened.map_err(store)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(ArchiveError::Busy(dir.to_path_buf())),
            Err(TryLockError::Error(e)) => Err(store(e)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started has it too, until it runs its own program.
        let _ = self.0.unlock();
    }
}

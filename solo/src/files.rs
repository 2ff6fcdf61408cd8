//! Atomic, synced file replacement.

use crate::error::SoloError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An error of the system about a path.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SoloError + '_ {
    move |source| SoloError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Replaces `path` with `bytes` so that after a crash it holds either the old content or the new one, never a mixture: write a
/// sibling, sync it, rename it over, sync the directory. Mode 0600. Errors name the path.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), SoloError> {
    let dir = parent(path);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
    let temporary = dir.join(format!(".{name}.tmp"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io(&temporary))?;
    file.write_all(bytes).map_err(io(&temporary))?;
    file.sync_all().map_err(io(&temporary))?;
    rename(&temporary, path)
}

/// Gives a file a name in its directory, to last.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), SoloError> {
    fs::rename(from, to).map_err(io(to))?;
    // Without this the rename itself may be lost with the power.
    let dir = parent(to);
    File::open(&dir).and_then(|d| d.sync_all()).map_err(io(&dir))
}

/// [`write_atomic`] that creates parent directories and refuses to replace an existing file.
pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> Result<(), SoloError> {
    if path.exists() {
        return Err(SoloError::KeyFile {
            path: path.to_path_buf(),
            reason: "already exists; keys are never overwritten, move it away first".into(),
        });
    }
    let dir = parent(path);
    fs::create_dir_all(&dir).map_err(io(&dir))?;
    write_atomic(path, bytes)
}

/// Reads a whole file; errors name the path.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SoloError> {
    fs::read(path).map_err(io(path))
}

//! Files that are never seen half written.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use crate::{Error, Result};

/// Whether a file that is there already is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// The new content takes its place in one step.
    Replace,
}

/// Writes a file so that after a crash it is there whole or not at all: into a temporary file beside it, synced, then renamed or linked,
/// then the directory is synced. Only its owner may read it. Missing directories are made, for the owner alone.
pub fn write(path: &Path, content: &[u8], existing: Existing) -> Result<()> {
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    create_private_dir(directory)?;
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = directory.join(format!(".{name}.{:016x}.tmp", rand::random::<u64>()));
    let written = write_synced(&temporary, content).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path),
        // A link refuses to replace, which a rename cannot promise.
        Existing::Refuse => fs::hard_link(&temporary, path),
    });
    // After a rename there is nothing left to remove.
    let _ = fs::remove_file(&temporary);
    written.map_err(Error::file(path))?;
    sync_dir(directory)
}

/// Makes a directory, and those above it, that only its owner may enter. One that is there already keeps its mode.
pub fn create_private_dir(directory: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(Error::file(directory))
}

/// Makes renames and removals in a directory survive a crash.
pub fn sync_dir(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(Error::file(directory))
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked_and_leaves_no_temporary() -> Result<()> {
        let home = tempfile::tempdir().expect("temporary directory");
        let path = home.path().join("a/b");
        write(&path, b"1", Existing::Refuse)?;
        assert!(matches!(write(&path, b"2", Existing::Refuse), Err(Error::File { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"1");
        write(&path, b"3", Existing::Replace)?;
        assert_eq!(fs::read(&path).expect("read"), b"3");
        assert_eq!(fs::read_dir(home.path().join("a")).expect("list").count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).expect("metadata").permissions().mode() & 0o777,
                0o600
            );
        }
        Ok(())
    }
}

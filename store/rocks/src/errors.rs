//! RocksDB's errors with what to do about them.

use rocksdb::{Error, ErrorKind};
use tenure_store::StoreError;

pub(crate) const DAMAGED: &str =
    "The database is damaged: move its directory away, then restore a snapshot or a backup";

/// The error of an action, with advice.
pub(crate) fn at(action: &'static str, error: &Error) -> StoreError {
    let detail = error.to_string();
    let has = |text: &str| detail.contains(text);
    let advice = if has("lock hold by current process") || has("While lock file") {
        "Another process, or this one, has the database open: stop the other node, or use another home directory"
    } else if has("No space left on device") || has("Disk quota exceeded") {
        "The disk is full: free space on it, then restart the node; no committed block is lost"
    } else if has("File too large") {
        "A file reached the size limit of this process (ulimit -f): raise it, then restart the node; no committed block is lost"
    } else if has("Permission denied") || has("Read-only file system") {
        "The directory cannot be written: check its owner, its mode and how the disk is mounted"
    } else if has("Too many open files") {
        "Raise the limit of open files (ulimit -n), then restart the node"
    } else if has("While mkdir") {
        "The directory above it does not exist or cannot be written: create it first"
    } else if error.kind() == ErrorKind::Corruption || has("No such file or directory") {
        // A file that the database names is gone.
        DAMAGED
    } else {
        "Check the disk and the system log, then restart the node"
    };
    StoreError::Backend { action, detail, advice }
}

//! What can go wrong, with what to do about it.

use std::path::PathBuf;

/// Why the archive failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file or the index cannot be read or written.
    #[error("archive {path}: {reason}")]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// The system's or the database's reason.
        reason: String,
    },
    /// A record is not what was written.
    #[error(
        "archive {path}: the record at offset {offset} is damaged ({reason}); everything here can be made again: stop the node, \
         remove the archive directory and let the engine fill it"
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the archive open.
    #[error("archive {0} is open in another process; stop that one first")]
    Busy(PathBuf),
    /// The index does not keep up with the blocks.
    #[error("the archive's index is more than {0} s behind the newest block; try again")]
    Behind(u64),
    /// The heights asked for are gone or never were here.
    #[error(
        "height {asked} is not in the archive: the earliest height without a gap up to the newest block is {earliest}"
    )]
    Absent {
        /// The height asked for.
        asked: i64,
        /// The first height from which on nothing is missing.
        earliest: i64,
    },
    /// An earlier failure; nothing is written after it.
    #[error("the archive stopped after an earlier failure: {0}")]
    Stopped(String),
    /// A height that cannot be recorded.
    #[error("height {height} cannot be recorded: {reason}")]
    Height {
        /// The height.
        height: i64,
        /// The rule it breaks.
        reason: String,
    },
}

//! Everything that can go wrong in the store, in words an operator can act on.

use std::fmt;

/// An error of the store or of its backend.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is not one of the stores given to [`Store::open`](crate::Store::open).
    #[error("unknown store \"{name}\"; this node knows {known}")]
    UnknownStore {
        /// The name asked for.
        name: String,
        /// The names the store was opened with, comma separated.
        known: String,
    },
    /// A store name that cannot be part of the key layout.
    #[error("store name \"{name}\" is not allowed: 1 to 32 characters of a-z, 0-9, '_' and '-', each name once")]
    StoreName {
        /// The offending name.
        name: String,
    },
    /// Keys are never empty: ICS23 cannot prove anything about an empty key.
    #[error("empty key in store \"{store}\": keys have at least one byte")]
    EmptyKey {
        /// The store of the change.
        store: String,
    },
    /// A key or value beyond what a record can hold.
    #[error("{what} of {bytes} bytes in store \"{store}\" is over the limit of {limit} bytes")]
    TooLarge {
        /// The store of the change.
        store: String,
        /// "key" or "value".
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// Two changes of one block to one key: the caller's overlay is broken.
    #[error("two changes to one key in a block: store \"{store}\", key {key}")]
    DuplicateChange {
        /// The store of the change.
        store: String,
        /// The key.
        key: HexBytes,
    },
    /// `Change::old` is not what the committed state holds, so the undo record would be wrong: the caller's cache is broken.
    #[error("the old value given for store \"{store}\", key {key} is not the committed one: {detail}")]
    OldValue {
        /// The store of the change.
        store: String,
        /// The key.
        key: HexBytes,
        /// In what way they differ.
        detail: &'static str,
    },
    /// The staged candidate was computed on a state that is no longer the latest.
    #[error("this candidate was staged on height {staged_on}, but the latest height is {latest}: stage it again")]
    StaleCandidate {
        /// Height of the state it was staged on.
        staged_on: u64,
        /// Height committed now.
        latest: u64,
    },
    /// A commit must be for the next height.
    #[error("cannot commit height {height}: the next height is {expected}")]
    WrongHeight {
        /// The height given.
        height: u64,
        /// The only height accepted.
        expected: u64,
    },
    /// A write failed earlier; what is on disk is unknown until the store is opened again.
    #[error("the store is stopped because a write failed ({reason}); repair the cause and restart the node")]
    Stopped {
        /// The first failure.
        reason: String,
    },
    /// Fewer undo records than blocks to take back.
    #[error("cannot take back {asked} blocks: undo records exist for the last {available}")]
    RollbackTooFar {
        /// Blocks asked for.
        asked: u64,
        /// Blocks that can be taken back.
        available: u64,
    },
    /// The stored values do not hash to the stored app hash.
    #[error(
        "the values stored for height {height} have app hash {found}, but the node committed {expected}: \
         the database is damaged; restore it from a snapshot or a backup"
    )]
    RootMismatch {
        /// The height in question.
        height: u64,
        /// The hash recorded when the block was committed.
        expected: HexBytes,
        /// The hash of what is there.
        found: HexBytes,
    },
    /// The database was written by another version of the layout.
    #[error("the database has layout version {found}, this build reads version {supported}: use the matching build")]
    Layout {
        /// The version found.
        found: u32,
        /// The version this build reads and writes.
        supported: u32,
    },
    /// The database holds something this layout does not: not ours, or damaged.
    #[error("not a valid Tenure database: {detail}")]
    Malformed {
        /// What was found where.
        detail: String,
    },
    /// A snapshot restore was begun and not finished.
    #[error("a snapshot restore into this database was interrupted: start it again, or remove the database")]
    RestoreUnfinished,
    /// A restore needs an empty database.
    #[error("the database is not empty: a snapshot is restored only into an empty one")]
    NotEmpty,
    /// One record does not fit a snapshot chunk.
    #[error("store \"{store}\", key {key}: the record needs {bytes} bytes, over the chunk limit of {limit}")]
    RecordOverChunk {
        /// The store of the record.
        store: String,
        /// The key.
        key: HexBytes,
        /// Bytes of a chunk holding it alone.
        bytes: usize,
        /// The chunk limit.
        limit: usize,
    },
    /// A snapshot manifest that cannot be accepted.
    #[error("snapshot manifest refused: {detail}")]
    Manifest {
        /// Which field, and why.
        detail: String,
    },
    /// A snapshot chunk that cannot be accepted.
    #[error("snapshot chunk {index} refused: {detail}")]
    Chunk {
        /// Its index in the manifest, from 0.
        index: usize,
        /// Why.
        detail: String,
    },
    /// The restored values are not those the snapshot promised.
    #[error("the restored snapshot of height {height} has app hash {found}, expected {expected}: it was refused")]
    RestoredRoot {
        /// Height of the snapshot.
        height: u64,
        /// The trusted hash.
        expected: HexBytes,
        /// The hash of what the chunks held.
        found: HexBytes,
    },
    /// ICS23 has no proof for this.
    #[error("no ICS23 proof exists for store \"{store}\", key {key}: {reason}")]
    Unprovable {
        /// The store.
        store: String,
        /// The key.
        key: HexBytes,
        /// Why not.
        reason: &'static str,
    },
    /// The backend failed.
    #[error("{action}: {detail}. {advice}")]
    Backend {
        /// What was being done.
        action: &'static str,
        /// What the backend said.
        detail: String,
        /// What the operator can do.
        advice: &'static str,
    },
}

/// Bytes shown in hexadecimal, cut after 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl HexBytes {
    const SHOWN: usize = 64;
}

impl From<&[u8]> for HexBytes {
    fn from(bytes: &[u8]) -> Self {
        HexBytes(bytes.to_vec())
    }
}

impl From<[u8; 32]> for HexBytes {
    fn from(bytes: [u8; 32]) -> Self {
        HexBytes(bytes.to_vec())
    }
}

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(Self::SHOWN) {
            write!(f, "{byte:02X}")?;
        }
        if self.0.len() > Self::SHOWN {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

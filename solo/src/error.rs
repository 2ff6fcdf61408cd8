//! What can go wrong, with what to do about it.

use std::path::PathBuf;

/// Why the engine could not start, or why it died. Every variant is fatal to the engine.
#[derive(Debug, thiserror::Error)]
pub enum SoloError {
    /// A configuration value that cannot work.
    #[error("{0}")]
    Config(String),
    /// The genesis document is unreadable or breaks a rule.
    #[error("genesis: {0}")]
    Genesis(String),
    /// A key or sign-state file is unreadable, malformed or would be overwritten.
    #[error("{path}: {reason}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Signing would risk a second signature for a height that was already signed.
    #[error("refusing to sign height {height}: {reason}")]
    DoubleSign {
        /// The height asked for.
        height: i64,
        /// What the sign state says.
        reason: String,
    },
    /// The chain id looks like a production network and `force` was not given.
    #[error(
        "chain id {0:?} looks like a main network; the solo engine has one validator and no fault tolerance. \
         Choose another chain id, or force it if this is a single-operator trial"
    )]
    MainNet(String),
    /// The RPC address could not be bound.
    #[error("cannot listen on {addr} for JSON-RPC: {source}; choose another address or stop what uses the port")]
    Listen {
        /// The address, with its port.
        addr: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("engine store {path}: {reason}")]
    Store {
        /// The database file.
        path: PathBuf,
        /// The database's reason.
        reason: String,
    },
    /// The database holds something that cannot be decoded.
    #[error(
        "engine store is corrupt: {0}; restore the data directory from a backup of both the engine and the application"
    )]
    Corrupt(String),
    /// Application and engine disagree about the chain at start.
    #[error("handshake: {0}")]
    Handshake(String),
    /// The application answered something the protocol forbids.
    #[error("application broke ABCI at height {height}: {reason}")]
    App {
        /// The height being decided.
        height: i64,
        /// The rule that was broken.
        reason: String,
    },
    /// The engine or the application panicked on the engine's thread.
    #[error("panic on the engine thread: {0}")]
    Panic(String),
    /// A crash point of [`SoloConfig::crash_at`](crate::SoloConfig::crash_at) was reached.
    #[error("stopped on purpose at crash point {0}")]
    CrashPoint(String),
    /// The archive of results failed.
    #[error(transparent)]
    Archive(#[from] tenure_archive::ArchiveError),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The engine is no longer running.
    #[error("the engine has stopped")]
    Stopped,
}

/// Why a transaction did not enter the mempool without `CheckTx` having refused it. The texts are CometBFT's, for clients that
/// compare them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// The same bytes were seen before and are still remembered.
    #[error("tx already exists in cache")]
    TxInCache,
    /// Count or byte limit reached.
    #[error("mempool is full: number of txs {txs} (max: {max_txs}), total txs bytes {bytes} (max: {max_bytes})")]
    Full {
        /// Transactions waiting.
        txs: usize,
        /// The limit on them.
        max_txs: usize,
        /// Bytes waiting.
        bytes: u64,
        /// The limit on them.
        max_bytes: u64,
    },
    /// One transaction exceeds the mempool's per-transaction limit.
    #[error("Tx too large. Max size is {max}, but got {actual}")]
    TooLarge {
        /// The limit, bytes.
        max: usize,
        /// The transaction, bytes.
        actual: usize,
    },
    /// The transaction could never fit into a block.
    #[error("tx pre check: tx size is too big: {actual}, max: {max}")]
    PreCheck {
        /// The most data bytes a block may carry.
        max: i64,
        /// The transaction's size inside the block, bytes.
        actual: i64,
    },
    /// The application accepted a gas wish that no block can grant.
    #[error("gas wanted {wanted} is greater than max gas {max}")]
    Gas {
        /// What `CheckTx` reported.
        wanted: i64,
        /// The block's limit.
        max: i64,
    },
    /// The application reported a negative gas wish.
    #[error("gas wanted {0} is negative")]
    NegativeGas(i64),
    /// The engine is stopping or has died.
    #[error("the engine has stopped")]
    Stopped,
}

impl MempoolError {
    /// The Cosmos SDK's code (codespace `sdk`) for this refusal, as its broadcast service translates it; `None` if it has none.
    pub fn sdk_code(&self) -> Option<u32> {
        match self {
            Self::TxInCache => Some(19),
            Self::Full { .. } => Some(20),
            Self::TooLarge { .. } | Self::PreCheck { .. } => Some(21),
            Self::Gas { .. } | Self::NegativeGas(_) | Self::Stopped => None,
        }
    }
}

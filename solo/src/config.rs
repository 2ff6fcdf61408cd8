//! What the engine is told at start.

use crate::clock::{Clock, SystemClock};
use crate::error::SoloError;
use crate::files;
use crate::genesis::Genesis;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tenure_archive::ArchiveOptions;

/// Where the genesis document comes from.
#[derive(Clone, Debug)]
pub enum GenesisSource {
    /// A JSON file.
    File(PathBuf),
    /// A document already read.
    Document(Box<Genesis>),
}

impl GenesisSource {
    pub(crate) fn load(&self) -> Result<Genesis, SoloError> {
        match self {
            Self::File(path) => Genesis::from_json(&files::read(path)?),
            Self::Document(genesis) => Ok((**genesis).clone()),
        }
    }
}

/// Limits of the queue of waiting transactions. Defaults are CometBFT v0.38's, with less memory.
#[derive(Clone, Debug)]
pub struct MempoolConfig {
    /// Most transactions waiting; default 5,000.
    pub size: usize,
    /// Most bytes waiting; default 64 MiB.
    pub max_txs_bytes: u64,
    /// Most bytes of one transaction; default 1 MiB.
    pub max_tx_bytes: usize,
    /// How many hashes of seen transactions are remembered; default 10,000.
    pub cache_size: usize,
}

impl Default for MempoolConfig {
    fn default() -> Self {
        Self {
            size: 5_000,
            max_txs_bytes: 64 << 20,
            max_tx_bytes: 1 << 20,
            cache_size: 10_000,
        }
    }
}

/// A place in the life of one block where [`SoloConfig::crash_at`] stops the engine, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Block built, accepted by the application and signed in memory; nothing is on disk.
    Signed,
    /// Block and commit are on disk; the sign state is not.
    BlockSaved,
    /// The sign state is on disk.
    SignStateSaved,
    /// `FinalizeBlock` returned; its results are not on disk.
    Finalized,
    /// Results are on disk; `Commit` was not called.
    ResultsSaved,
    /// The application committed; mempool and readers do not know yet.
    Committed,
}

impl CrashPoint {
    /// All points, in order.
    pub const ALL: [Self; 6] = [
        Self::Signed,
        Self::BlockSaved,
        Self::SignStateSaved,
        Self::Finalized,
        Self::ResultsSaved,
        Self::Committed,
    ];
}

/// Everything [`start`](crate::start) needs.
pub struct SoloConfig {
    /// Must equal the genesis document's.
    pub chain_id: String,
    /// The genesis document.
    pub genesis: GenesisSource,
    /// Directory of the engine's database `solo.redb`; created if absent.
    pub data_dir: PathBuf,
    /// `priv_validator_key.json`.
    pub validator_key: PathBuf,
    /// `priv_validator_state.json`.
    pub validator_state: PathBuf,
    /// The id `status` reports, 40 hex digits, from [`load_node_id`](crate::load_node_id).
    pub node_id: String,
    /// The name `status` reports.
    pub moniker: String,
    /// Where JSON-RPC listens; `None` serves none. Ignored if [`rpc_listener`](Self::rpc_listener) is given.
    pub rpc_addr: Option<SocketAddr>,
    /// An already bound listener for JSON-RPC, for callers that choose ports themselves.
    pub rpc_listener: Option<TcpListener>,
    /// Time between blocks when nothing waits; default 1 s. Zero means manual: blocks come only from
    /// [`produce_block`](crate::SoloHandle::produce_block).
    pub block_interval: Duration,
    /// Least time between two blocks when transactions wait; default 100 ms.
    pub min_block_gap: Duration,
    /// Limits of the mempool.
    pub mempool: MempoolConfig,
    /// Directory of the archive of results and events; `archive` in [`data_dir`](Self::data_dir) by default.
    pub archive_dir: PathBuf,
    /// How the archive is kept.
    pub archive: ArchiveOptions,
    /// A cap on proposed block bytes below the consensus parameter; `None` uses the parameter alone.
    pub max_block_bytes: Option<i64>,
    /// A cap on the gas of a proposed block below the consensus parameter; `None` uses the parameter alone.
    pub max_block_gas: Option<i64>,
    /// Allow a chain id that looks like a main network.
    pub force: bool,
    /// The source of vote timestamps.
    pub clock: Arc<dyn Clock>,
    /// Stop the engine as if the process died, at a height and point; for crash tests. Files are left as they are at that point.
    pub crash_at: Option<(i64, CrashPoint)>,
}

impl SoloConfig {
    /// Defaults over CometBFT's directory layout under `home`: `config/genesis.json`, `config/priv_validator_key.json`,
    /// `data/priv_validator_state.json`, the database in `data`. No RPC until [`rpc_addr`](Self::rpc_addr) or
    /// [`rpc_listener`](Self::rpc_listener) is set.
    pub fn at_home(chain_id: impl Into<String>, home: &Path) -> Self {
        Self {
            chain_id: chain_id.into(),
            genesis: GenesisSource::File(home.join("config/genesis.json")),
            data_dir: home.join("data"),
            validator_key: home.join("config/priv_validator_key.json"),
            validator_state: home.join("data/priv_validator_state.json"),
            node_id: "0".repeat(40),
            moniker: "solo".into(),
            rpc_addr: None,
            rpc_listener: None,
            block_interval: Duration::from_secs(1),
            min_block_gap: Duration::from_millis(100),
            mempool: MempoolConfig::default(),
            archive_dir: home.join("data/archive"),
            archive: ArchiveOptions::default(),
            max_block_bytes: None,
            max_block_gas: None,
            force: false,
            clock: Arc::new(SystemClock),
            crash_at: None,
        }
    }

    /// Errors if the chain id is a main network's and `force` is off.
    pub(crate) fn check_chain_id(&self) -> Result<(), SoloError> {
        if !self.force && looks_like_main_net(&self.chain_id) {
            return Err(SoloError::MainNet(self.chain_id.clone()));
        }
        Ok(())
    }
}

/// Exactly `tenure-<n>` with `n >= 1`, without sign or leading zero.
fn looks_like_main_net(chain_id: &str) -> bool {
    chain_id
        .strip_prefix("tenure-")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && !n.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_chains_look_like_main_nets() {
        for (id, yes) in [
            ("tenure-1", true),
            ("tenure-42", true),
            ("tenure-0", false),
            ("tenure-01", false),
            ("tenure-local-1", false),
            ("tenure-", false),
            ("tenure-1a", false),
            ("mytenure-1", false),
        ] {
            assert_eq!(looks_like_main_net(id), yes, "{id}");
            let mut config = SoloConfig::at_home(id, Path::new("."));
            assert_eq!(config.check_chain_id().is_err(), yes);
            config.force = true;
            assert!(config.check_chain_id().is_ok());
        }
    }
}

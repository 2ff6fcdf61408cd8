//! The embedded engine: real signed CometBFT v0.38 blocks from one process.
//!
//! `tenure-solo` drives any [`tendermint_abci::Application`] (ABCI 2.0) the way CometBFT v0.38 drives it, without a network: one
//! validator, one key, one process. Its blocks, commits and JSON-RPC answers are what CometBFT would have produced, so light
//! clients, CosmJS, cosmrs and wallets cannot tell the difference. It is **not BFT**: whoever holds the key writes history.
//!
//! ```text
//!   start ──► handshake (Info, InitChain, replay)            module `replay`
//!     │
//!     ├─ engine thread: PrepareProposal → ProcessProposal → save block (synced) → sign state → FinalizeBlock
//!     │                 → save results (synced) → Commit → mempool update, recheck → publish the head     module `engine`
//!     └─ RPC thread:    JSON-RPC over HTTP, reads the store and the application's query side              module `rpc`
//! ```
//!
//! Invariants:
//! - the application is never ahead of the engine: block and results are on disk before `Commit` is called;
//! - a signature leaves the process only after its block and the sign state (height, round, step) are on disk;
//! - block time is strictly increasing, whatever the clock does;
//! - readers see height `h` only after the application committed it;
//! - `CheckTx` calls are serial and never overlap `Commit`.
//!
//! One redb file holds blocks, commits and state; its layout is at the top of the module `store`. What the blocks did is in the archive
//! (`tenure_archive`), which answers `tx`, `block_results` and the searches.

mod block;
mod clock;
mod config;
mod core;
mod describe;
mod engine;
mod error;
mod evidence;
mod files;
mod genesis;
mod handle;
mod keys;
mod mempool;
mod merkle;
mod params;
pub mod peers;
mod replay;
mod rpc;
mod state;
mod store;

#[cfg(test)]
mod tests;

pub use block::{block_id, header_hash, vote_sign_bytes};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{CrashPoint, GenesisSource, MempoolConfig, SoloConfig};
pub use core::{BlockRecord, Broadcast, Head, Life, SoloClient};
pub use error::{MempoolError, SoloError};
pub use genesis::{Genesis, GenesisValidator, MAX_TOTAL_POWER};
pub use handle::{start, SoloHandle};
pub use keys::{create_node_key, create_validator_key, load_node_id, recover_validator_key, SignState, ValidatorKey};
pub use params::default_consensus_params;
pub use store::stored_blocks;
pub use tenure_archive::{Page, SearchError, TxRecord};

/// The CometBFT version this engine imitates, as `status` reports it; clients choose their dialect by its `0.38.` prefix.
pub const COMETBFT_VERSION: &str = "0.38.25";
/// The ABCI version told to the application in `Info`.
pub const ABCI_VERSION: &str = "2.0.0";
/// CometBFT's block protocol version, field `version.block` of every header.
pub const BLOCK_PROTOCOL: u64 = 11;
/// CometBFT's p2p protocol version; reported only, there is no p2p here.
pub const P2P_PROTOCOL: u64 = 8;

//! The archive: one append-only, prunable record per height of what its block did, found by height, transaction hash and event.
//!
//! ```text
//!   engine ─FinalizeBlock─► Recorder ─► application          request and answer are kept
//!          ─Commit───────►  Recorder ─► log (one write) ─► application's Commit ─► head moves, readers see it
//!                                        │
//!                                        └► a thread: index (RocksDB), sync, pruning
//! ```
//!
//! Invariants:
//! - a committed height is in the log before the application commits it, so a killed process leaves no gap;
//! - readers see a height only after the application committed it;
//! - a block waits for one `write`, never for an `fsync` of the archive. After a power loss the last seconds may be missing: they are made
//!   again from the engine ([`Archive::backfill`]) or said to be absent ([`Archive::absent`], [`Archive::earliest`]), never passed over;
//! - the index is a function of the log, and the log of the chain: both may be deleted.
//!
//! Where to look: `log` the files, `record` what one height holds, `keys` and `index` how it is found, `ranges` which heights there are, `query` and `search` CometBFT's
//! search, `recorder` the application around the application.

mod archive;
mod cache;
mod error;
mod index;
mod keys;
mod lock;
mod log;
pub mod query;
mod ranges;
mod record;
mod recorder;
mod search;

pub use archive::{Archive, ArchiveOptions};
pub use error::ArchiveError;
pub use record::{tx_hash, Placed, Record, TxRecord};
pub use recorder::Recorder;
pub use search::{Page, SearchError};

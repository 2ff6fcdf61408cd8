//! The application: wires the modules, checks and executes transactions, speaks ABCI 2.0.
//!
//! [`App`] implements [`tendermint_abci::Application`]; an engine (CometBFT or `tenure_solo`) drives it. A block is: the clock advances
//! (`tenure_sdk::clock`), timers that are due are handled, transactions run one after another ([`tx`]), every module ends the block, and the
//! changes are staged. `Commit` writes what was staged in one batch and publishes it for queries.
//!
//! Where to look: [`modules`] the list of modules, `tx` the pipeline of transactions, `block` execution of blocks, `proposal` building and
//! judging proposals, `staging` their execution ahead of a decision, `check` the mempool's side, `query` questions, [`snapshots`] and
//! `restore` state sync, `genesis` the first state.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod abci;
mod app;
mod block;
mod check;
pub mod genesis;
mod identity;
pub mod modules;
mod proposal;
mod query;
mod restore;
pub mod snapshots;
mod staging;
pub mod tx;

pub use app::{App, AppOptions, OnBroken, OpenError};
pub use check::MempoolLimits;
pub use modules::{modules, stores};
pub use proposal::MAX_BLOCK_TX_BYTES;
pub use query::QueryAnswer;
pub use snapshots::SnapshotOptions;
pub use staging::StagingCounts;

/// Version of the application as blocks carry it: a change of it is an upgrade of the chain.
pub const APP_VERSION: u64 = 1;
/// Version of this software.
pub const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

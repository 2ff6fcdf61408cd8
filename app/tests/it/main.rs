//! Whole-chain tests of the application: no engine, no network, stores in memory.
//!
//! [`chain`] feeds blocks to an application, [`world`] makes transactions, valid and not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod amino;
mod ante;
mod chain;
mod errors_doc;
mod free;
mod fuzz;
mod genesis;
mod golden;
mod market;
mod mempool;
mod peers;
mod proposals;
mod queries;
mod replicas;
mod staging;
mod state_sync;
mod time;
mod world;

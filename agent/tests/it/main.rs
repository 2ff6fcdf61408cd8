//! Tests of the agent's parts against the real engine, real files and real gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests run outside the chain and fail by panicking"
)]

mod attesting;
mod memory_chain;
mod provider;
mod runtime;

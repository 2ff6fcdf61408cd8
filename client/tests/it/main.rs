//! The client against a chain in this process: the real application on the solo engine, with its JSON-RPC; and one of many validators.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests may panic"
)]

mod amendment;
mod chain;
mod face;
mod free;
mod light;
mod sliding;

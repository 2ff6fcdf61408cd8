//! CometBFT v0.38 as a child process.
//!
//! [`binary`] finds the program and refuses versions nobody tested. [`supervise`] keeps one running: it dies with us, is started again when
//! it dies alone, and is given up when it dies at once again and again. [`log`] forwards its lines as ours. [`rpc`] asks it over
//! JSON-RPC and answers in the types of `tendermint-proto`.
//!
//! Nothing here knows the application; ABCI is served elsewhere.

#![allow(
    clippy::disallowed_methods,
    reason = "a supervisor measures real time; no rule of the chain runs in this crate"
)]

pub mod binary;
pub mod log;
pub mod rpc;
pub mod supervise;

/// The ABCI version that CometBFT v0.38 speaks and announces in `Info`.
pub const ABCI_VERSION: &str = "2.0.0";

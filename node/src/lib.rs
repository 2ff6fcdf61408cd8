//! `tenured`: one process that holds a chain.
//!
//! The application (`tenure_app`) on RocksDB, an engine that drives it (`tenure_solo`), gRPC beside the engine's JSON-RPC, and the commands
//! an operator types. Where to look: [`home`] the files, [`config`] the settings, [`init`] and [`genesis`] how a chain begins, [`node`] how
//! everything is started and stopped, [`grpc`] the servers, [`application`] the only file that knows the application, [`cmd`] the commands.
//!
//! Promises: a stop by SIGTERM or SIGINT finishes the block under way and exits with 0; any death of the engine, the application or the
//! disk ends the process with a reason and a non-zero code; a kill at any instant loses no committed block; nothing that arrives over the
//! network panics the process or exceeds its bounds.

#![allow(
    clippy::disallowed_methods,
    reason = "servers measure real time; no rule of the chain runs in this crate"
)]

pub mod account_key;
pub mod application;
pub mod chain;
pub mod client_config;
pub mod cmd;
pub mod config;
pub mod engine;
pub mod files;
pub mod genesis;
pub mod gentx;
pub mod grpc;
pub mod home;
pub mod init;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod ports;
pub mod settings_file;
pub mod version;

//! tenure-agent: reconciles leases with running work, serves the gateway, attests.

#![allow(
    clippy::disallowed_methods,
    reason = "an agent lives in wall-clock time; nothing here runs inside a block"
)]

pub mod admission;
pub mod agent;
pub mod attest;
pub mod backoff;
pub mod capacity;
pub mod chain;
pub mod cli;
pub mod config;
pub mod disk;
pub mod gateway;
pub mod pricing;
pub mod reconcile;
pub mod runtime;
pub mod workloads;

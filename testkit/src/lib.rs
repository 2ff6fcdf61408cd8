//! Networks of real processes on one machine, for tests and for looking around.
//!
//! [`network::Network`] makes homes with `tenured testnet init-files`, starts each node as `tenured start --engine comet` in a network namespace
//! of its own where the system allows it ([`netns`]), kills, cuts off and heals them, and can be taken up again by another process from
//! its state file ([`state`]): `testnet/up` and `testnet/down` are this. [`load`] sends transfers through several nodes, [`history`] reads every block of
//! every node and holds them to what must never happen, [`faults`] are the scenarios of `testnet/faults`, [`latency`] the measurements.
//!
//! What is promised to whoever runs this: nothing is started that is not ended ([`process`] knows its own by id and start time, never by
//! name), every wait is bounded, and without CometBFT or the right to make namespaces it says so instead of passing.

#![allow(
    clippy::disallowed_methods,
    reason = "a test harness measures real time; no rule of the chain runs in this crate"
)]

pub mod chain;
pub mod demo;
pub mod faults;
pub mod history;
pub mod latency;
pub mod load;
pub mod netns;
pub mod network;
pub mod process;
pub mod programs;
pub mod state;
pub mod wait;

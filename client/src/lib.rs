//! The client library of Tenure and the `tenure` command.
//!
//! A program that rents compute, or a provider's agent, needs five things, each in its own file:
//! [`chain::Client`] asks a node questions over gRPC, [`keyring::Keyring`] keeps keys, [`sender::TxSender`] signs and sends transactions of one
//! account in order, [`gateway::Client`] hands a workload to a provider and fetches what it made, and [`job::Job`] reads a `job.toml`.
//! [`light::LightClient`] believes no node: it proves a balance or a lease from a header that validators signed.
//! [`sequence`] is the pure core of sending: no I/O, tested against a model of a chain that loses requests and answers.

pub mod amendment;
pub mod auth;
pub mod chain;
pub mod error;
pub mod files;
pub mod gateway;
pub mod home;
pub mod job;
pub mod json;
pub mod keyring;
pub mod keys;
pub mod light;
pub mod lint;
pub mod match_report;
pub mod outputs;
pub mod passphrase;
pub mod rpc;
pub mod score;
pub mod sealed;
pub mod sender;
pub mod sequence;
pub mod sheet;
pub mod tx;
pub mod units;

pub use error::{Error, Result};

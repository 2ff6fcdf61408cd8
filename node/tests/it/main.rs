//! The node from outside: its gRPC over a real engine and application, and the real process under kills, full disks and busy ports.
#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods, reason = "tests")]

mod commands;
mod crash;
mod faucet;
mod grpc;
mod health;
mod support;
mod testnet;
mod tx;

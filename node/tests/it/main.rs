//! The node from outside: its gRPC over a real engine and application, and the real process under kills, full disks and busy ports.
#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods, reason = "tests")]

mod archive;
mod clients;
mod comet_engine;
mod commands;
mod cosmos_cli;
mod cosmos_keys;
mod cosmos_known;
mod crash;
mod engine;
mod faces;
mod faucet;
mod grpc;
mod hand_over;
mod health;
mod live;
mod mempool;
mod offline;
mod operator;
mod services;
mod shapes;
mod snapshot_disk_full;
mod state_sync;
mod state_sync_servers;
mod steps;
mod stream;
mod support;
mod testnet;
mod tx;
mod wallets;

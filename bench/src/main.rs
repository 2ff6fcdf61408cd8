//! `tenure-bench`: what the chain costs, beside what others cost. `bench/run` builds and runs it.
//!
//! Where to look: `store` the store beside other stores, `finalize` blocks of transfers beside a bare loop of signature verifications,
//! `restart` opening the state, `network` committed transactions through real validators, `report` the tables in `docs/performance.md`.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures time; no rule of the chain runs in it"
)]

mod finalize;
mod network;
mod report;
mod restart;
mod store;
mod transfers;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::report::{Page, Section};

/// The node's, and so that of every store here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the chain costs, beside what others cost
#[derive(Parser)]
#[command(name = "tenure-bench", version)]
struct Cli {
    /// The page that the table is written into, between the part's marks; without it the table is only printed
    #[arg(long, global = true, value_name = "FILE.md")]
    into: Option<PathBuf>,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// The store beside a sorted RocksDB batch, jmt on RocksDB, NOMT and cnidarium
    Store(store::Choices),
    /// FinalizeBlock and Commit of signed transfers, warm and cold, beside a loop of libsecp256k1 verifications
    Finalize(finalize::Choices),
    /// Opening the store and the application
    Restart(restart::Choices),
    /// Committed transactions and their latency through one and four validators, beside CometBFT's kvstore
    Network(network::Choices),
    /// One store under measurement, driven over standard input
    #[command(hide = true)]
    Contestant(store::Contender),
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let (name, section): (_, Section) = match cli.part {
        Part::Store(choices) => ("store", store::run(&choices)?),
        Part::Finalize(choices) => ("finalize", finalize::run(&choices)?),
        Part::Restart(choices) => ("restart", restart::run(&choices)?),
        Part::Network(choices) => ("network", network::run(&choices)?),
        Part::Contestant(contender) => return store::serve(&contender),
    };
    let text = section.text()?;
    println!("\n{text}");
    match cli.into {
        Some(page) => Page::new(page).replace(name, &text),
        None => Ok(()),
    }
}

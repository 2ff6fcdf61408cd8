//! `tenured start`: the choices of one start.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::config::Env;
use crate::engine::EngineKind;
use crate::home::Home;
use crate::node::{self, StartOptions};

#[derive(Args)]
pub(super) struct StartArgs {
    /// What makes the blocks [default: what made those of this home; solo for a fresh one]
    #[arg(long, value_enum)]
    engine: Option<EngineKind>,
    /// The program of CometBFT [default: $TENURE_COMETBFT, `cometbft` on PATH, or what scripts/cometbft installed]
    #[arg(long, value_name = "FILE")]
    comet_bin: Option<PathBuf>,
    /// Take free ports in place of busy ones; run.json in the home tells which
    #[arg(long)]
    auto_ports: bool,
    /// Let the solo engine run a chain id that looks like a main network's
    #[arg(long)]
    force: bool,
}

pub(super) fn run(home: &Home, env: &Env, args: StartArgs) -> Result<()> {
    home.require_initialised()?;
    let StartArgs {
        engine,
        comet_bin,
        auto_ports,
        force,
    } = args;
    let options = StartOptions {
        engine,
        comet_bin,
        auto_ports,
        force,
    };
    node::start(home, home.lock()?, env, options)
}

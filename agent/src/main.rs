//! The `tenure-agent` command.

use std::process::ExitCode;

use clap::Parser;
use tenure_agent::cli::{self, Cli};

fn main() -> ExitCode {
    cli::main(Cli::parse())
}

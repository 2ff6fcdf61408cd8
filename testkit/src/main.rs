//! `tenure-testkit`: what the scripts in `testnet/` run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tenure_testkit::demo::{self, Choices};
use tenure_testkit::state;
use tenure_testkit::{faults, latency};

/// Networks of real nodes on this machine
#[derive(Parser)]
#[command(name = "tenure-testkit", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start validators, a full node, two providers and a faucet, run the job over them, and leave it all running
    Up {
        /// How many validators
        #[arg(short = 'n', long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=40))]
        validators: u16,
        /// Where everything goes
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The job to run once; none: none is run
        #[arg(long, value_name = "JOB.TOML", requires = "labels")]
        job: Option<PathBuf>,
        /// The right answers of the job
        #[arg(long, value_name = "LABELS.CSV")]
        labels: Option<PathBuf>,
        /// All nodes on ports of 127.0.0.1, even where namespaces are possible
        #[arg(long)]
        loopback: bool,
    },
    /// End what `up` started, and nothing else
    Down {
        /// Where `up` put it
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Break a network of four validators under load, and check that nothing is lost, doubled or different
    Faults {
        /// More rounds, with kills at random
        #[arg(long)]
        long: bool,
        /// Scenarios to run [default: all]
        #[arg(value_enum)]
        scenarios: Vec<faults::Scenario>,
        /// Keep homes and logs of a run that passed, too
        #[arg(long)]
        keep: bool,
    },
    /// Measure block interval, lease latency and memory on solo, one and four validators
    Latency {
        /// Bids of each
        #[arg(long, default_value_t = 20)]
        bids: u32,
        /// The job that is bid for
        #[arg(long, value_name = "JOB.TOML")]
        job: PathBuf,
    },
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Task::Up {
            validators,
            dir,
            job,
            labels,
            loopback,
        } => demo::up(&Choices {
            directory: &dir,
            validators,
            job: job.as_deref().zip(labels.as_deref()),
            namespaces: !loopback,
        }),
        Task::Down { dir } => {
            match state::down(&std::path::absolute(dir)?)? {
                Some(ended) => println!("ended {ended} processes"),
                None => println!("no network is running"),
            }
            Ok(())
        }
        Task::Faults { long, scenarios, keep } => faults::run(&scenarios, long, keep),
        Task::Latency { bids, job } => latency::run(bids, &job),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("Error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

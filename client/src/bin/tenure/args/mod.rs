//! The command line. Precedence: flag, environment variable, `config.toml`, default.

mod market;
mod money;
mod values;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tenure_client::keyring::Backend;

pub(crate) use market::{BidCommand, LeaseCommand, ProviderCommand, RunArgs};
pub(crate) use money::{BankCommand, EscrowCommand, TopUpArgs};
pub(crate) use values::{BidStateArg, Factor, Format, GasArg, LeaseStateArg, Millis};
pub(crate) use verify::{TrustArgs, VerifyCommand};

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failure
    2  usage: nothing was sent
    3  the node, gateway or faucet does not answer
    4  refused by the chain
    5  the workload failed
    6  not in time: what was sent may still take effect
    7  verification failed
    8  not found
    9  key missing, locked or damaged
  130  detached (Ctrl-C, SIGTERM)";

/// Rents compute on a Tenure chain.
#[derive(Debug, Parser)]
#[command(
    name = "tenure",
    version,
    after_help = format!("Examples:\n  tenure init && tenure faucet\n  tenure run job.toml --out results\n  tenure lease list\n\n{EXIT_CODES}"),
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Home directory [default: ~/.tenure]
    #[arg(long, global = true, env = "TENURE_HOME", hide_env_values = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// The node's gRPC address [default: http://127.0.0.1:9090]
    #[arg(long, global = true, env = "TENURE_NODE", hide_env_values = true, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// Refuse a node of another chain
    #[arg(
        long,
        global = true,
        env = "TENURE_CHAIN_ID",
        hide_env_values = true,
        value_name = "ID"
    )]
    pub(crate) chain_id: Option<String>,
    /// Name of the key to sign with [default: default]
    #[arg(long, global = true, env = "TENURE_KEY", hide_env_values = true, value_name = "NAME")]
    pub(crate) from: Option<String>,
    /// How keys are stored: file (sealed with a passphrase) or test (in clear)
    #[arg(
        long,
        global = true,
        env = "TENURE_KEYRING",
        hide_env_values = true,
        value_name = "BACKEND"
    )]
    pub(crate) keyring: Option<Backend>,
    /// Results on standard output as: table, json, or jsonl (one event or record a line)
    #[arg(
        short,
        long,
        global = true,
        env = "TENURE_OUTPUT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// Most gas a transaction may use, or auto to simulate first
    #[arg(long, global = true, value_name = "GAS", default_value = "auto")]
    pub(crate) gas: GasArg,
    /// What simulated gas is multiplied with
    #[arg(long, global = true, value_name = "FACTOR", default_value = "1.3")]
    pub(crate) gas_adjustment: Factor,
    /// Price of a unit of gas in millionths of a uten [default: the chain's least]
    #[arg(long, global = true, value_name = "MICRO_UTEN")]
    pub(crate) gas_price_micro: Option<u64>,
    /// How long a transaction may take to appear in a block
    #[arg(long, global = true, value_name = "DURATION", default_value = "60s")]
    pub(crate) tx_timeout: Millis,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say what is sent and retried; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the home directory, a key and the configuration
    #[command(
        after_help = "Examples:\n  tenure init\n  tenure init --keyring test --node http://127.0.0.1:9090\n  tenure init --recover"
    )]
    Init {
        /// Read the words of an existing key instead of making one
        #[arg(long)]
        recover: bool,
    },
    /// Make, list and carry keys
    #[command(subcommand, after_help = "Examples:\n  tenure keys list\n  tenure keys add work")]
    Keys(Keys),
    /// Get play money on a development network
    #[command(after_help = "Examples:\n  tenure faucet\n  tenure faucet --to work")]
    Faucet {
        /// Key or address that gets it [default: the signing key's]
        #[arg(long, value_name = "KEY|ADDRESS")]
        to: Option<String>,
    },
    /// Look for mistakes in a job, offline
    #[command(after_help = "Examples:\n  tenure check job.toml\n  tenure check job.toml -o json")]
    Check {
        /// The job
        #[arg(value_name = "JOB.TOML")]
        job: PathBuf,
    },
    /// Run a job: bid, hand over, follow, fetch and verify its outputs, settle
    #[command(after_help = "\
Examples:
  tenure run job.toml
  tenure run job.toml --out results --score labels.csv
  tenure run job.toml --max-price 2ten --match-timeout 2m
  tenure run job.toml -o jsonl | jq -c .event
  tenure run job.toml --bid 7          go on with a bid that was posted before

Ctrl-C detaches: the lease goes on, and the commands to close or attach are printed.")]
    Run(RunArgs),
    /// Post, look at and cancel bids
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure bid list --state open\n  tenure bid claims 7"
    )]
    Bid(BidCommand),
    /// Follow and end leases
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure lease list\n  tenure lease logs 3 -f\n  tenure lease close 3"
    )]
    Lease(LeaseCommand),
    /// Look at and fund escrow accounts
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure escrow show 7\n  tenure escrow deposit 7 2ten"
    )]
    Escrow(EscrowCommand),
    /// Look at providers
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure provider list\n  tenure provider show tenure1..."
    )]
    Provider(ProviderCommand),
    /// Look at and send money
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure bank balance\n  tenure bank send tenure1... 5ten"
    )]
    Bank(BankCommand),
    /// Prove what the chain holds without believing the node
    #[command(
        subcommand,
        after_help = "Examples:\n  tenure verify balance --trust-height 1 --trust-hash 9F2C...\n  tenure verify lease 3"
    )]
    Verify(VerifyCommand),
    /// Look a transaction up
    #[command(after_help = "Examples:\n  tenure tx 3F2A...\n  tenure tx 3F2A... -o json")]
    Tx {
        /// Its hash, 64 hex digits
        hash: String,
    },
    /// Show the node's chain, height and time
    #[command(after_help = "Examples:\n  tenure status\n  tenure status -o json")]
    Status,
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  tenure completions bash > /etc/bash_completion.d/tenure\n  tenure completions zsh > ~/.zfunc/_tenure"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    #[command(after_help = "Examples:\n  tenure version\n  tenure version -o json")]
    Version,
}

/// `tenure keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key, or store one from its words
    #[command(after_help = "Examples:\n  tenure keys add work\n  tenure keys add work --recover < words.txt")]
    Add {
        /// Letters, digits, - and _
        name: String,
        /// Read the words of an existing key from the terminal or standard input
        #[arg(long)]
        recover: bool,
    },
    /// List keys with their addresses
    #[command(after_help = "Examples:\n  tenure keys list\n  tenure keys list -o json")]
    List,
    /// Show a key's address
    #[command(after_help = "Examples:\n  tenure keys show work\n  tenure keys show work -a")]
    Show {
        /// Its name
        name: String,
        /// Print the address only
        #[arg(short, long)]
        address: bool,
    },
    /// Remove a key for good
    #[command(after_help = "Examples:\n  tenure keys delete work\n  tenure keys delete work --yes")]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Print a key's words: whoever reads them owns the account
    #[command(after_help = "Examples:\n  tenure keys export work")]
    Export {
        /// Its name
        name: String,
    },
    /// Store a key from its words; the same as add --recover
    #[command(after_help = "Examples:\n  tenure keys import work\n  tenure keys import work < words.txt")]
    Import {
        /// Letters, digits, - and _
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn leaves(command: &clap::Command, path: &str, all: &mut Vec<(String, String)>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            if sub.get_subcommands().next().is_none() {
                let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                all.push((path, examples));
            } else {
                leaves(sub, &path, all);
            }
        }
    }

    #[test]
    fn every_command_has_an_example_that_parses_and_stands_in_the_readme() {
        Cli::command().debug_assert();
        let readme = include_str!("../../../../README.md");
        let mut all = Vec::new();
        leaves(&Cli::command(), "tenure", &mut all);
        assert!(all.len() > 30, "{}", all.len());
        for (path, examples) in all {
            assert!(readme.contains(&format!("`{path}")), "README.md lacks `{path}`");
            let mut found = 0;
            for line in examples.lines().map(str::trim).filter(|line| line.starts_with(&path)) {
                let line = line.split(['>', '<', '|']).next().unwrap_or_default();
                let words = line.split("   ").next().unwrap_or_default().split_whitespace();
                Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
                found += 1;
            }
            assert!(found > 0, "{path} has no example");
        }
    }
}

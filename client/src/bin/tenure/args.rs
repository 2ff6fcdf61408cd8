//! The command line. Precedence: flag, environment variable, `config.toml`, default.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tenure_client::{keyring::Backend, units::parse_duration};
use tenure_types::Coin;

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
  130  detached (Ctrl-C)";

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

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One event or record a line.
    Jsonl,
}

/// `--gas`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GasArg(pub(crate) Option<u64>);

impl std::str::FromStr for GasArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            number => number
                .parse()
                .map(|gas| Self(Some(gas)))
                .map_err(|_| format!("{text:?} is neither auto nor a number")),
        }
    }
}

/// A factor from 1 to 100 with at most two digits after the point, kept in hundredths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor(pub(crate) u64);

impl std::str::FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let plain = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        let percent = format!("{whole}{fraction:0<2}")
            .parse::<u64>()
            .ok()
            .filter(|_| plain && fraction.len() <= 2);
        percent
            .filter(|p| (100..=10_000).contains(p))
            .map(Self)
            .ok_or_else(|| format!("{text:?} must be from 1 to 100 with at most two digits after the point"))
    }
}

/// A duration, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Millis(pub(crate) u64);

impl std::str::FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl From<Millis> for std::time::Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
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

fn label(text: &str) -> Result<(String, String), String> {
    let (address, name) = text.split_once('=').ok_or("must be ADDRESS=NAME")?;
    Ok((address.to_owned(), name.to_owned()))
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

/// `tenure run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The job
    #[arg(value_name = "JOB.TOML")]
    pub(crate) job: PathBuf,
    /// Where outputs go
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Labels (index,label,split) to score predictions.csv against
    #[arg(long, value_name = "LABELS.CSV")]
    pub(crate) score: Option<PathBuf>,
    /// Price ceiling per hour instead of the job's
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_price: Option<Coin>,
    /// Deposit instead of the job's
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) deposit: Option<Coin>,
    /// Cancel the bid and give up if no lease began after this time
    #[arg(long, value_name = "DURATION")]
    pub(crate) match_timeout: Option<Millis>,
    /// Go on with this bid instead of posting one
    #[arg(long, value_name = "ID", conflicts_with_all = ["max_price", "deposit"])]
    pub(crate) bid: Option<u64>,
}

/// `tenure bid`.
#[derive(Debug, Subcommand)]
pub(crate) enum BidCommand {
    /// Post and fund a bid, and return; `tenure run --bid` goes on with it
    #[command(after_help = "Examples:\n  tenure bid post job.toml")]
    Post {
        /// The job
        #[arg(value_name = "JOB.TOML")]
        job: PathBuf,
    },
    /// List bids: your own unless told otherwise
    #[command(after_help = "Examples:\n  tenure bid list\n  tenure bid list --all --state open")]
    List {
        /// Only in this state
        #[arg(long)]
        state: Option<BidStateArg>,
        /// Of everybody
        #[arg(long, conflicts_with = "tenant")]
        all: bool,
        /// Of this key or address
        #[arg(long, value_name = "KEY|ADDRESS")]
        tenant: Option<String>,
    },
    /// Show a bid, its claims and who could take it
    #[command(after_help = "Examples:\n  tenure bid show 7")]
    Show {
        /// The bid
        id: u64,
    },
    /// Take an open bid back; the deposit returns
    #[command(after_help = "Examples:\n  tenure bid cancel 7")]
    Cancel {
        /// The bid
        id: u64,
    },
    /// List the open claims on a bid
    #[command(after_help = "Examples:\n  tenure bid claims 7")]
    Claims {
        /// The bid
        id: u64,
    },
}

/// A bid's state.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BidStateArg {
    /// Waits for claims
    Open,
    /// Became a lease
    Leased,
    /// Taken back
    Cancelled,
    /// Nobody claimed it in time
    Expired,
}

/// A lease's state.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LeaseStateArg {
    /// Matched, not running yet
    Starting,
    /// Runs and is paid for
    Active,
    /// Not paid for, may go on
    Paused,
    /// Ended; the last epoch is not settled
    Closing,
    /// Settled
    Closed,
}

/// `tenure lease`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// List leases: your own that are not closed, unless told otherwise
    #[command(
        after_help = "Examples:\n  tenure lease list\n  tenure lease list --closed\n  tenure lease list --provider tenure1..."
    )]
    List {
        /// Only in this state
        #[arg(long)]
        state: Option<LeaseStateArg>,
        /// Closed ones too
        #[arg(long)]
        closed: bool,
        /// Of everybody
        #[arg(long, conflicts_with_all = ["tenant", "provider"])]
        all: bool,
        /// Of this tenant: key or address
        #[arg(long, value_name = "KEY|ADDRESS")]
        tenant: Option<String>,
        /// Of this provider: key or address
        #[arg(long, value_name = "KEY|ADDRESS")]
        provider: Option<String>,
    },
    /// Show a lease with its money
    #[command(after_help = "Examples:\n  tenure lease show 3\n  tenure lease show 3 -o json")]
    Show {
        /// The lease
        id: u64,
    },
    /// Print a workload's log to standard output
    #[command(
        after_help = "Examples:\n  tenure lease logs 3\n  tenure lease logs 3 -f\n  tenure lease logs 3 --offset 4096"
    )]
    Logs {
        /// The lease
        id: u64,
        /// Stay until the workload ends
        #[arg(short, long)]
        follow: bool,
        /// First byte wanted
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Fetch a workload's outputs and verify them against the chain
    #[command(after_help = "Examples:\n  tenure lease fetch 3\n  tenure lease fetch 3 --out results")]
    Fetch {
        /// The lease
        id: u64,
        /// Where outputs go
        #[arg(long, value_name = "DIR", default_value = "out")]
        out: PathBuf,
    },
    /// End a lease; what is not owed returns
    #[command(after_help = "Examples:\n  tenure lease close 3\n  tenure lease close 3 --wait")]
    Close {
        /// The lease
        id: u64,
        /// Wait until everything is paid and returned
        #[arg(long)]
        wait: bool,
    },
    /// Stop a lease's accrual for a while
    #[command(after_help = "Examples:\n  tenure lease pause 3")]
    Pause {
        /// The lease
        id: u64,
    },
    /// Go on after a pause
    #[command(after_help = "Examples:\n  tenure lease resume 3")]
    Resume {
        /// The lease
        id: u64,
    },
    /// Go on following a lease: hand over if need be, logs, outputs, settlement
    #[command(after_help = "Examples:\n  tenure lease attach 3\n  tenure lease attach 3 --job job.toml --out results")]
    Attach {
        /// The lease
        id: u64,
        /// The job, if it was not handed over yet
        #[arg(long, value_name = "JOB.TOML")]
        job: Option<PathBuf>,
        /// Where outputs go
        #[arg(long, value_name = "DIR", default_value = "out")]
        out: PathBuf,
        /// Labels (index,label,split) to score predictions.csv against
        #[arg(long, value_name = "LABELS.CSV")]
        score: Option<PathBuf>,
    },
    /// Add money to a lease's escrow account
    #[command(after_help = "Examples:\n  tenure lease deposit 3 2ten")]
    Deposit {
        /// The lease
        id: u64,
        /// How much
        amount: Coin,
    },
}

/// `tenure escrow`.
#[derive(Debug, Subcommand)]
pub(crate) enum EscrowCommand {
    /// Show an account with its payments
    #[command(after_help = "Examples:\n  tenure escrow show 7")]
    Show {
        /// The account: its bid's id
        id: u64,
    },
    /// Add money
    #[command(after_help = "Examples:\n  tenure escrow deposit 7 2ten")]
    Deposit {
        /// The account: its bid's id
        id: u64,
        /// How much
        amount: Coin,
    },
    /// Take unspent money back while the account stays funded
    #[command(after_help = "Examples:\n  tenure escrow withdraw 7 0.5ten")]
    Withdraw {
        /// The account: its bid's id
        id: u64,
        /// How much
        amount: Coin,
    },
}

/// `tenure provider`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// List providers with what they have free
    #[command(after_help = "Examples:\n  tenure provider list\n  tenure provider list -o jsonl")]
    List,
    /// Show a provider
    #[command(after_help = "Examples:\n  tenure provider show tenure1...")]
    Show {
        /// Its owner: key or address
        owner: String,
    },
}

/// `tenure bank`.
#[derive(Debug, Subcommand)]
pub(crate) enum BankCommand {
    /// Show what an account holds
    #[command(after_help = "Examples:\n  tenure bank balance\n  tenure bank balance tenure1...")]
    Balance {
        /// Key or address [default: the signing key's]
        who: Option<String>,
    },
    /// Show who holds the chain's token, and that it adds up to the supply to the unit
    #[command(
        after_help = "Examples:\n  tenure bank sheet\n  tenure bank sheet --label tenure1...=faucet\n  tenure bank sheet -o json"
    )]
    Sheet {
        /// What an address is called; may be repeated
        #[arg(long = "label", value_name = "ADDRESS=NAME", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Send money
    #[command(after_help = "Examples:\n  tenure bank send tenure1... 5ten\n  tenure bank send work 250000uten")]
    Send {
        /// Key or address that gets it
        to: String,
        /// How much
        amount: Coin,
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
        let readme = include_str!("../../../README.md");
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

    #[test]
    fn factors_are_exact_hundredths() {
        assert_eq!("1.3".parse::<Factor>().map(|f| f.0), Ok(130));
        assert_eq!("2".parse::<Factor>().map(|f| f.0), Ok(200));
        for bad in ["0.9", "101", "1.333", "x", "", "-1", "1e1"] {
            assert!(bad.parse::<Factor>().is_err(), "{bad:?}");
        }
    }
}

//! Jobs, bids, leases and providers.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tenure_types::Coin;

use super::{BidStateArg, LeaseStateArg, Millis, TopUpArgs};

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
    /// Propose another price: sign it and write it to a file for the other party, who countersigns and sends
    #[command(after_help = "\
Examples:
  tenure lease amend 3 2ten
  tenure lease amend 3 2ten --file cheaper.json --timeout-height 5000

Tenant or provider proposes. The other runs `tenure lease countersign` on the file. Until then nothing is sent; the proposal is void once the
proposer sends another transaction, or above --timeout-height.")]
    Amend {
        /// The lease
        id: u64,
        /// New price per hour
        price: Coin,
        /// The file to write [default: amend-<id>.json]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Not valid in a block above this height; 0: without limit
        #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
        timeout_height: u64,
    },
    /// Show another price that the other party proposed and signed; sign it too and send it
    #[command(
        after_help = "Examples:\n  tenure lease countersign amend-3.json\n  tenure lease countersign amend-3.json --yes --from provider"
    )]
    Countersign {
        /// The file that `tenure lease amend` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Add money to a lease's escrow account
    #[command(after_help = "Examples:\n  tenure lease deposit 3 2ten")]
    Deposit {
        /// The lease
        id: u64,
        /// How much
        amount: Coin,
    },
    /// Have money paid into a lease's escrow account by itself before it runs out; replaces the order that there is
    #[command(
        after_help = "Examples:\n  tenure lease auto-top-up 3 1ten --up-to 5ten\n  tenure lease auto-top-up 3 --off\n\nThe same as `tenure escrow \
                      auto-top-up` for the lease's bid, which says more."
    )]
    AutoTopUp {
        /// The lease
        id: u64,
        #[command(flatten)]
        order: TopUpArgs,
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

//! `tenure verify`.

use clap::{Args, Subcommand};

use super::Millis;

/// `tenure verify`.
#[derive(Debug, Subcommand)]
pub(crate) enum VerifyCommand {
    /// Prove what an account holds
    #[command(after_help = "\
Examples:
  tenure verify balance --trust-height 1 --trust-hash 9F2C4E…   the first time
  tenure verify balance                                         from the header verified last
  tenure verify balance tenure1... --denom uten -o json

Take --trust-hash from somebody you trust, not from the node you ask: the hash of the block at --trust-height.")]
    Balance {
        /// Key or address [default: the signing key's]
        who: Option<String>,
        /// Which denom
        #[arg(long, default_value = tenure_types::BASE_DENOM)]
        denom: String,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Prove a lease and its money
    #[command(
        after_help = "Examples:\n  tenure verify lease 3\n  tenure verify lease 3 --rpc http://127.0.0.1:26657 -o json"
    )]
    Lease {
        /// The lease
        id: u64,
        #[command(flatten)]
        trust: TrustArgs,
    },
}

/// Whom `tenure verify` asks, and what it believes to begin with.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The node's JSON-RPC address; the node need not be trusted [default: http://127.0.0.1:26657]
    #[arg(long, env = "TENURE_RPC", hide_env_values = true, value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// Height of a block that you trust; later runs begin with the header verified last
    #[arg(long, value_name = "HEIGHT", requires = "trust_hash")]
    pub(crate) trust_height: Option<u64>,
    /// Its hash, 64 hex digits
    #[arg(long, value_name = "HASH", requires = "trust_height")]
    pub(crate) trust_hash: Option<String>,
    /// How old a trusted header may be
    #[arg(long, value_name = "DURATION", default_value = "168h")]
    pub(crate) trust_period: Millis,
}

//! Escrow accounts and bank balances.

use clap::{Args, Subcommand};
use tenure_types::Coin;

/// A standing order: what is paid in by itself.
#[derive(Debug, Args)]
pub(crate) struct TopUpArgs {
    /// What is paid in at a time, from the bank balance, shortly before the money runs out
    #[arg(value_name = "AMOUNT", requires = "up_to", required_unless_present = "off")]
    pub(crate) part: Option<Coin>,
    /// The most that is paid in so in all, counted from now
    #[arg(long, value_name = "AMOUNT", requires = "part")]
    pub(crate) up_to: Option<Coin>,
    /// Pay nothing in by itself any more
    #[arg(long, conflicts_with_all = ["part", "up_to"])]
    pub(crate) off: bool,
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
    /// Have money paid in by itself before it runs out; replaces the order that there is
    #[command(after_help = "\
Examples:
  tenure escrow auto-top-up 7 1ten --up-to 5ten
  tenure escrow auto-top-up 7 --off

About two epochs before the money runs out, as many parts (of 1 TEN here) as the next two
epochs cost are taken from the bank balance, until the maximum (5 TEN) is reached. What is not
spent returns like any deposit. Nothing is set aside: too little in the bank at that moment is
as if there were no order.")]
    AutoTopUp {
        /// The account: its bid's id
        id: u64,
        #[command(flatten)]
        order: TopUpArgs,
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

fn label(text: &str) -> Result<(String, String), String> {
    let (address, name) = text.split_once('=').ok_or("must be ADDRESS=NAME")?;
    Ok((address.to_owned(), name.to_owned()))
}

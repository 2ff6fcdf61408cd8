//! The commands. Names and output follow `simd` where it has them, so that habits and scripts work.

mod comet;
mod debug;
mod devnet;
mod doctor;
mod genesis;
mod inspect;
mod keyring;
mod keys;
mod make_home;
mod operate;
mod query;
mod reflect;
mod rpc;
mod settings;
mod snapshots;
mod start;
mod state_sync;
mod testnet;
mod tx;
mod typed;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use tendermint::Time;
use tenure_types::Coin;

use crate::application::Profile;
use crate::client_config::{ClientConfig, Output};
use crate::config::{process_env, AppConfig, Span};
use crate::home::Home;
use crate::init::{init, NewHome};
use crate::logs::LogFormat;
use crate::node::StartOptions;
use crate::{genesis as genesis_file, logs, node};

const EXIT_CODES: &str = "\
Exit codes: 0 done or stopped cleanly, 1 failed, 2 wrong usage, 3 a stop that hung, 134 aborted because the state cannot be trusted.
Settings: <home>/config; any key of app.toml can be set by TENURED_<SECTION>_<KEY>.";

/// The Tenure node: one process that holds a chain.
#[derive(Parser)]
#[command(
    name = "tenured",
    version,
    propagate_version = false,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = EXIT_CODES
)]
struct Cli {
    /// Directory of configuration, keys and data [default: ~/.tenured]
    #[arg(
        long,
        global = true,
        env = "TENURED_HOME",
        hide_env_values = true,
        value_name = "DIR"
    )]
    home: Option<PathBuf>,
    /// How log lines look; RUST_LOG chooses what is logged
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "TENURED_LOG_FORMAT",
        hide_env_values = true
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a home: configuration, keys and a genesis with this node as the only validator
    Init(make_home::InitArgs),
    /// Change and check the genesis
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Run the node
    Start(start::StartArgs),
    /// Run a development chain, making its home first if there is none: faucet, own accounts, fast blocks
    Devnet(devnet::DevnetArgs),
    /// Make the homes of a network of several validators
    #[command(subcommand)]
    Testnet(testnet::TestnetCommand),
    /// Make, list and carry account keys
    Keys(keys::KeysArgs),
    /// Ask the chain: every query it has
    #[command(
        visible_alias = "q",
        after_help = "\
Values are the request's fields in their order, or flags.

Examples:
  tenured query bank balances tenure1...
  tenured query market leases --page-limit 5 --page-offset 10 -o json
  tenured query tx 9F5CB2... -o json
  tenured query auth account tenure1... --node tcp://10.0.0.7:26657"
    )]
    Query(query::QueryArgs),
    /// Sign and send a message: every one the chain has
    Tx(Box<tx::TxArgs>),
    /// Ask the running node for its status
    #[command(after_help = "Examples:\n  tenured status\n  tenured status | jq -r .sync_info.latest_block_height")]
    Status {
        /// The node's JSON-RPC address [default: the running node's, else the configured one]
        #[arg(short, long, value_name = "ADDR")]
        node: Option<String>,
        /// What is printed
        #[arg(short, long, value_enum, default_value = "json")]
        output: Output,
    },
    /// Keys and data of the consensus engine
    #[command(subcommand, visible_aliases = ["cometbft", "tendermint"])]
    Comet(comet::CometCommand),
    /// Look at and change the settings files
    #[command(subcommand)]
    Config(settings::ConfigCommand),
    /// Take back the last blocks of the state of a stopped node
    Rollback(operate::RollbackArgs),
    /// Write a genesis that continues the chain of a stopped node
    Export(operate::ExportArgs),
    /// Show addresses, keys and bytes in their other forms
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Check that this binary can take the home over: for Cosmovisor
    #[command(after_help = "\
Exit codes as Cosmovisor reads them: 0 go on, 30 give the upgrade up, 31 try again (the old process still has the home).")]
    PreUpgrade,
    /// Take, carry and restore snapshots of the state
    #[command(subcommand)]
    Snapshots(snapshots::SnapshotsCommand),
    /// Look for what is wrong with this node, and say what to type
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  tenured completions bash > /etc/bash_completion.d/tenured
  tenured completions zsh > ~/.zfunc/_tenured
  tenured completions fish > ~/.config/fish/completions/tenured.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print what this binary is
    #[command(after_help = "Examples:\n  tenured version\n  tenured version --long -o json")]
    Version {
        /// Everything, with the libraries it was built with
        #[arg(long)]
        long: bool,
        /// What is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// simd's old name of `genesis add-genesis-account`
    #[command(hide = true)]
    AddGenesisAccount {
        /// The account: an address, or the name of a key
        address: String,
        /// For example 100ten
        coins: String,
        #[command(flatten)]
        keyring: keyring::KeyringArgs,
    },
    /// simd's old name of `genesis gentx`
    #[command(hide = true)]
    Gentx(Box<genesis::GentxArgs>),
    /// simd's old name of `genesis collect-gentxs`
    #[command(hide = true)]
    CollectGentxs {
        /// Where they are
        #[arg(long)]
        gentx_dir: Option<PathBuf>,
    },
    /// simd's old name of `genesis validate`
    #[command(hide = true)]
    ValidateGenesis {
        /// Another file than the home's
        file: Option<PathBuf>,
    },
}

/// Runs the command of this process's arguments. Exit codes: 0 done or stopped cleanly, 1 failed, 2 wrong usage, 3 a stop that hung.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = logs::init(cli.log_format).and_then(|()| dispatch(cli));
    outcome.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

fn home(given: Option<PathBuf>) -> Result<Home> {
    if let Some(path) = given {
        return Ok(Home::new(path));
    }
    let user = std::env::var_os("HOME").filter(|h| !h.is_empty());
    Ok(Home::new(
        PathBuf::from(user.context("HOME is not set; say where with --home")?).join(".tenured"),
    ))
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let home = home(cli.home)?;
    let env = process_env();
    // Read where it is needed: a damaged client.toml must not keep a node from starting.
    let client = || ClientConfig::load(&home, &env);
    match cli.command {
        Command::Init(args) => make_home::run(&home, &env, args),
        Command::Genesis(command) => genesis::run(&home, &env, &client()?, command),
        Command::AddGenesisAccount {
            address,
            coins,
            keyring,
        } => genesis::add_account(&home, &env, &client()?, &keyring, &address, &coins),
        Command::Gentx(args) => genesis::gentx(&home, &client()?, *args),
        Command::CollectGentxs { gentx_dir } => genesis::collect_gentxs(&home, &env, gentx_dir),
        Command::ValidateGenesis { file } => genesis::validate(&home, file),
        Command::Start(args) => start::run(&home, &env, args),
        Command::Devnet(args) => devnet::run(&home, &env, args),
        Command::Testnet(testnet::TestnetCommand::InitFiles(args)) => testnet::init_files(&args),
        Command::Keys(args) => keys::run(&home, &client()?, args),
        Command::Query(args) => query::run(&home, &env, &client()?, args),
        Command::Tx(args) => tx::run(&home, &client()?, *args),
        Command::Status { node, output } => inspect::status(&home, &env, node.as_deref(), output),
        Command::Comet(command) => comet::run(&home, &env, command),
        Command::Config(command) => settings::run(&home, command),
        Command::Rollback(args) => operate::rollback(&home, &env, &args),
        Command::Export(args) => operate::export(&home, &env, &args),
        Command::Snapshots(command) => snapshots::run(&home, &env, command),
        Command::Debug(command) => debug::run(command),
        Command::Doctor(args) => return Ok(doctor::run(&home, &env, &args)),
        Command::PreUpgrade => return Ok(upgrade::pre_upgrade(&home, &env)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tenured", &mut script);
            out(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::Version { long, output } => {
            inspect::version(long, output);
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a line of result. A reader that has gone away, as `head` does, is not a failure.
fn out(line: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A time given to a command; now if there is none.
fn time(text: Option<&str>) -> Result<Time> {
    match text {
        None => Ok(Time::now()),
        Some(text) => Time::parse_from_rfc3339(text).ok().with_context(|| {
            format!("--genesis-time {text:?} is not an RFC 3339 time, for example 2027-01-01T00:00:00Z")
        }),
    }
}

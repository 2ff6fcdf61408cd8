//! The commands. Names and output follow `simd` where it has them, so that habits and scripts work.

mod devnet;
mod inspect;
mod operate;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tendermint::Time;
use tenure_types::Coin;

use crate::application::Profile;
use crate::config::{process_env, AppConfig, Span};
use crate::home::Home;
use crate::init::{init, NewHome};
use crate::logs::LogFormat;
use crate::node::StartOptions;
use crate::{genesis, logs, node};

/// The Tenure node: one process that holds a chain.
#[derive(Parser)]
#[command(name = "tenured", version, propagate_version = false, arg_required_else_help = true)]
struct Cli {
    /// Directory of configuration, keys and data [default: ~/.tenured]
    #[arg(long, global = true, env = "TENURED_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// How log lines look; RUST_LOG chooses what is logged
    #[arg(long, global = true, value_enum, default_value_t, env = "TENURED_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a home: configuration, keys and a genesis with this node as the only validator
    Init(InitArgs),
    /// Change and check the genesis
    #[command(subcommand)]
    Genesis(GenesisCommand),
    /// Run the node
    Start(StartArgs),
    /// Run a development chain, making its home first if there is none: faucet, own accounts, fast blocks
    Devnet(devnet::DevnetArgs),
    /// Ask the running node for its status
    Status {
        /// The node's JSON-RPC address [default: the running node's, else the configured one]
        #[arg(long, value_name = "ADDR")]
        node: Option<String>,
    },
    /// Keys and data of the consensus engine
    #[command(subcommand, visible_aliases = ["cometbft", "tendermint"])]
    Comet(CometCommand),
    /// Take back the last blocks of the application's state
    Rollback {
        /// How many
        #[arg(long, default_value_t = 1)]
        blocks: u64,
    },
    /// Print a genesis that continues the chain from its last committed block
    Export,
    /// Print what this binary is
    Version {
        /// Everything
        #[arg(long)]
        long: bool,
        /// How
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// Lines.
    #[default]
    Text,
    /// JSON.
    Json,
}

#[derive(Args)]
struct InitArgs {
    /// A name for this node
    moniker: String,
    /// The chain's id, for example tenure-local-1
    #[arg(long)]
    chain_id: String,
    /// Parameters with short times, for demonstrations and tests
    #[arg(long)]
    fast: bool,
    /// An account with money from the beginning; may be repeated
    #[arg(long = "account", value_name = "ADDRESS=COINS")]
    accounts: Vec<String>,
    /// Time of the first block, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    genesis_time: Option<String>,
}

#[derive(Subcommand)]
enum GenesisCommand {
    /// Give an account money from the beginning
    AddGenesisAccount {
        /// The account
        address: String,
        /// For example 100ten or 5000uten,7abc
        coins: String,
    },
    /// Check the genesis as a start would
    Validate {
        /// Another file than the home's
        file: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum CometCommand {
    /// Print the node's id
    ShowNodeId,
    /// Print the validator's public key
    ShowValidator,
    /// Print the validator's address
    ShowAddress,
    /// Remove all blocks and all state, keep configuration and keys. The key forgets what it signed
    UnsafeResetAll,
}

/// Engines that this binary has.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Engine {
    /// Embedded; one validator, not Byzantine fault tolerant.
    #[default]
    Solo,
}

#[derive(Args)]
struct StartArgs {
    /// What makes the blocks
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// Take free ports in place of busy ones; run.json in the home tells which
    #[arg(long)]
    auto_ports: bool,
    /// Let the solo engine run a chain id that looks like a main network's
    #[arg(long)]
    force: bool,
}

/// Runs the command of this process's arguments. Exit codes: 0 done or stopped cleanly, 1 failed, 2 wrong usage, 3 a stop that hung.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = logs::init(cli.log_format).and_then(|()| dispatch(cli));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
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

fn dispatch(cli: Cli) -> Result<()> {
    let home = home(cli.home)?;
    let env = process_env();
    match cli.command {
        Command::Init(args) => make_home(&home, args),
        Command::Genesis(GenesisCommand::AddGenesisAccount { address, coins }) => {
            operate::add_genesis_account(&home, &env, &address, &coins)
        }
        Command::Genesis(GenesisCommand::Validate { file }) => {
            let path = match file {
                Some(file) => file,
                None => {
                    home.require_initialised()?;
                    home.genesis()
                }
            };
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            genesis::validate(&bytes).with_context(|| path.display().to_string())?;
            println!("{} is valid", path.display());
            Ok(())
        }
        Command::Start(StartArgs {
            engine: Engine::Solo,
            auto_ports,
            force,
        }) => {
            home.require_initialised()?;
            node::start(&home, home.lock()?, &env, StartOptions { auto_ports, force })
        }
        Command::Devnet(args) => devnet::run(&home, &env, args),
        Command::Status { node } => inspect::status(&home, &env, node.as_deref()),
        Command::Comet(CometCommand::ShowNodeId) => inspect::show_node_id(&home),
        Command::Comet(CometCommand::ShowValidator) => inspect::show_validator(&home),
        Command::Comet(CometCommand::ShowAddress) => inspect::show_address(&home),
        Command::Comet(CometCommand::UnsafeResetAll) => operate::unsafe_reset_all(&home),
        Command::Rollback { blocks } => operate::rollback(&home, &env, blocks),
        Command::Export => operate::export(&home, &env),
        Command::Version { long, output } => {
            inspect::version(long, matches!(output, Output::Json));
            Ok(())
        }
    }
}

fn make_home(home: &Home, args: InitArgs) -> Result<()> {
    let genesis_time = match args.genesis_time {
        None => Time::now(),
        Some(text) => Time::parse_from_rfc3339(&text).ok().with_context(|| {
            format!("--genesis-time {text:?} is not an RFC 3339 time, for example 2027-01-01T00:00:00Z")
        })?,
    };
    let accounts = args
        .accounts
        .iter()
        .map(|text| genesis::parse_account(text))
        .collect::<Result<_>>()?;
    let funded = !args.accounts.is_empty();
    let made = init(
        home,
        NewHome {
            moniker: args.moniker,
            chain_id: args.chain_id.clone(),
            genesis_time,
            profile: if args.fast { Profile::Fast } else { Profile::Normal },
            accounts,
            faucet: None,
            config: AppConfig::default(),
        },
    )?;
    let root = home.root().display();
    println!(
        "Made {root} for chain {}: node id {}, validator {}.",
        args.chain_id, made.node_id, made.validator
    );
    if funded {
        println!("Next: run the node with `tenured start --home {root}`.");
    } else {
        println!(
            "Next: give somebody money with `tenured genesis add-genesis-account <address> 1000ten --home {root}`,"
        );
        println!("then run the node with `tenured start --home {root}`.");
    }
    Ok(())
}

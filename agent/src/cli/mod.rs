//! The command line. Results go to stdout, everything else to stderr; exit codes are those of the `tenure` command
//! ([`tenure_client::error::exit`]).

mod account;
mod daemon;
mod doctor;
mod show;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tenure_client::{chain::NODE_ENV, error::exit, keyring::Backend};

use crate::config::Config;

/// Rents this machine out: claims bids, runs the workloads in a sandbox, attests to the work and is paid for it.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "A provider in three commands:\n  tenure-agent doctor\n  tenure-agent join --bond 500ten\n  tenure-agent run\n\n\
        On a development network, in one:\n  tenure-agent run --join --bond 500ten --faucet --keyring test"
)]
pub struct Cli {
    /// The agent's directory: config, key, workloads [default: ~/.tenure-agent]
    #[arg(long, global = true, env = "TENURE_AGENT_HOME")]
    home: Option<PathBuf>,
    /// gRPC address of a node, instead of the one in config.toml
    #[arg(long, global = true, env = NODE_ENV)]
    node: Option<String>,
    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What goes into config.toml; what is not given stays as it is there, or is measured.
#[derive(Debug, Clone, Args)]
struct Setup {
    /// Name for people, 1 to 64 bytes
    #[arg(long)]
    moniker: Option<String>,
    /// Where the gateway listens, ADDRESS:PORT
    #[arg(long)]
    listen: Option<std::net::SocketAddr>,
    /// Where tenants reach the gateway, http://HOST:PORT [default: as --listen]
    #[arg(long)]
    endpoint: Option<String>,
    /// Offered CPU, thousandths of a core
    #[arg(long)]
    cpu_milli: Option<u64>,
    /// Offered memory, for example 8GiB
    #[arg(long)]
    memory: Option<String>,
    /// Offered disk, for example 50GiB
    #[arg(long)]
    storage: Option<String>,
    /// Prices per hour, any of cpu=0.1ten,memory=0.05ten,storage=0.001ten,floor=0.01ten (core, GiB, GiB, lease)
    #[arg(long)]
    price: Option<String>,
    /// file: sealed with a passphrase (TENURE_KEYRING_PASSPHRASE or asked for); test: in clear, for development networks
    #[arg(long)]
    keyring: Option<Backend>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the home directory, a key and config.toml
    #[command(
        after_help = "Example:\n  tenure-agent init --moniker attic --listen 0.0.0.0:9191 --endpoint http://attic.example:9191"
    )]
    Init(Setup),
    /// Checks the machine, the node, the clock, the key and the gateway, and says how to mend what is not right
    Doctor,
    /// Registers as a provider, or brings the registration up to config.toml
    #[command(
        after_help = "Examples:\n  tenure-agent join --bond 500ten\n  tenure-agent join --price cpu=0.2ten --memory 16GiB"
    )]
    Join(JoinArgs),
    /// Serves: claims, runs, attests. Ends on SIGTERM or Ctrl-C
    #[command(
        after_help = "Examples:\n  tenure-agent run\n  tenure-agent run --join --bond 500ten --faucet --keyring test"
    )]
    Run(RunArgs),
    /// The provider as the chain has it
    Status,
    /// Its leases
    Leases {
        /// Closed ones too
        #[arg(long)]
        all: bool,
    },
    /// Takes no new leases and serves those it has
    Drain {
        /// Takes new leases again
        #[arg(long)]
        off: bool,
    },
    /// Asks for the bond back; it returns when the window has passed and no lease is left
    Leave,
    /// Pays out what leases have earned so far
    Withdraw {
        /// Leases; all open ones if none is given
        leases: Vec<u64>,
    },
}

/// How to register.
#[derive(Debug, Clone, Args)]
struct JoinArgs {
    /// Stake to lock, for example 500ten [default: the least that the chain takes]
    #[arg(long)]
    bond: Option<String>,
    /// Ask the node's faucet for play money (development networks)
    #[arg(long)]
    faucet: bool,
    #[command(flatten)]
    setup: Setup,
}

/// How to serve.
#[derive(Debug, Clone, Args)]
struct RunArgs {
    /// Set up and register first if that is not done
    #[arg(long)]
    join: bool,
    /// Take a free port in place of a busy one for the gateway, and register that; needs --join
    #[arg(long, requires = "join")]
    auto_ports: bool,
    #[command(flatten)]
    args: JoinArgs,
}

impl Cli {
    fn home(&self) -> Result<PathBuf> {
        match &self.home {
            Some(home) => Ok(home.clone()),
            None => {
                let home = std::env::home_dir().context("no home directory: give --home")?;
                Ok(home.join(".tenure-agent"))
            }
        }
    }

    /// config.toml with what the command line overrides.
    fn config(&self) -> Result<(PathBuf, Config)> {
        let home = self.home()?;
        let mut config = Config::load(&home)?;
        if let Some(node) = &self.node {
            config.node.clone_from(node);
        }
        Ok((home, config))
    }
}

impl Setup {
    fn apply(&self, config: &mut Config) -> Result<()> {
        let set = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut config.moniker, &self.moniker);
        set(&mut config.capacity.memory, &self.memory);
        set(&mut config.capacity.storage, &self.storage);
        if let Some(listen) = self.listen {
            config.listen = listen;
            config.endpoint = format!("http://{listen}");
        }
        set(&mut config.endpoint, &self.endpoint);
        if let Some(cpu) = self.cpu_milli {
            config.capacity.cpu_milli = cpu;
        }
        if let Some(price) = &self.price {
            config.set_price(price)?;
        }
        if let Some(keyring) = self.keyring {
            config.keyring = keyring;
        }
        config.check()
    }
}

/// Runs a command and gives the process's exit code.
pub fn main(cli: Cli) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,cranelift=warn,wasmtime=warn,h2=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Reported on standard error, whose reader has gone, a lost line would be a panic and the end of the workloads.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tenure-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(dispatch(&cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tenure-agent: {error:#}");
            let known = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<tenure_client::Error>());
            if let Some(hint) = known.and_then(hint) {
                eprintln!("next: {hint}");
            }
            ExitCode::from(known.map_or(exit::FAILURE, tenure_client::Error::exit_code))
        }
    }
}

/// What to type next: the client's advice, where it is not about a tenant's key.
fn hint(error: &tenure_client::Error) -> Option<String> {
    use tenure_client::Error::{NotFound, Refused};
    let absent = match error {
        NotFound(message) => message.starts_with("provider "),
        Refused(refusal) => refusal.codespace == "provider" && refusal.code == 1,
        _ => false,
    };
    if absent {
        return Some("this key is not registered: tenure-agent join --bond 500ten".to_owned());
    }
    let hint = error.hint()?;
    Some(if hint.contains("`tenure faucet`") {
        "send ten to the account of `tenure-agent doctor`; on a development network: tenure-agent join --faucet"
            .to_owned()
    } else {
        hint
    })
}

async fn dispatch(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Init(setup) => account::init(cli, setup).map(|()| ExitCode::SUCCESS),
        Command::Doctor => doctor::run(cli).await,
        Command::Join(args) => account::join(cli, args).await.map(|_| ExitCode::SUCCESS),
        Command::Run(args) => daemon::run(cli, args).await.map(|()| ExitCode::SUCCESS),
        Command::Status => show::status(cli).await.map(|()| ExitCode::SUCCESS),
        Command::Leases { all } => show::leases(cli, *all).await.map(|()| ExitCode::SUCCESS),
        Command::Drain { off } => account::drain(cli, !off).await.map(|()| ExitCode::SUCCESS),
        Command::Leave => account::leave(cli).await.map(|()| ExitCode::SUCCESS),
        Command::Withdraw { leases } => account::withdraw(cli, leases).await.map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}

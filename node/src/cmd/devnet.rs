//! `tenured devnet`: a chain for development in one command.

use anyhow::{ensure, Result};
use clap::Args;
use tendermint::Time;
use tenure_types::Coins;

use super::*;
use crate::config::{ApiConfig, Env, FaucetConfig};
use crate::engine::EngineKind;

/// What a faucet begins with: a billion TEN.
const FAUCET_UNITS: u128 = 1_000_000_000_000_000;
/// What a faucet gives: 1,000 TEN, enough for a provider's bond.
const DRIP_UNITS: u128 = 1_000_000_000;

/// Choices for a home that is made, and of one start.
#[derive(Args)]
pub(super) struct DevnetArgs {
    /// Blocks four times a second and parameters with short times
    #[arg(long)]
    fast: bool,
    /// An account with money from the beginning, if the home is made now; may be repeated
    #[arg(long = "account", value_name = "ADDRESS=COINS")]
    accounts: Vec<String>,
    /// The chain's id, if the home is made now
    #[arg(long, default_value = "tenure-local-1")]
    chain_id: String,
    /// What makes the blocks [default: what made those of this home; solo for a fresh one]
    #[arg(long, value_enum)]
    engine: Option<EngineKind>,
    /// Take free ports in place of busy ones; run.json in the home tells which
    #[arg(long)]
    auto_ports: bool,
}

pub(super) fn run(home: &Home, env: &Env, args: DevnetArgs) -> Result<()> {
    // Before looking: two first starts at once must not make one home together.
    let lock = home.lock()?;
    let accounts = args
        .accounts
        .iter()
        .map(|text| genesis_file::parse_account(text))
        .collect::<Result<Vec<_>>>()?;
    if home.is_initialised() {
        let document = genesis_file::read(&home.genesis())?;
        for (address, _) in &accounts {
            let balances = document.pointer("/app_state/bank/balances").and_then(|b| b.as_array());
            let there = balances.is_some_and(|b| b.iter().any(|e| e["address"] == address.to_string().as_str()));
            ensure!(
                there,
                "{} exists already, and {address} is not in its genesis: --account works only when a home is made. Send it money \
                 from the faucet, or choose another --home",
                home.root().display()
            );
        }
    } else {
        make(home, &args, accounts)?;
    }
    node::start(
        home,
        lock,
        env,
        StartOptions {
            engine: args.engine,
            auto_ports: args.auto_ports,
            ..StartOptions::default()
        },
    )
}

/// The settings of a faucet for development.
pub(super) fn faucet() -> FaucetConfig {
    FaucetConfig {
        enabled: true,
        amount: Coin::base(DRIP_UNITS),
        interval: Span::ms(10_000),
        ..FaucetConfig::default()
    }
}

/// What it begins with.
pub(super) fn faucet_funds() -> Coins {
    Coin::base(FAUCET_UNITS).into()
}

fn make(home: &Home, args: &DevnetArgs, accounts: Vec<(tenure_types::Address, Coins)>) -> Result<()> {
    let mut config = AppConfig {
        faucet: faucet(),
        // Wallets and explorers want it; it listens on loopback.
        api: ApiConfig {
            enable: true,
            ..ApiConfig::default()
        },
        ..AppConfig::default()
    };
    if args.fast {
        config.solo.block_interval = Span::ms(250);
        config.solo.min_block_gap = Span::ms(50);
    }
    let new = NewHome {
        moniker: "devnet".to_owned(),
        chain_id: args.chain_id.clone(),
        genesis_time: Time::now(),
        profile: if args.fast { Profile::Fast } else { Profile::Normal },
        accounts,
        faucet: Some(faucet_funds()),
        config,
        validator_words: None,
    };
    let made = init(home, new)?;
    tracing::info!(
        home = %home.root().display(),
        faucet = %made.faucet.map(|a| a.to_string()).unwrap_or_default(),
        "made a home for chain {}",
        args.chain_id
    );
    Ok(())
}

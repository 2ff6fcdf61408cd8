//! Commands that make keys and send transactions.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use tenure_client::{
    auth::wall_ms,
    chain::Client,
    keyring::Keyring,
    keys::{new_mnemonic, Key},
    passphrase::Passphrase,
    sender::{TxOptions, TxSender},
    units::{show_amount, show_duration},
    Error,
};
use tenure_proto::{
    any,
    cosmos::base::v1beta1::Coin,
    tenure::{
        base::v1::Resources,
        market::v1::{LeaseState, MsgWithdrawEarnings, MsgWithdrawEarningsResponse},
        provider::v1::{MsgDrain, MsgLeave, MsgLeaveResponse, MsgRegister, MsgUpdate, ProviderStatus},
    },
};
use tenure_types::{coin::display_base, sdk, BASE_DENOM};

use super::{Cli, JoinArgs, Setup};
use crate::{
    chain::optional,
    config::{base_units, Config},
};

/// What registering and the first attestations may cost in fees, base units.
const FEE_ROOM: u128 = 1_000_000;
/// How long to wait for a node that does not answer, or does not have the account yet.
const NODE_WAIT: Duration = Duration::from_secs(60);
/// How often it is said what is waited for.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long to wait for the faucet.
const FAUCET_WAIT: Duration = Duration::from_secs(60);

pub(super) fn keyring(home: &Path, config: &Config) -> Keyring {
    Keyring::new(home, config.keyring, Passphrase::EnvOrPrompt)
}

/// Makes what is missing: the directory, config.toml and the key. What is there stays, but for what `setup` says.
fn prepare(cli: &Cli, setup: &Setup) -> Result<(Config, Key)> {
    let home = cli.home()?;
    tenure_client::files::create_private_dir(&home)?;
    let mut config = if home.join("config.toml").exists() {
        Config::load(&home)?
    } else {
        Config::suggest(&home)?
    };
    if let Some(node) = &cli.node {
        config.node.clone_from(node);
    }
    setup.apply(&mut config)?;
    config.save(&home)?;
    let keyring = keyring(&home, &config);
    let known = keyring.list()?.iter().any(|info| info.name == config.key);
    if known {
        return Ok((config.clone(), keyring.load(&config.key)?));
    }
    let key = keyring.add(&config.key, &new_mnemonic()?)?;
    eprintln!("made key {:?}, account {}", config.key, key.address());
    eprintln!("  back it up: {}/keyring-{}", home.display(), config.keyring);
    Ok((config, key))
}

pub(super) fn init(cli: &Cli, setup: &Setup) -> Result<()> {
    let (config, key) = prepare(cli, setup)?;
    println!("account   {}", key.address());
    println!("config    {}", cli.home()?.join("config.toml").display());
    println!("offers    {}", config.offer()?);
    eprintln!("next: send some ten to the account, then: tenure-agent doctor && tenure-agent join --bond 500ten");
    Ok(())
}

/// A client of the node, which may only just be starting: it is waited for.
pub(super) async fn connect(node: &str) -> Result<Client> {
    let began = Instant::now();
    loop {
        match Client::connect(node).await {
            Err(error @ Error::Unreachable { .. }) if began.elapsed() < NODE_WAIT => {
                tracing::info!("{error}; waiting for it");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return Ok(result?),
        }
    }
}

/// A sender for the agent's key. Error: the account does not exist, the node does not answer.
pub(super) async fn sender(config: &Config, key: Key) -> Result<TxSender> {
    let client = connect(&config.node).await?;
    Ok(TxSender::new(client, key, TxOptions::default()).await?)
}

/// A sender for the agent's key through a node that may be some blocks behind the one that the account was made through: it is waited for. Error:
/// it does not have the account after [`NODE_WAIT`].
pub(super) async fn patient_sender(config: &Config, key: Key) -> Result<TxSender> {
    let client = connect(&config.node).await?;
    let began = Instant::now();
    let mut told = None::<Instant>;
    loop {
        match TxSender::new(client.clone(), key.clone(), TxOptions::default()).await {
            Err(error) if is_unknown_account(&error) => {}
            result => return Ok(result?),
        }
        // A node that goes down between the two questions is no reason to end.
        let seen = match client.status().await {
            Ok(status) => format!(
                "the node at {} is at height {}, its last block {} old",
                client.address(),
                status.height,
                show_duration(wall_ms().saturating_sub(status.header_ms))
            ),
            Err(error) => error.to_string(),
        };
        let address = key.address();
        if began.elapsed() >= NODE_WAIT {
            return Err(Error::TimedOut(format!(
                "account {address} does not exist yet after {} s; {seen}. If that node is behind, start again when it has caught up, or name another \
                 one with --node. If the account never received anything, send it ten, then: tenure-agent join --bond 500ten",
                NODE_WAIT.as_secs()
            ))
            .into());
        }
        if told.is_none_or(|at| at.elapsed() >= PROGRESS) {
            told = Some(Instant::now());
            tracing::info!("account {address} does not exist yet: {seen}; waiting for it");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.codespace == "sdk" && refusal.code == sdk::UNKNOWN_ADDRESS)
}

/// The sender of the key in the home.
async fn own_sender(cli: &Cli) -> Result<TxSender> {
    let (home, config) = cli.config()?;
    let key = keyring(&home, &config).load(&config.key)?;
    sender(&config, key).await
}

/// Asks the faucet until the account holds this much.
async fn fund(client: &Client, address: &str, needed: u128) -> Result<()> {
    let began = Instant::now();
    let mut last = String::new();
    loop {
        let held = client.balance(address).await?;
        if held >= needed {
            return Ok(());
        }
        if began.elapsed() >= FAUCET_WAIT {
            bail!(
                "{address} holds {} after {} s of asking the faucet, needs {}: {last}",
                display_base(held),
                FAUCET_WAIT.as_secs(),
                display_base(needed)
            );
        }
        match client.drip(address).await {
            Ok(_) => {}
            Err(error @ Error::NotFound(_)) => return Err(error.into()),
            // The faucet limits how often; what it sent may also not be in a block yet.
            Err(error) => last = error.to_string(),
        }
        let waiting = Instant::now();
        while waiting.elapsed() < Duration::from_secs(5) && client.balance(address).await? == held {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Registers, or brings the registration up to date. Gives the config and the sender for whoever goes on.
pub(super) async fn join(cli: &Cli, args: &JoinArgs) -> Result<(Config, TxSender)> {
    let (config, key) = prepare(cli, &args.setup)?;
    let client = connect(&config.node).await?;
    let owner = key.address().to_string();
    let registered = optional(client.provider(&owner).await)?;
    let bond = match &args.bond {
        Some(text) => base_units("--bond", text)?,
        None => {
            let least = client
                .provider_params()
                .await?
                .min_bond
                .context("the chain's provider params have no min_bond")?;
            least
                .amount
                .parse()
                .with_context(|| format!("min_bond {:?}", least.amount))?
        }
    };
    if args.faucet {
        let needed = if registered.is_some() {
            config.reserve()?
        } else {
            bond + config.reserve()?
        };
        fund(&client, &owner, needed + FEE_ROOM).await?;
    }
    let sender = TxSender::new(client, key, TxOptions::default())
        .await
        .with_context(|| format!("send at least {} to {owner} first", display_base(bond + FEE_ROOM)))?;
    let offered = config.resources()?;
    let capacity = Resources {
        cpu_milli: offered.cpu_milli,
        memory_bytes: offered.memory_bytes,
        storage_bytes: offered.storage_bytes,
    };
    let (moniker, endpoint) = (config.moniker.clone(), config.endpoint.clone());
    match registered {
        None => {
            let bond = Coin {
                denom: BASE_DENOM.to_owned(),
                amount: bond.to_string(),
            };
            let message = MsgRegister {
                owner: owner.clone(),
                moniker,
                endpoint,
                capacity: Some(capacity),
                bond: Some(bond),
            };
            let done = sender.send_and_confirm(vec![any(&message)]).await?;
            println!("registered {owner} at height {} (tx {})", done.height, done.hash);
        }
        Some(now) if now.status() == ProviderStatus::Unbonding => {
            println!("registered {owner}, and leaving: it takes no new leases; join again once the bond is back");
        }
        Some(now) if now.moniker == moniker && now.endpoint == endpoint && now.capacity == Some(capacity) => {
            println!("registered {owner} already, as config.toml says; prices are not registered, the next run takes them from there");
            if let Some(asked) = &args.bond {
                let locked = now.bond.map_or_else(String::new, |c| show_amount(&c.amount, &c.denom));
                if locked != display_base(bond) {
                    println!("the bond stays {locked}, not {asked}: to change it, leave and join again");
                }
            }
        }
        Some(_) => {
            let message = MsgUpdate {
                owner: owner.clone(),
                moniker,
                endpoint,
                capacity: Some(capacity),
            };
            let done = sender.send_and_confirm(vec![any(&message)]).await?;
            println!("updated {owner} at height {} (tx {})", done.height, done.hash);
        }
    }
    eprintln!("next: tenure-agent run");
    Ok((config, sender))
}

pub(super) async fn drain(cli: &Cli, drain: bool) -> Result<()> {
    let sender = own_sender(cli).await?;
    let done = sender
        .send_and_confirm(vec![any(&MsgDrain {
            owner: sender.address(),
            drain,
        })])
        .await?;
    let what = if drain {
        "draining: no new leases; those that run are served to their end"
    } else {
        "takes new leases again"
    };
    println!("{what} (height {}, tx {})", done.height, done.hash);
    Ok(())
}

pub(super) async fn leave(cli: &Cli) -> Result<()> {
    let sender = own_sender(cli).await?;
    let done = sender
        .send_and_confirm(vec![any(&MsgLeave {
            owner: sender.address(),
        })])
        .await?;
    let unbonds = done.response::<MsgLeaveResponse>(0)?.unbonds.unwrap_or_default();
    let now_ms = sender.client().status().await?.live_ms;
    println!(
        "leaving: the bond returns in {}, after height {}, and when no lease is left (tx {})",
        show_duration(unbonds.ms.saturating_sub(now_ms)),
        unbonds.height,
        done.hash
    );
    eprintln!("keep tenure-agent run going until the leases it has are over");
    Ok(())
}

pub(super) async fn withdraw(cli: &Cli, leases: &[u64]) -> Result<()> {
    let sender = own_sender(cli).await?;
    let mut lease_ids = leases.to_vec();
    if lease_ids.is_empty() {
        let open = sender
            .client()
            .leases("", &sender.address(), LeaseState::Unspecified, true)
            .await?;
        lease_ids = open
            .iter()
            .filter(|lease| lease.ready_ms > 0)
            .map(|lease| lease.id)
            .collect();
    }
    lease_ids.sort_unstable();
    lease_ids.dedup();
    if lease_ids.is_empty() {
        println!("no open lease has earned anything; closed ones were paid out when they closed");
        return Ok(());
    }
    for ids in lease_ids.chunks(100) {
        let message = MsgWithdrawEarnings {
            provider: sender.address(),
            lease_ids: ids.to_vec(),
        };
        let done = sender.send_and_confirm(vec![any(&message)]).await?;
        let paid = done.response::<MsgWithdrawEarningsResponse>(0)?.paid;
        let paid: Vec<String> = paid.iter().map(|c| show_amount(&c.amount, &c.denom)).collect();
        println!(
            "paid {} (tx {})",
            if paid.is_empty() {
                "nothing".to_owned()
            } else {
                paid.join(", ")
            },
            done.hash
        );
    }
    Ok(())
}

//! `tenured genesis`: what a chain begins with, under simd's verbs.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::{json, Value};
use tenure_solo::{load_node_id, ValidatorKey};
use tenure_types::{Amount, Coin};

use super::keyring::{KeyringArgs, Keys};
use super::operate::require_not_begun;
use super::out;
use crate::client_config::ClientConfig;
use crate::config::Env;
use crate::gentx::{self, Candidate, Commission, Description, GenTx, NewValidator};
use crate::home::Home;
use crate::{files, genesis, settings_file};

/// Where validators of one network meet without being told otherwise.
const P2P_PORT: u16 = 26656;

#[derive(Subcommand)]
pub(super) enum GenesisCommand {
    /// Give an account money from the beginning
    #[command(after_help = "\
Examples:
  tenured genesis add-genesis-account tenure1... 1000ten
  tenured genesis add-genesis-account validator 1000000ten,5abc --keyring-backend test")]
    AddGenesisAccount {
        /// The account: an address, or the name of a key
        #[arg(value_name = "ADDRESS|KEY")]
        address: String,
        /// For example 100ten or 5000uten,7abc
        coins: String,
        #[command(flatten)]
        keyring: KeyringArgs,
    },
    /// Write a genesis transaction that makes this node a validator
    Gentx(Box<GentxArgs>),
    /// Put all genesis transactions into the genesis: their validators are the first ones
    #[command(after_help = "\
The chain has no staking yet: a validator's power is its self-delegation in TEN, the account must begin with that much, and nothing is locked.
The validator that `tenured init` wrote is replaced. Where a gentx says where its node listens, that goes into persistent_peers of config.toml.
Then give every validator the same config/genesis.json.

Example:
  cp alice.json bob.json ~/.tenured/config/gentx/ && tenured genesis collect-gentxs")]
    CollectGentxs {
        /// Where they are [default: config/gentx in the home]
        #[arg(long, value_name = "DIR")]
        gentx_dir: Option<PathBuf>,
    },
    /// Check a genesis as a start would
    #[command(
        visible_alias = "validate-genesis",
        after_help = "Example:\n  tenured genesis validate new-genesis.json"
    )]
    Validate {
        /// Another file than the home's
        file: Option<PathBuf>,
    },
}

#[derive(Args)]
#[command(after_help = "\
The file is a Cosmos genesis transaction: one MsgCreateValidator, signed by the key. The consensus key is the home's, or --pubkey.
The chain has no staking yet: the self-delegation gives the voting power (one for each TEN), is not locked, and commissions wait for staking.

Examples:
  tenured genesis gentx validator 100ten --chain-id tenure-local-1
  tenured genesis gentx validator 100ten --ip 10.0.0.7 --output-document alice.json")]
pub(super) struct GentxArgs {
    /// Name of the account's key
    key_name: String,
    /// Self-delegation, for example 100ten
    amount: Coin,
    /// The chain's id; must be the genesis' own
    #[arg(long)]
    chain_id: Option<String>,
    /// The validator's name [default: moniker of config.toml]
    #[arg(long)]
    moniker: Option<String>,
    /// A sentence about the validator
    #[arg(long, default_value = "")]
    details: String,
    /// Where to read more
    #[arg(long, default_value = "")]
    website: String,
    /// A fingerprint on a directory of identities
    #[arg(long, default_value = "")]
    identity: String,
    /// Whom to tell about a hole
    #[arg(long, default_value = "")]
    security_contact: String,
    /// Share of rewards that the validator keeps, once there is staking
    #[arg(long, default_value = "0.1")]
    commission_rate: String,
    /// The most that share can become
    #[arg(long, default_value = "0.2")]
    commission_max_rate: String,
    /// The most that share can grow in a day
    #[arg(long, default_value = "0.01")]
    commission_max_change_rate: String,
    /// The least the validator delegates to itself, base units
    #[arg(long, default_value = "1")]
    min_self_delegation: Amount,
    /// Consensus key as `tenured comet show-validator` prints it [default: the home's]
    #[arg(long, value_name = "JSON")]
    pubkey: Option<String>,
    /// Node id [default: the home's]
    #[arg(long)]
    node_id: Option<String>,
    /// Address at which other validators reach this node [default: of the interface with the default route]
    #[arg(long)]
    ip: Option<String>,
    /// Port for peers
    #[arg(long, default_value_t = P2P_PORT)]
    p2p_port: u16,
    /// Where to write it [default: config/gentx/gentx-<key>.json in the home]
    #[arg(long, value_name = "FILE")]
    output_document: Option<PathBuf>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

pub(super) fn run(home: &Home, env: &Env, config: &ClientConfig, command: GenesisCommand) -> Result<()> {
    match command {
        GenesisCommand::AddGenesisAccount {
            address,
            coins,
            keyring,
        } => add_account(home, env, config, &keyring, &address, &coins),
        GenesisCommand::Gentx(args) => gentx(home, config, *args),
        GenesisCommand::CollectGentxs { gentx_dir } => collect_gentxs(home, env, gentx_dir),
        GenesisCommand::Validate { file } => validate(home, file),
    }
}

pub(super) fn validate(home: &Home, file: Option<PathBuf>) -> Result<()> {
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

pub(super) fn add_account(
    home: &Home,
    env: &Env,
    config: &ClientConfig,
    keyring: &KeyringArgs,
    account: &str,
    coins: &str,
) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    require_not_begun(home, env)?;
    let address = Keys::open(home, config, keyring).address(account)?;
    let coins = genesis::parse_coins(coins)?;
    let mut document = genesis::read(&home.genesis())?;
    genesis::add_account(&mut document, &address, &coins)?;
    write(home, &document)?;
    println!("{address} begins with {coins}");
    Ok(())
}

/// Replaces the home's genesis by a document that has been checked.
fn write(home: &Home, document: &Value) -> Result<()> {
    let bytes = genesis::bytes(document);
    genesis::validate(&bytes)?;
    files::replace(&home.genesis(), &bytes)
}

fn chain_id(document: &Value) -> Result<&str> {
    document["chain_id"].as_str().context("the genesis has no chain_id")
}

pub(super) fn gentx(home: &Home, config: &ClientConfig, args: GentxArgs) -> Result<()> {
    home.require_initialised()?;
    let document = genesis::read(&home.genesis())?;
    let chain = chain_id(&document)?;
    if let Some(given) = &args.chain_id {
        ensure!(
            given == chain,
            "--chain-id is {given:?}, but the genesis in {} is of {chain:?}",
            home.root().display()
        );
    }
    let keys = Keys::open(home, config, &args.keyring);
    let key = keys.load(&args.key_name)?;
    let moniker = match args.moniker {
        Some(moniker) => moniker,
        None => {
            let file = settings_file::SettingsFile::read(&home.config("config.toml"))?;
            file.get("moniker")
                .and_then(|m| m.as_str())
                .unwrap_or_default()
                .to_owned()
        }
    };
    let consensus_key = match &args.pubkey {
        None => ValidatorKey::load(&home.validator_key())?.public_key(),
        Some(text) => consensus_key(text)?,
    };
    let node_id = match args.node_id {
        Some(id) => id,
        None => load_node_id(&home.node_key())?,
    };
    let new = NewValidator {
        description: Description {
            moniker,
            identity: args.identity,
            website: args.website,
            security_contact: args.security_contact,
            details: args.details,
        },
        commission: Commission {
            rate: args.commission_rate,
            max_rate: args.commission_max_rate,
            max_change_rate: args.commission_max_change_rate,
        },
        min_self_delegation: args.min_self_delegation,
        consensus_key,
        stake: args.amount,
        peer: format!("{node_id}@{}:{}", args.ip.unwrap_or_else(own_address), args.p2p_port),
    };
    let gentx = GenTx::sign(new, chain, &key)?;
    let candidate = gentx.check(chain)?;
    // Early, so that nobody sends a file that cannot be collected.
    gentx::collect(&mut document.clone(), std::slice::from_ref(&candidate))?;
    let path = match args.output_document {
        Some(path) => path,
        None => {
            let dir = home.config("gentx");
            crate::home::create_dir(&dir)?;
            dir.join(gentx.file_name()?)
        }
    };
    files::replace(&path, &gentx.to_bytes()?)?;
    eprintln!(
        "Genesis transaction written to {}: power {}, peer {}",
        path.display(),
        candidate.power,
        candidate.peer
    );
    Ok(())
}

/// An ed25519 key as `show-validator` prints it.
fn consensus_key(text: &str) -> Result<[u8; 32]> {
    let malformed = || format!("--pubkey is {text:?}, must be what `tenured comet show-validator` prints");
    let value: Value = serde_json::from_str(text).with_context(malformed)?;
    ensure!(value["@type"] == "/cosmos.crypto.ed25519.PubKey", "{}", malformed());
    let bytes = BASE64.decode(value["key"].as_str().unwrap_or_default()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).with_context(malformed)
}

/// The address of the interface that has the default route; nothing is sent. Without one: loopback.
fn own_address() -> String {
    let address = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // An address for documentation (RFC 5737): it only chooses the route.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match address {
        Ok(address) if !address.ip().is_unspecified() => address.ip().to_string(),
        _ => IpAddr::from([127, 0, 0, 1]).to_string(),
    }
}

/// All genesis transactions of a directory in order of file name.
pub(super) fn read_gentxs(dir: &Path, chain_id: &str) -> Result<Vec<Candidate>> {
    let entries = std::fs::read_dir(dir).with_context(|| {
        format!(
            "cannot read {}; `tenured genesis gentx <key> <amount>` writes a genesis transaction there",
            dir.display()
        )
    })?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let read = |path: &PathBuf| -> Result<Candidate> { GenTx::parse(&std::fs::read(path)?)?.check(chain_id) };
    paths
        .iter()
        .map(|path| read(path).with_context(|| path.display().to_string()))
        .collect()
}

/// `persistent_peers`: all but this node.
pub(super) fn peers(candidates: &[Candidate], own_id: &str) -> String {
    let others = candidates
        .iter()
        .map(|c| c.peer.as_str())
        .filter(|p| p.contains('@') && !p.starts_with(own_id));
    others.collect::<Vec<_>>().join(",")
}

pub(super) fn collect_gentxs(home: &Home, env: &Env, dir: Option<PathBuf>) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    require_not_begun(home, env)?;
    let dir = dir.unwrap_or_else(|| home.config("gentx"));
    let mut document = genesis::read(&home.genesis())?;
    let candidates = read_gentxs(&dir, chain_id(&document)?)?;
    gentx::collect(&mut document, &candidates).with_context(|| dir.display().to_string())?;
    write(home, &document)?;
    let own_id = load_node_id(&home.node_key())?;
    let peers = peers(&candidates, &own_id);
    settings_file::edit(&home.config("config.toml"), |file| {
        file.set("p2p.persistent_peers", peers.as_str())
    })?;
    let validators: Vec<Value> = candidates
        .iter()
        .map(|c| json!({ "moniker": c.moniker, "power": c.power.to_string() }))
        .collect();
    out(json!({
        "chain_id": chain_id(&document)?,
        "node_id": own_id,
        "gentxs_dir": dir,
        "validators": validators,
        "persistent_peers": peers,
    }));
    Ok(())
}

//! `tenured init`: a home, or a new genesis in an old one.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{json, Value};
use tenure_client::keys::parse_mnemonic;
use tenure_solo::{load_node_id, ValidatorKey};
use zeroize::Zeroizing;

use super::keys::words_of_input;
use super::operate::require_not_begun;
use super::{out, time};
use crate::application::{app_state, Profile};
use crate::client_config::Output;
use crate::config::{AppConfig, Env};
use crate::genesis::{self, NewGenesis};
use crate::home::Home;
use crate::init::{init, Made, NewHome};
use crate::{files, settings_file};

#[derive(Args)]
#[command(after_help = "\
The genesis has this node as its only validator, so that `tenured start` works at once; `tenured genesis collect-gentxs` puts others in its place.

Examples:
  tenured init me --chain-id tenure-local-1
  tenured init me --chain-id tenure-local-2 --overwrite     a new genesis, keys and settings kept
  tenured init me --chain-id tenure-1 --recover < words.txt  the key that signs blocks from its words, as other Cosmos chains make it")]
pub(super) struct InitArgs {
    /// A name for this node
    moniker: String,
    /// The chain's id, for example tenure-local-1
    #[arg(long)]
    chain_id: String,
    /// Write a new genesis into a home that is there; keys and settings stay
    #[arg(short, long)]
    overwrite: bool,
    /// Make the key that signs blocks from a mnemonic, read from the terminal or standard input; the node's own key is new
    #[arg(long, conflicts_with = "overwrite")]
    recover: bool,
    /// Parameters with short times, for demonstrations and tests
    #[arg(long)]
    fast: bool,
    /// An account with money from the beginning; may be repeated
    #[arg(long = "account", value_name = "ADDRESS=COINS")]
    accounts: Vec<String>,
    /// Time of the first block, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    genesis_time: Option<String>,
    /// What is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(home: &Home, env: &Env, args: InitArgs) -> Result<()> {
    let genesis_time = time(args.genesis_time.as_deref())?;
    let accounts = args
        .accounts
        .iter()
        .map(|text| genesis::parse_account(text))
        .collect::<Result<Vec<_>>>()?;
    let validator_words = args.recover.then(validator_words).transpose()?;
    let recovered = validator_words.is_some();
    let funded = !accounts.is_empty();
    let (moniker, chain_id, output) = (args.moniker.clone(), args.chain_id.clone(), args.output);
    let new = NewHome {
        moniker: args.moniker,
        chain_id: args.chain_id,
        genesis_time,
        profile: if args.fast { Profile::Fast } else { Profile::Normal },
        accounts,
        faucet: None,
        config: AppConfig::default(),
        validator_words,
    };
    let made = if args.overwrite && home.is_initialised() {
        overwrite(home, env, &new)?
    } else {
        init(home, new)?
    };
    let root = home.root().display();
    if recovered {
        eprintln!(
            "warning: a key that has signed blocks elsewhere must never run in two places. If it has, stop it there and copy its \
             priv_validator_state.json to {}: the new one does not know what was signed",
            home.validator_state().display()
        );
    }
    if output == Output::Json {
        out(json!({
            "moniker": moniker, "chain_id": chain_id, "node_id": made.node_id, "validator": made.validator,
            "gentxs_dir": home.config("gentx"), "home": home.root(),
        }));
        return Ok(());
    }
    out(format!(
        "Made {root} for chain {chain_id}: node id {}, validator {}.",
        made.node_id, made.validator
    ));
    if !funded {
        out(format!(
            "Next: give somebody money with `tenured genesis add-genesis-account <address> 1000ten --home {root}`,"
        ));
        out(format!("then run the node with `tenured start --home {root}`."));
    } else {
        out(format!("Next: run the node with `tenured start --home {root}`."));
    }
    Ok(())
}

/// The words of a validator's key, in the one form that gives the one key: lower case, one space between two of them.
fn validator_words() -> Result<Zeroizing<String>> {
    let words = words_of_input().context("the words of --recover")?;
    Ok(Zeroizing::new(parse_mnemonic(&words)?.to_string()))
}

/// A new genesis for a chain that has not begun.
fn overwrite(home: &Home, env: &Env, new: &NewHome) -> Result<Made> {
    let _lock = home.lock()?;
    require_not_begun(home, env)?;
    let key =
        ValidatorKey::load(&home.validator_key()).context("the key that signs blocks stays, and cannot be read")?;
    let mut document = genesis::document(NewGenesis {
        chain_id: &new.chain_id,
        time: new.genesis_time,
        app_state: app_state(new.profile)?,
    })?;
    for (address, coins) in &new.accounts {
        genesis::add_account(&mut document, address, coins)?;
    }
    document["validators"] = Value::Array(vec![genesis::validator(
        &key.public_key(),
        &new.moniker,
        genesis::POWER,
    )]);
    files::replace(&home.genesis(), &genesis::bytes(&document))?;
    settings_file::edit(&home.config("client.toml"), |file| {
        file.set("chain-id", new.chain_id.as_str())
    })?;
    settings_file::edit(&home.config("config.toml"), |file| {
        file.set("moniker", new.moniker.as_str())
    })?;
    Ok(Made {
        node_id: load_node_id(&home.node_key())?,
        validator: hex::encode_upper(key.address()),
        faucet: None,
    })
}

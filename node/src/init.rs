//! Making a home.

use std::path::PathBuf;

use anyhow::{bail, Result};
use serde_json::Value;
use tendermint::Time;
use tenure_solo::{create_node_key, create_validator_key, recover_validator_key};
use tenure_types::{Address, Coins};
use zeroize::Zeroizing;

use crate::account_key::AccountKey;
use crate::application::{self, Profile};
use crate::config::{AppConfig, CLIENT_TOML, CONFIG_TOML};
use crate::genesis::{self, NewGenesis};
use crate::home::{create_dir, create_file, Home};
use crate::settings_file::SettingsFile;

/// What a new home holds.
pub struct NewHome {
    /// The node's name.
    pub moniker: String,
    /// The chain.
    pub chain_id: String,
    /// Time of the first block.
    pub genesis_time: Time,
    /// Which parameters the chain begins with.
    pub profile: Profile,
    /// Accounts with money from the beginning.
    pub accounts: Vec<(Address, Coins)>,
    /// What a faucet has from the beginning; `None`: there is none.
    pub faucet: Option<Coins>,
    /// Settings that differ from the defaults.
    pub config: AppConfig,
    /// Words that the validator's key is made of; `None`: a random key.
    pub validator_words: Option<Zeroizing<String>>,
}

/// What was made.
pub struct Made {
    /// The node's id.
    pub node_id: String,
    /// The validator's address, upper-case hex.
    pub validator: String,
    /// The faucet's account, if there is one.
    pub faucet: Option<Address>,
}

/// Makes a home. Refuses, before anything is written, if any of its files exists.
pub fn init(home: &Home, new: NewHome) -> Result<Made> {
    let faucet_file = home.resolve(&new.config.faucet.key_file);
    let mut files: Vec<PathBuf> = ["app.toml", "config.toml", "client.toml"]
        .iter()
        .map(|name| home.config(name))
        .collect();
    files.extend([
        home.genesis(),
        home.node_key(),
        home.validator_key(),
        home.validator_state(),
    ]);
    if new.faucet.is_some() {
        files.push(faucet_file.clone());
    }
    if let Some(existing) = files.iter().find(|path| path.exists()) {
        bail!(
            "{} exists already; nothing was changed. Choose another home with --home, or move this one away first",
            existing.display()
        );
    }
    if new.moniker.is_empty() || new.moniker.len() > 70 || new.moniker.contains(['"', '\\', '\n']) {
        bail!(
            "moniker {:?} must have 1 to 70 bytes without quotes and backslashes",
            new.moniker
        );
    }
    let mut document = genesis::document(NewGenesis {
        chain_id: &new.chain_id,
        time: new.genesis_time,
        app_state: application::app_state(new.profile)?,
    })?;
    let faucet = new.faucet.as_ref().map(|coins| (AccountKey::random(), coins));
    if let Some((key, coins)) = &faucet {
        genesis::add_account(&mut document, &key.address(), coins)?;
    }
    for (address, coins) in &new.accounts {
        genesis::add_account(&mut document, address, coins)?;
    }

    // Nothing was written so far.
    create_dir(home.root())?;
    create_dir(&home.root().join("data"))?;
    let (key_file, state_file) = (home.validator_key(), home.validator_state());
    let key = match &new.validator_words {
        Some(words) => recover_validator_key(words.as_bytes(), &key_file, &state_file)?,
        None => create_validator_key(&key_file, &state_file)?,
    };
    let node_id = create_node_key(&home.node_key())?;
    document["validators"] = Value::Array(vec![genesis::validator(
        &key.public_key(),
        &new.moniker,
        genesis::POWER,
    )]);
    if let Some((key, _)) = &faucet {
        key.save(&faucet_file)?;
    }
    create_file(&home.config("app.toml"), new.config.to_toml()?.as_bytes(), 0o644)?;
    create_file(
        &home.config("config.toml"),
        config_toml(&new.moniker, new.profile)?.as_bytes(),
        0o644,
    )?;
    create_file(
        &home.config("client.toml"),
        CLIENT_TOML.replace("{chain_id}", &new.chain_id).as_bytes(),
        0o644,
    )?;
    // Last: a home with a genesis is a whole home.
    create_file(&home.genesis(), &genesis::bytes(&document), 0o644)?;
    Ok(Made {
        node_id,
        validator: hex::encode_upper(key.address()),
        faucet: faucet.map(|(key, _)| key.address()),
    })
}

/// CometBFT's settings of a new home.
fn config_toml(moniker: &str, profile: Profile) -> Result<String> {
    let mut file = SettingsFile::parse(&CONFIG_TOML.replace("{moniker}", moniker))?;
    if matches!(profile, Profile::Fast) {
        // Four blocks a second, as the solo engine makes with this profile.
        file.set("consensus.timeout_commit", "200ms")?;
        file.set("consensus.timeout_propose", "1s")?;
    }
    Ok(file.to_string())
}

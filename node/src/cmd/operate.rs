//! Commands that change a home. Each takes the home's lock first.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use tenure_types::Address;

use crate::application::Application;
use crate::config::{AppConfig, Env};
use crate::genesis;
use crate::home::Home;

/// The application of a chain that has begun.
fn open_begun(home: &Home, env: &Env) -> Result<Application> {
    let application = home.application_db().exists().then(|| open(home, env)).transpose()?;
    application.filter(|a| a.head().0 > 0).with_context(|| {
        format!(
            "this chain has no block yet. Begin it with `tenured start --home {}`",
            home.root().display()
        )
    })
}

/// What a key has signed when it has signed nothing.
const EMPTY_SIGN_STATE: &str = "{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}\n";

/// Replaces a file so that it is never half written.
fn replace(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary).with_context(|| format!("cannot create {}", temporary.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn add_genesis_account(home: &Home, env: &Env, address: &str, coins: &str) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    // A start that failed before its first block leaves an empty state.
    let begun = home.application_db().exists() && open(home, env)?.head().0 > 0;
    anyhow::ensure!(
        !begun,
        "this chain has begun: its genesis cannot change any more. `tenured comet unsafe-reset-all --home {}` begins it again",
        home.root().display()
    );
    let address: Address = address.parse()?;
    let coins = genesis::parse_coins(coins)?;
    let mut document = genesis::read(&home.genesis())?;
    genesis::add_account(&mut document, &address, &coins)?;
    let bytes = genesis::bytes(&document);
    genesis::validate(&bytes)?;
    replace(&home.genesis(), &bytes)?;
    println!("{address} begins with {coins}");
    Ok(())
}

pub(super) fn unsafe_reset_all(home: &Home) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    for entry in fs::read_dir(home.root().join("data")).context("cannot read the data directory")? {
        let path = entry?.path();
        if path == home.validator_state() {
            continue;
        }
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
        println!("removed {}", path.display());
    }
    // Last: until the blocks are gone the key must remember what it signed.
    replace(&home.validator_state(), EMPTY_SIGN_STATE.as_bytes())?;
    println!("reset {}", home.validator_state().display());
    println!(
        "The chain begins again at the next `tenured start`. Never do this to a validator of a network with others."
    );
    Ok(())
}

fn open(home: &Home, env: &Env) -> Result<Application> {
    Application::open(&home.application_db(), &AppConfig::load(home, env)?.store)
}

pub(super) fn rollback(home: &Home, env: &Env, blocks: u64) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    let application = open_begun(home, env)?;
    let (from, _) = application.head();
    let (height, app_hash) = application.rollback(blocks)?;
    println!(
        "The application's state is at height {height} again, app hash {}.",
        hex::encode_upper(app_hash)
    );
    if from > height {
        println!(
            "The engine still has its blocks: the next start replays {} to {from} on this state with the binary that is installed \
             then, and refuses if a result differs.",
            height + 1
        );
    }
    Ok(())
}

pub(super) fn export(home: &Home, env: &Env) -> Result<()> {
    home.require_initialised()?;
    let _lock = home.lock()?;
    let application = open_begun(home, env)?;
    let (height, _) = application.head();
    let mut document = genesis::read(&home.genesis())?;
    document["genesis_time"] = tendermint::Time::now().to_rfc3339().into();
    document["initial_height"] = (height + 1).to_string().into();
    document["app_hash"] = "".into();
    document["app_state"] = application.export()?;
    std::io::stdout()
        .write_all(&genesis::bytes(&document))
        .context("standard output")
}

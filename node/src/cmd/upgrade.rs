//! `tenured pre-upgrade`: what Cosmovisor runs with the new binary before it starts it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tenure_solo::{load_node_id, SignState, ValidatorKey};

use crate::application::Application;
use crate::client_config::ClientConfig;
use crate::config::{AppConfig, CometConfig, Env};
use crate::home::Home;

/// Cosmovisor gives the upgrade up.
const GIVE_UP: u8 = 30;
/// Cosmovisor tries again, `DAEMON_PREUPGRADE_MAX_RETRIES` times.
const TRY_AGAIN: u8 = 31;

/// Checks that this binary can take the home over: settings, keys, state. Nothing is changed.
pub(super) fn pre_upgrade(home: &Home, env: &Env) -> ExitCode {
    let fail = |code: u8, error: anyhow::Error| {
        eprintln!("Error: {error:#}");
        ExitCode::from(code)
    };
    if let Err(error) = home.require_initialised() {
        return fail(GIVE_UP, error);
    }
    // The old binary may still be stopping.
    let _lock = match home.lock() {
        Ok(lock) => lock,
        Err(error) => return fail(TRY_AGAIN, error),
    };
    match check(home, env) {
        Ok(height) => {
            println!("tenured {} can go on from height {height}", crate::version::VERSION);
            ExitCode::SUCCESS
        }
        Err(error) => fail(GIVE_UP, error),
    }
}

fn check(home: &Home, env: &Env) -> Result<u64> {
    let config = AppConfig::load(home, env)?;
    CometConfig::load(home, env)?;
    ClientConfig::load(home, env)?;
    load_node_id(&home.node_key())?;
    ValidatorKey::load(&home.validator_key())?;
    SignState::load(&home.validator_state())?;
    if !home.application_db().exists() {
        return Ok(0);
    }
    let application =
        Application::open(&home.application_db(), &config.store).context("this binary cannot read the state")?;
    Ok(application.head().0)
}

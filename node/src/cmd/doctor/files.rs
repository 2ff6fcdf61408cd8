//! Settings, keys and state in the home.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tenure_comet::binary::{BinaryError, CometBft};
use tenure_solo::{load_node_id, SignState, ValidatorKey};

use super::Findings;
use crate::application::Application;
use crate::client_config::ClientConfig;
use crate::config::{AppConfig, CometConfig, Env};
use crate::genesis as document;
use crate::home::Home;

/// How far what the key signed may be from the state without being worth a look.
const SIGN_SLACK: u64 = 2;

pub(super) fn settings(home: &Home, env: &Env, found: &mut Findings) {
    let results = [
        ("app.toml", AppConfig::load(home, env).map(|_| ())),
        ("config.toml", CometConfig::load(home, env).map(|_| ())),
        ("client.toml", ClientConfig::load(home, env).map(|_| ())),
    ];
    for (name, result) in results {
        match result {
            Ok(()) if home.config(name).exists() => found.ok("settings", format!("{name} is valid")),
            Ok(()) => found.warn(
                "settings",
                format!("there is no {name}: every key has its default"),
                "copy one of a new home: tenured init x --home /tmp/new",
            ),
            Err(error) => found.fail(
                "settings",
                format!("{error:#}"),
                format!(
                    "edit {}; `tenured config diff` shows what differs from a new home",
                    home.config(name).display()
                ),
            ),
        }
    }
}

pub(super) fn genesis(home: &Home, found: &mut Findings) {
    let path = home.genesis();
    let read = fs::read(&path).map_err(anyhow::Error::from);
    match read.and_then(|bytes| document::validate(&bytes)) {
        Ok(()) => found.ok("genesis", "genesis.json is valid"),
        Err(error) => found.fail(
            "genesis",
            format!("{}: {error:#}", path.display()),
            "fetch the network's genesis again and compare its SHA-256",
        ),
    }
}

/// Files that nobody else may read.
fn secrets(home: &Home) -> Vec<PathBuf> {
    let mut paths = vec![
        home.validator_key(),
        home.node_key(),
        home.config("faucet_key.json"),
        home.root().join("key_seed.json"),
    ];
    for ring in ["keyring-file", "keyring-test"] {
        let entries = fs::read_dir(home.root().join(ring)).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path()));
    }
    paths.retain(|path| path.exists());
    paths
}

pub(super) fn keys(home: &Home, found: &mut Findings) {
    match load_node_id(&home.node_key()) {
        Ok(id) => found.ok("keys", format!("node id {id}")),
        Err(error) => found.fail(
            "keys",
            error.to_string(),
            "restore config/node_key.json from a backup; a new node id means that peers must learn it again",
        ),
    }
    match ValidatorKey::load(&home.validator_key()) {
        Ok(key) => found.ok("keys", format!("validator {}", hex::encode_upper(key.address()))),
        Err(error) => found.fail(
            "keys",
            error.to_string(),
            "restore config/priv_validator_key.json from a backup",
        ),
    }
    for path in secrets(home) {
        let mode = fs::metadata(&path).map_or(0, |m| m.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            found.fail(
                "permissions",
                format!(
                    "{} has mode {mode:o}: others on this machine can read the key",
                    path.display()
                ),
                format!("chmod 600 {}", path.display()),
            );
        }
    }
    if !found.0.iter().any(|f| f.check == "permissions") {
        found.ok("permissions", "keys are readable by their owner only");
    }
}

/// CometBFT's program, which only its engine needs.
pub(super) fn comet(home: &Home, found: &mut Findings) {
    let needed = super::super::comet::is_comets(home);
    match CometBft::find(None) {
        Ok(program) => found.ok("cometbft", format!("{} is {}", program.path.display(), program.version)),
        Err(error @ BinaryError::Missing { .. }) if !needed => found.skip("cometbft", error.to_string()),
        Err(error) if needed => found.fail("cometbft", error.to_string(), "scripts/cometbft"),
        Err(error) => found.warn("cometbft", error.to_string(), "scripts/cometbft"),
    }
}

/// The state's height, where it can be known.
pub(super) fn state(home: &Home, config: &AppConfig, running: bool, found: &mut Findings) -> Option<u64> {
    let path = home.application_db();
    if running {
        found.skip("state", "the running node has the database open");
        return None;
    }
    if !path.exists() {
        found.ok("state", "the chain has not begun in this home");
        return Some(0);
    }
    match Application::open(&path, &config.store) {
        Ok(application) => {
            let (height, hash) = application.head();
            found.ok(
                "state",
                format!(
                    "the database opens at height {height}, app hash {}",
                    hex::encode_upper(hash)
                ),
            );
            Some(height)
        }
        Err(error) => {
            found.fail(
                "state",
                format!("{error:#}"),
                "restore data/ from a backup, or `tenured snapshots restore`, or sync again from peers",
            );
            None
        }
    }
}

/// The blocks of the solo engine, if it made any here.
pub(super) fn blocks(home: &Home, running: bool, found: &mut Findings) {
    if running {
        found.skip("blocks", "the running node has them open");
        return;
    }
    match tenure_solo::stored_blocks(&home.data("")) {
        Ok(None) => found.skip("blocks", "the solo engine has made none in this home"),
        Ok(Some((first, last))) => found.ok(
            "blocks",
            format!("the solo engine's blocks {first} to {last} can be read"),
        ),
        Err(error) => found.fail(
            "blocks",
            error.to_string(),
            "restore data/ from a backup, or `tenured export` and begin a new chain",
        ),
    }
}

/// The guard against signing a height twice.
pub(super) fn sign_state(home: &Home, height: Option<u64>, found: &mut Findings) {
    let path = home.validator_state();
    let signed = match SignState::load(&path) {
        Ok(state) => u64::try_from(state.height()).unwrap_or(0),
        Err(error) => {
            found.fail(
                "double-sign",
                error.to_string(),
                "do not start: find out what the key signed last (block explorer, other nodes) and write that height into the file",
            );
            return;
        }
    };
    let Some(height) = height else {
        found.ok("double-sign", format!("the key signed height {signed} last"));
        return;
    };
    let validates = validates(&home.genesis(), &home.validator_key());
    if validates && signed.saturating_add(SIGN_SLACK) < height {
        found.warn(
            "double-sign",
            format!("the key signed height {signed} last and the state is at {height}: the guard may be an old copy"),
            format!(
                "make sure that no other machine has this key; if {} came from a backup, raise its height to {height}",
                path.display()
            ),
        );
    } else if signed > height.saturating_add(SIGN_SLACK) {
        found.warn(
            "double-sign",
            format!("the key signed height {signed} and the state is at {height}: the state may be an old copy"),
            "let the node catch up from peers; it does not sign below that height",
        );
    } else {
        found.ok(
            "double-sign",
            format!("the key signed height {signed} last, the state is at {height}"),
        );
    }
}

fn validates(genesis: &Path, key: &Path) -> bool {
    let (Ok(document), Ok(key)) = (document::read(genesis), ValidatorKey::load(key)) else {
        return false;
    };
    let address = hex::encode_upper(key.address());
    document["validators"]
        .as_array()
        .is_some_and(|all| all.iter().any(|v| v["address"] == address.as_str()))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tendermint::Time;

    use super::super::Level;
    use super::*;
    use crate::application::Profile;
    use crate::init::{init, NewHome};

    fn home(dir: &Path) -> Result<Home> {
        let home = Home::new(dir.join("home"));
        let new = NewHome {
            moniker: "m".to_owned(),
            chain_id: "tenure-x-1".to_owned(),
            genesis_time: Time::now(),
            profile: Profile::Fast,
            accounts: Vec::new(),
            faucet: None,
            config: AppConfig::default(),
            validator_words: None,
        };
        init(&home, new)?;
        Ok(home)
    }

    fn worst(found: &Findings, check: &str) -> (Level, String) {
        let worst = found.0.iter().filter(|f| f.check == check).max_by_key(|f| f.status);
        worst.map_or((Level::Ok, String::new()), |f| {
            (
                f.status,
                format!("{} -> {}", f.detail, f.fix.clone().unwrap_or_default()),
            )
        })
    }

    #[test]
    fn a_new_home_is_well() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let home = home(dir.path())?;
        let mut found = Findings::default();
        settings(&home, &Env::new(), &mut found);
        genesis(&home, &mut found);
        keys(&home, &mut found);
        assert_eq!(state(&home, &AppConfig::default(), false, &mut found), Some(0));
        sign_state(&home, Some(0), &mut found);
        assert!(found.0.iter().all(|f| f.status == Level::Ok), "{:?}", found.0);
        Ok(())
    }

    #[test]
    fn whatever_is_broken_is_named_with_what_to_do() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let home = home(dir.path())?;
        fs::write(home.config("app.toml"), "[grpc]\nadress = 1\n")?;
        fs::write(home.genesis(), "{}")?;
        fs::set_permissions(home.validator_key(), fs::Permissions::from_mode(0o644))?;
        fs::write(home.node_key(), "{}")?;
        crate::home::create_dir(&home.application_db())?;
        fs::write(home.application_db().join("CURRENT"), "rubbish")?;
        let mut found = Findings::default();
        settings(&home, &Env::new(), &mut found);
        genesis(&home, &mut found);
        keys(&home, &mut found);
        assert_eq!(state(&home, &AppConfig::default(), false, &mut found), None);
        for (check, word) in [
            ("settings", "adress"),
            ("genesis", "genesis.json"),
            ("keys", "node_key.json"),
            ("permissions", "chmod 600"),
            ("state", "restore"),
        ] {
            let (level, text) = worst(&found, check);
            assert!(
                level == Level::Failed && text.contains(word),
                "{check}: {level:?} {text}"
            );
        }
        Ok(())
    }

    #[test]
    fn an_old_guard_and_a_lost_one_are_told_apart() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let home = home(dir.path())?;
        let look = |height: u64| {
            let mut found = Findings::default();
            sign_state(&home, Some(height), &mut found);
            worst(&found, "double-sign")
        };
        let signed = |height: u64| {
            fs::write(
                home.validator_state(),
                format!("{{\"height\":\"{height}\",\"round\":0,\"step\":3}}"),
            )
        };
        assert!(look(1).0 == Level::Ok);
        let (level, text) = look(100);
        assert!(
            level == Level::Warning && text.contains("old copy") && text.contains("100"),
            "{text}"
        );
        signed(500)?;
        let (level, text) = look(100);
        assert!(level == Level::Warning && text.contains("500"), "{text}");
        fs::write(home.validator_state(), "")?;
        let (level, text) = look(100);
        assert!(level == Level::Failed && text.contains("do not start"), "{text}");
        Ok(())
    }
}

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tenure_node::application::Profile;
use tenure_node::config::AppConfig;
use tenure_node::genesis;
use tenure_node::home::Home;
use tenure_node::init::{init, NewHome};

/// `testnet/` is what `tenured init` writes, keys excluded. `TENURE_BLESS=1` writes it anew.
#[test]
fn the_committed_files_are_what_init_writes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = Home::new(dir.path().join("home"));
    init(
        &home,
        NewHome {
            moniker: "validator-0".to_owned(),
            chain_id: "tenure-testnet-1".to_owned(),
            genesis_time: tendermint::Time::parse_from_rfc3339("2027-01-01T00:00:00Z")?,
            profile: Profile::Normal,
            accounts: Vec::new(),
            faucet: None,
            config: AppConfig::default(),
            validator_words: None,
        },
    )?;
    let mut document = genesis::read(&home.genesis())?;
    let validator = document["validators"][0].take();
    assert_eq!(
        (validator["name"].as_str(), validator["power"].as_str()),
        (Some("validator-0"), Some("10"))
    );
    document["validators"] = Value::Array(Vec::new());

    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testnet/config");
    let mut files = vec![("genesis.json", genesis::bytes(&document))];
    for name in ["app.toml", "config.toml", "client.toml"] {
        files.push((name, fs::read(home.config(name))?));
    }
    for (name, bytes) in files {
        let path = committed.join(name);
        if std::env::var_os("TENURE_BLESS").is_some() {
            fs::create_dir_all(&committed)?;
            fs::write(&path, &bytes)?;
        }
        let there = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        assert_eq!(
            there,
            String::from_utf8(bytes)?,
            "testnet/config/{name}: run this test with TENURE_BLESS=1 and look at the change"
        );
    }
    Ok(())
}

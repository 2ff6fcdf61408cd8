//! The genesis document: building, changing and checking it.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use tendermint::Time;
use tenure_solo::Genesis;
use tenure_types::{Address, Amount, Coin, Coins};

use crate::application;

/// Voting power of the validator that `tenured init` makes. Without others its size says nothing.
pub const POWER: u64 = 10;

/// What a new chain begins with.
pub struct NewGenesis<'a> {
    /// 1 to 50 bytes.
    pub chain_id: &'a str,
    /// Time of the first block; the engine waits for it.
    pub time: Time,
    /// The application's state.
    pub app_state: Value,
}

/// The document of a new chain, without validators. Error: the chain id breaks a rule.
pub fn document(new: NewGenesis<'_>) -> Result<Value> {
    let length = new.chain_id.len();
    ensure!(
        (1..=50).contains(&length),
        "chain id {:?} has {length} bytes, must have 1 to 50",
        new.chain_id
    );
    let odd = new
        .chain_id
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    if let Some(odd) = odd {
        bail!(
            "chain id {:?} contains {odd:?}; letters, digits, '-', '_' and '.' are allowed",
            new.chain_id
        );
    }
    Ok(json!({
        "genesis_time": new.time.to_rfc3339(),
        "chain_id": new.chain_id,
        "initial_height": "1",
        "consensus_params": {
            // The application limits blocks, so that it sees the whole mempool (docs/decisions.md).
            "block": { "max_bytes": "-1", "max_gas": "-1" },
            "evidence": { "max_age_num_blocks": "100000", "max_age_duration": "172800000000000", "max_bytes": "1048576" },
            "validator": { "pub_key_types": ["ed25519"] },
            // CometBFT takes it from here, not from Info, when it rolls back; blocks carry what Info says.
            "version": { "app": application::APP_VERSION.to_string() },
            "abci": { "vote_extensions_enable_height": "0" },
        },
        "validators": [],
        "app_hash": "",
        "app_state": new.app_state,
    }))
}

/// An entry of `validators`: an ed25519 key, a name and a voting power.
pub fn validator(public_key: &[u8; 32], name: &str, power: u64) -> Value {
    let digest = Sha256::digest(public_key);
    json!({
        "address": hex::encode_upper(&digest[..20]),
        "pub_key": { "type": "tendermint/PubKeyEd25519", "value": base64_text(public_key) },
        "power": power.to_string(),
        "name": name,
    })
}

/// What an account begins with in one denom. Error: its entry is malformed.
pub fn balance(document: &Value, address: &Address, denom: &str) -> Result<Amount> {
    let address = address.to_string();
    let balances = document.pointer("/app_state/bank/balances").and_then(Value::as_array);
    let entry = balances.and_then(|all| all.iter().find(|entry| entry["address"] == address.as_str()));
    let coin = entry
        .and_then(|entry| entry["coins"].as_array())
        .and_then(|coins| coins.iter().find(|coin| coin["denom"] == denom));
    match coin {
        None => Ok(Amount::ZERO),
        Some(coin) => {
            let amount = coin["amount"].as_str().unwrap_or_default();
            amount
                .parse()
                .with_context(|| format!("genesis: the balance of {address} is {amount:?}"))
        }
    }
}

fn base64_text(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A document as the bytes of a file.
pub fn bytes(document: &Value) -> Vec<u8> {
    format!("{document:#}\n").into_bytes()
}

/// Reads a document. Error: names the file.
pub fn read(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
}

/// Comma-separated coins, for example `5ten,100uten`. Several of one denom add up.
pub fn parse_coins(text: &str) -> Result<Coins> {
    let mut coins = Coins::default();
    for part in text.split(',') {
        let coin: Coin = part.parse().map_err(|e| anyhow::anyhow!("coin {part:?}: {e}"))?;
        ensure!(!coin.amount.is_zero(), "coin {part:?} must be above zero");
        coins.add(&coin)?;
    }
    Ok(coins)
}

/// `address=coins`, as `--account` takes it.
pub fn parse_account(text: &str) -> Result<(Address, Coins)> {
    let (address, coins) = text
        .split_once('=')
        .with_context(|| format!("{text:?} must be <address>=<coins>, for example tenure1…=100ten"))?;
    Ok((address.parse()?, parse_coins(coins)?))
}

/// Adds an account with coins to a document's `bank` section; supply follows from the balances. Error: the address has a balance already.
pub fn add_account(document: &mut Value, address: &Address, coins: &Coins) -> Result<()> {
    let bank = document
        .pointer_mut("/app_state/bank")
        .and_then(Value::as_object_mut)
        .context("the genesis has no app_state.bank; make a new one with `tenured init`")?;
    let text = address.to_string();
    let balances = list(bank, "balances")?;
    ensure!(
        !balances.iter().any(|entry| entry["address"] == text.as_str()),
        "{address} has a balance in this genesis already; edit app_state.bank.balances to change it"
    );
    let added: Vec<Value> = coins
        .iter()
        .map(|coin| json!({ "denom": coin.denom, "amount": coin.amount.to_string() }))
        .collect();
    balances.push(json!({ "address": text, "coins": added }));
    // A file that states its supply must go on being right.
    if bank
        .get("supply")
        .and_then(Value::as_array)
        .is_some_and(|supply| !supply.is_empty())
    {
        let mut total = coins.clone();
        for entry in list(bank, "supply")? {
            let amount: Amount = entry["amount"].as_str().unwrap_or_default().parse()?;
            total.add(&Coin::new(entry["denom"].as_str().unwrap_or_default(), amount)?)?;
        }
        let total = total
            .iter()
            .map(|c| json!({ "denom": c.denom, "amount": c.amount.to_string() }))
            .collect();
        bank.insert("supply".to_owned(), Value::Array(total));
    }
    Ok(())
}

fn list<'a>(section: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Vec<Value>> {
    section
        .entry(name)
        .or_insert_with(|| Value::Array(Vec::new()))
        .as_array_mut()
        .with_context(|| format!("genesis: bank.{name} must be a list"))
}

/// Checks a document as a start would: the engine's rules, then the application's on an empty store in memory.
pub fn validate(bytes: &[u8]) -> Result<()> {
    let genesis = Genesis::from_json(bytes)?;
    application::check_genesis(&genesis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Value {
        json!({ "app_state": { "bank": { "balances": [] } } })
    }

    #[test]
    fn an_account_is_added_once() -> Result<()> {
        let mut document = empty();
        let address = Address::new([3; 20]);
        add_account(&mut document, &address, &parse_coins("2ten,5abc,1uten")?)?;
        let entry = &document["app_state"]["bank"]["balances"][0];
        assert_eq!(entry["address"], address.to_string());
        assert_eq!(
            entry["coins"],
            json!([{"denom":"abc","amount":"5"},{"denom":"uten","amount":"2000001"}])
        );
        let error = add_account(&mut document, &address, &parse_coins("1uten")?).expect_err("twice");
        assert!(error.to_string().contains("already"), "{error}");
        Ok(())
    }

    #[test]
    fn a_stated_supply_stays_right() -> Result<()> {
        let mut document = empty();
        document["app_state"]["bank"]["supply"] = json!([{"denom":"uten","amount":"7"}]);
        add_account(&mut document, &Address::new([3; 20]), &parse_coins("3uten")?)?;
        assert_eq!(
            document["app_state"]["bank"]["supply"],
            json!([{"denom":"uten","amount":"10"}])
        );
        Ok(())
    }

    #[test]
    fn accounts_and_coins_that_make_no_sense_are_named() {
        for (text, word) in [
            ("tenure1abc", "=<coins>"),
            ("cosmos1xyz=1ten", "cosmos1xyz"),
            (&format!("{}=0uten", Address::new([1; 20])), "0uten"),
            (&format!("{}=ten", Address::new([1; 20])), "ten"),
        ] {
            let error = format!("{:#}", parse_account(text).expect_err(text));
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn chain_ids_have_limits() {
        for bad in ["", "a b", "x/y", &"x".repeat(51)] {
            let new = NewGenesis {
                chain_id: bad,
                time: Time::now(),
                app_state: json!({}),
            };
            assert!(document(new).is_err(), "{bad:?}");
        }
    }
}

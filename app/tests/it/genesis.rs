//! Genesis: the stored fixture, its errors, and export.

use serde_json::{json, Value};
use tenure_app::genesis::{self, Profile};
use tenure_types::Coin;

use crate::{
    chain::{Chain, CHAIN_ID, GENESIS_MS},
    world::{Person, World},
};

/// A genesis that was written once. That it still starts, with the same app hash (see `golden`), is the promise to every chain that was
/// started with it.
pub(crate) fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/genesis.json")).unwrap()
}

#[test]
fn the_stored_genesis_is_the_default_of_today() {
    let balances: Vec<_> = (0..6)
        .map(|i| (Person::new(i).address, Coin::base(1_000_000_000_000)))
        .collect();
    let state = genesis::default_app_state(Profile::Fast, &balances).unwrap();
    if std::env::var_os("UPDATE_GENESIS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/genesis.json");
        std::fs::write(path, serde_json::to_string_pretty(&state).unwrap() + "\n").unwrap();
        return;
    }
    assert_eq!(
        state,
        fixture(),
        "run with UPDATE_GENESIS=1 if the change is meant, and say in the commit which chains it breaks"
    );
}

#[test]
fn both_profiles_are_valid() {
    for profile in [Profile::Fast, Profile::Normal] {
        let state = genesis::default_app_state(profile, &[(Person::new(0).address, Coin::base(5))]).unwrap();
        genesis::validate(CHAIN_ID, GENESIS_MS, &state).unwrap();
    }
}

#[test]
fn a_mistake_is_named_with_field_and_value() {
    type Spoil<'a> = &'a dyn Fn(&mut Value);
    let refused = |spoil: Spoil<'_>| {
        let mut state = fixture();
        spoil(&mut state);
        genesis::validate(CHAIN_ID, GENESIS_MS, &state).unwrap_err().message
    };
    let cases: [(&str, Spoil<'_>); 6] = [
        ("app_state.chain: chain.params.max_block_gas is 5", &|s| {
            s["chain"]["params"]["max_block_gas"] = json!("5")
        }),
        ("app_state.staking: there is no module of this name", &|s| {
            s["staking"] = json!({})
        }),
        ("app_state.bank: bank.balances[0].coins", &|s| {
            s["bank"]["balances"][0]["coins"][0]["amount"] = json!("-1")
        }),
        ("app_state.bank: bank.supply is 1uten", &|s| {
            s["bank"]["supply"] = json!([{"denom": "uten", "amount": "1"}])
        }),
        ("app_state.auth: auth.params.tx_sig_limit is 0", &|s| {
            s["auth"]["params"]["tx_sig_limit"] = json!("0")
        }),
        ("\"params\" is missing", &|s| s["chain"] = json!({})),
    ];
    for (text, spoil) in cases {
        let message = refused(spoil);
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    let message = genesis::validate("", GENESIS_MS, &fixture()).unwrap_err().message;
    assert!(message.contains("chain_id"), "{message}");
}

#[test]
fn an_exported_state_starts_a_chain_with_the_same_records() {
    let mut world = World::new(3);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    for _ in 0..20 {
        let txs = world.block(&chain);
        chain.block(1_000, &txs);
    }
    let exported = chain.app.export_genesis().unwrap();
    genesis::validate(CHAIN_ID, chain.time_ms, &exported).unwrap();
    // A second export, made of the state that the first one gives, says the same.
    let again = Chain::new(&exported);
    let first = again.finalize(chain.time_ms - GENESIS_MS + 1_000, &[]);
    assert!(!first.app_hash.is_empty());
    let mut again = again;
    again.block(chain.time_ms - GENESIS_MS + 1_000, &[]);
    let mut second = again.app.export_genesis().unwrap();
    second["chain"]["clock"] = exported["chain"]["clock"].clone();
    assert_eq!(second, exported);
}

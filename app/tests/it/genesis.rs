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
        // At every height, whatever is open then.
        let exported = chain.app.export_genesis().unwrap();
        genesis::validate(CHAIN_ID, chain.time_ms + 1, &exported).unwrap();
    }
    let exported = chain.app.export_genesis().unwrap();
    // A second export, made of the state that the first one gives, says the same.
    let mut again = Chain::new(&exported);
    (again.height, again.time_ms) = (chain.height, chain.time_ms);
    again.block(1, &[]);
    let mut second = again.app.export_genesis().unwrap();
    assert_eq!(second["chain"]["clock"]["height"], (chain.height + 1).to_string());
    second["chain"]["clock"] = exported["chain"]["clock"].clone();
    assert_eq!(second, exported);
}

#[test]
fn records_of_defaults_are_not_stored_empty() {
    let mut state = fixture();
    state["bank"]["params"]["default_send_enabled"] = json!(false);
    let mut chain = Chain::new(&state);
    chain.block(1_000, &[]);
    for store in tenure_app::stores() {
        for record in chain.app.store().latest().range(store, &[], None, false) {
            let (key, value) = record.unwrap();
            assert!(!value.is_empty(), "{store}/{}", hex::encode(key));
        }
    }
    assert_eq!(
        chain.app.export_genesis().unwrap()["bank"]["params"],
        state["bank"]["params"]
    );
}

#[test]
fn a_genesis_cannot_set_a_counter_so_high_that_it_runs_out() {
    let mut state = fixture();
    state["market"]["counters"] = json!({ "last_bid_id": u64::MAX.to_string(), "last_lease_id": "0" });
    let message = genesis::validate(CHAIN_ID, GENESIS_MS, &state).unwrap_err().message;
    assert!(message.contains("counters are 18446744073709551615 and 0"), "{message}");
    for field in ["account_number", "sequence"] {
        let mut state = fixture();
        let mut account = json!({ "address": Person::new(0).address.to_string() });
        account[field] = (u64::MAX - 1).to_string().into();
        state["auth"]["accounts"] = json!([account]);
        let message = genesis::validate(CHAIN_ID, GENESIS_MS, &state).unwrap_err().message;
        assert!(
            message.contains(&format!("{field} is 18446744073709551614")),
            "{message}"
        );
    }
}

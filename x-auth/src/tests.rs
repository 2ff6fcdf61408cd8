//! Tests of the module as others see it.

use prost::Message;
use serde_json::json;
use tenure_proto::cosmos::auth::v1beta1::{
    BaseAccount, ModuleAccount, QueryAccountRequest, QueryAccountResponse, QueryAccountsResponse,
    QueryModuleAccountByNameRequest, QueryModuleAccountByNameResponse,
};
use tenure_sdk::{testing, Ctx, Error, Module, Result};
use tenure_types::{sdk, Address};

use super::{state::ensure_account, *};

const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

fn key() -> [u8; 33] {
    hex::decode(KEY).unwrap().try_into().unwrap()
}

fn ctx() -> Ctx {
    testing::chain(&[&AuthModule], &json!({})).unwrap()
}

fn query<R: Message + Default>(ctx: &mut Ctx, method: &str, request: &impl Message) -> Result<R> {
    let path = format!("/cosmos.auth.v1beta1.Query/{method}");
    let route = AuthModule.queries().into_iter().find(|r| r.path == path).unwrap();
    (route.answer)(ctx, &request.encode_to_vec()).map(|bytes| R::decode(bytes.as_slice()).unwrap())
}

#[test]
fn accounts_get_the_next_number_once() -> Result<()> {
    let mut ctx = ctx();
    let (a, b) = (Address::new([1; 20]), Address::new([2; 20]));
    assert_eq!(account(&mut ctx, &a)?, None);
    let first = ensure_account(&mut ctx, &a)?.account_number;
    assert_eq!(ensure_account(&mut ctx, &b)?.account_number, first + 1);
    assert_eq!(ensure_account(&mut ctx, &a)?.account_number, first);
    AuthModule.invariants(&mut ctx)
}

#[test]
fn a_sequence_is_taken_once_and_the_text_is_the_one_wallets_parse() -> Result<()> {
    let mut ctx = ctx();
    let a = Address::new([1; 20]);
    let mut found = ensure_account(&mut ctx, &a)?;
    take_sequence(&mut found, 0)?;
    save(&mut ctx, &a, &found)?;
    let mut found = account(&mut ctx, &a)?.unwrap();
    let error = take_sequence(&mut found, 0).unwrap_err();
    let text = "account sequence mismatch, expected 1, got 0: incorrect account sequence";
    assert_eq!(error, Error::sdk(sdk::WRONG_SEQUENCE, text));
    Ok(())
}

#[test]
fn only_an_accounts_own_key_is_stored() -> Result<()> {
    let mut ctx = ctx();
    let (own, other) = (Address::of_secp256k1(&key()), Address::new([2; 20]));
    ensure_account(&mut ctx, &own)?;
    ensure_account(&mut ctx, &other)?;
    assert_eq!(
        set_pub_key(&mut ctx, &other, &key()).map_err(|e| e.code),
        Err(sdk::INVALID_PUBKEY)
    );
    set_pub_key(&mut ctx, &own, &key())?;
    assert_eq!(pub_key_of(&account(&mut ctx, &own)?.unwrap())?, Some(key()));
    AuthModule.invariants(&mut ctx)
}

#[test]
fn a_missing_account_is_said_so_in_the_words_clients_know() {
    let mut ctx = ctx();
    let address = Address::new([9; 20]).to_string();
    let request = QueryAccountRequest {
        address: address.clone(),
    };
    let error = query::<QueryAccountResponse>(&mut ctx, "Account", &request).unwrap_err();
    assert_eq!(
        error,
        Error::sdk(sdk::NOT_FOUND, format!("account {address} not found: key not found"))
    );
}

#[test]
fn modules_accounts_are_shown_as_such() -> Result<()> {
    let mut ctx = ctx();
    let address = ensure_module_account(&mut ctx, "escrow")?;
    assert!(is_module_account(&mut ctx, &address)?);
    let request = QueryModuleAccountByNameRequest { name: "escrow".into() };
    let by_name: QueryModuleAccountByNameResponse = query(&mut ctx, "ModuleAccountByName", &request)?;
    let request = QueryAccountRequest {
        address: address.to_string(),
    };
    let by_address: QueryAccountResponse = query(&mut ctx, "Account", &request)?;
    assert_eq!(by_name.account, by_address.account);
    let any = by_name.account.unwrap();
    assert_eq!(any.type_url, "/cosmos.auth.v1beta1.ModuleAccount");
    let shown = ModuleAccount::decode(any.value.as_slice()).unwrap();
    assert_eq!(
        (shown.name.as_str(), shown.base_account.unwrap().address),
        ("escrow", address.to_string())
    );
    let all: QueryAccountsResponse = query(&mut ctx, "Accounts", &())?;
    assert_eq!(all.accounts.len(), 2, "escrow and the fee collector");
    let request = QueryModuleAccountByNameRequest { name: "nobody".into() };
    let missing = query::<QueryModuleAccountByNameResponse>(&mut ctx, "ModuleAccountByName", &request);
    assert_eq!(missing.map_err(|e| e.code), Err(sdk::NOT_FOUND));
    Ok(())
}

#[test]
fn an_exported_state_gives_the_same_records() -> Result<()> {
    let mut first = ctx();
    let own = Address::of_secp256k1(&key());
    ensure_account(&mut first, &own)?;
    set_pub_key(&mut first, &own, &key())?;
    let mut account = account(&mut first, &own)?.unwrap();
    take_sequence(&mut account, 0)?;
    save(&mut first, &own, &account)?;
    ensure_module_account(&mut first, "escrow")?;
    let exported = AuthModule.export_genesis(&mut first)?;
    let mut second = testing::chain(&[&AuthModule], &json!({ "auth": exported }))?;
    let records = |ctx: &mut Ctx| ctx.range(NAME, b"\0", None, false, usize::MAX);
    assert_eq!(records(&mut first)?, records(&mut second)?);
    Ok(())
}

#[test]
fn a_malformed_genesis_is_refused_with_its_field() {
    let refused = |section: Value| {
        testing::chain(&[&AuthModule], &json!({ "auth": section }))
            .err()
            .map(|e| e.message)
            .unwrap_or_default()
    };
    let a = Address::new([1; 20]).to_string();
    let account = |number: u64| {
        tenure_sdk::json::to_json(&BaseAccount {
            address: a.clone(),
            account_number: number,
            ..Default::default()
        })
        .unwrap()
    };
    let text = refused(json!({ "accounts": [account(0), account(1)] }));
    assert!(text.contains("auth.accounts[1].address"), "{text}");
    let text = refused(json!({ "accounts": [{ "address": "tenure1x" }] }));
    assert!(text.contains("auth.accounts[0]"), "{text}");
    let mut params = tenure_sdk::json::to_json(&default_params()).unwrap();
    params["tx_sig_limit"] = json!("0");
    let text = refused(json!({ "params": params }));
    assert!(text.contains("auth.params.tx_sig_limit is 0"), "{text}");
    let mut keyed = account(0);
    keyed["pub_key"] = tenure_sdk::json::to_json(&BaseAccount {
        pub_key: Some(tenure_proto::any(&tenure_proto::cosmos::crypto::secp256k1::PubKey {
            key: key().to_vec(),
        })),
        ..Default::default()
    })
    .unwrap()["pub_key"]
        .clone();
    let text = refused(json!({ "accounts": [keyed] }));
    assert!(
        text.contains("auth.accounts[0]") && text.contains("public key"),
        "{text}"
    );
}

#[test]
fn broken_account_numbers_are_noticed() -> Result<()> {
    let broken = |spoil: fn(&mut BaseAccount)| -> Result<()> {
        let mut ctx = ctx();
        let address = Address::new([1; 20]);
        let mut account = ensure_account(&mut ctx, &address)?;
        AuthModule.invariants(&mut ctx)?;
        spoil(&mut account);
        save(&mut ctx, &address, &account)?;
        let noticed = AuthModule.invariants(&mut ctx);
        assert!(noticed.as_ref().is_err_and(Error::is_internal), "{noticed:?}");
        Ok(())
    };
    broken(|account| account.account_number = 0)?;
    broken(|account| account.account_number = 2)?;
    broken(|account| account.address = Address::new([2; 20]).to_string())
}

//! Tests of the module as others see it, and what its messages' tests share.

use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use tenure_proto::cosmos::{
    bank::v1beta1::{
        QueryAllBalancesRequest, QueryAllBalancesResponse, QueryBalanceRequest, QueryBalanceResponse,
        QueryDenomsMetadataResponse, QuerySupplyOfRequest, QuerySupplyOfResponse,
    },
    base::{query::v1beta1::PageRequest, v1beta1::Coin as ProtoCoin},
};
use tenure_sdk::{testing, Error};
use tenure_types::{sdk, Address, Amount, Coin, Coins};
use tenure_x_auth::AuthModule;

use super::*;

pub(crate) const ALICE: Address = Address::new([1; 20]);
pub(crate) const BOB: Address = Address::new([2; 20]);

pub(crate) fn ctx() -> Ctx {
    testing::chain(&[&AuthModule, &BankModule], &json!({})).unwrap()
}

pub(crate) fn proto_coins(parts: &[(&str, &str)]) -> Vec<ProtoCoin> {
    parts
        .iter()
        .map(|(denom, amount)| ProtoCoin {
            denom: (*denom).into(),
            amount: (*amount).into(),
        })
        .collect()
}

fn query<R: Message + Default>(ctx: &mut Ctx, method: &str, request: &impl Message) -> Result<R> {
    let path = format!("/cosmos.bank.v1beta1.Query/{method}");
    let route = BankModule.queries().into_iter().find(|r| r.path == path).unwrap();
    (route.answer)(ctx, &request.encode_to_vec()).map(|bytes| R::decode(bytes.as_slice()).unwrap())
}

#[test]
fn a_balance_that_is_not_there_is_answered_as_zero() -> Result<()> {
    let mut ctx = ctx();
    let request = QueryBalanceRequest {
        address: ALICE.to_string(),
        denom: "uten".into(),
    };
    let answer: QueryBalanceResponse = query(&mut ctx, "Balance", &request)?;
    assert_eq!(
        answer.balance,
        Some(ProtoCoin {
            denom: "uten".into(),
            amount: "0".into()
        })
    );
    let request = QuerySupplyOfRequest { denom: "uten".into() };
    let answer: QuerySupplyOfResponse = query(&mut ctx, "SupplyOf", &request)?;
    assert_eq!(
        answer.amount,
        Some(ProtoCoin {
            denom: "uten".into(),
            amount: "0".into()
        })
    );
    Ok(())
}

#[test]
fn all_balances_come_in_pages_in_order_of_denom() -> Result<()> {
    let mut ctx = ctx();
    mint(
        &mut ctx,
        &ALICE,
        &Coins::from_parts([("aaa", "1"), ("bbb", "2"), ("uten", "3")])?,
    )?;
    mint(&mut ctx, &BOB, &Coins::from_parts([("bbb", "9")])?)?;
    let mut request = QueryAllBalancesRequest {
        address: ALICE.to_string(),
        pagination: Some(PageRequest {
            limit: 2,
            ..Default::default()
        }),
        ..Default::default()
    };
    let first: QueryAllBalancesResponse = query(&mut ctx, "AllBalances", &request)?;
    assert_eq!(first.balances, proto_coins(&[("aaa", "1"), ("bbb", "2")]));
    request.pagination = Some(PageRequest {
        key: first.pagination.unwrap().next_key,
        ..Default::default()
    });
    let second: QueryAllBalancesResponse = query(&mut ctx, "AllBalances", &request)?;
    assert_eq!(second.balances, proto_coins(&[("uten", "3")]));
    Ok(())
}

#[test]
fn genesis_round_trips_and_shows_metadata() -> Result<()> {
    let metadata = json!({
        "description": "", "base": "uten", "display": "ten", "name": "Tenure", "symbol": "TEN", "uri": "", "uri_hash": "",
        "denom_units": [{"denom": "uten", "exponent": 0, "aliases": []}, {"denom": "ten", "exponent": 6, "aliases": []}],
    });
    let section = json!({
        "balances": [
            {"address": ALICE.to_string(), "coins": [{"denom": "abc", "amount": "7"}, {"denom": "uten", "amount": "5"}]},
            {"address": BOB.to_string(), "coins": [{"denom": "uten", "amount": "6"}]},
        ],
        "supply": [{"denom": "abc", "amount": "7"}, {"denom": "uten", "amount": "11"}],
        "denom_metadata": [metadata],
    });
    let mut first = testing::chain(&[&AuthModule, &BankModule], &json!({ "bank": section }))?;
    assert_eq!(supply(&mut first, "uten")?, Amount::new(11));
    let sections = json!({
        "auth": AuthModule.export_genesis(&mut first)?,
        "bank": BankModule.export_genesis(&mut first)?,
    });
    assert_eq!(sections["bank"]["balances"], section["balances"]);
    let mut second = testing::chain(&[&AuthModule, &BankModule], &sections)?;
    let records = |ctx: &mut Ctx| ctx.range(NAME, b"\0", None, false, usize::MAX);
    assert_eq!(records(&mut first)?, records(&mut second)?);
    let answer: QueryDenomsMetadataResponse = query(&mut second, "DenomsMetadata", &())?;
    assert_eq!(answer.metadatas[0].symbol, "TEN");
    BankModule.invariants(&mut second)
}

#[test]
fn a_malformed_genesis_is_refused_with_its_field() {
    let refused = |section: Value| -> Error {
        testing::chain(&[&AuthModule, &BankModule], &json!({ "bank": section }))
            .map(|_| ())
            .unwrap_err()
    };
    let coins = |amount: &str| json!([{"denom": "uten", "amount": amount}]);
    let entry = |amount: &str| json!({"address": ALICE.to_string(), "coins": coins(amount)});
    for (section, text) in [
        (
            json!({"balances": [entry("1"), entry("1")]}),
            "bank.balances[1].address",
        ),
        (json!({"balances": [entry("x")]}), "bank.balances[0].coins"),
        (
            json!({"balances": [{"address": "nobody", "coins": []}]}),
            "bank.balances[0]",
        ),
        (
            json!({"balances": [entry("1")], "supply": coins("2")}),
            "bank.supply is 2uten, the balances add up to 1uten",
        ),
        (
            json!({"denom_metadata": [{"base": "uten"}]}),
            "bank.denom_metadata[0]: base",
        ),
        (json!({"params": {"nonsense": 1}}), "nonsense"),
    ] {
        let error = refused(section);
        assert!(error.message.contains(text), "{error} should name {text}");
    }
}

#[test]
fn burning_takes_from_the_supply() -> Result<()> {
    let mut ctx = ctx();
    mint(&mut ctx, &ALICE, &Coins::from(Coin::base(5)))?;
    burn(&mut ctx, &ALICE, &Coins::from(Coin::base(5)))?;
    assert_eq!(supply(&mut ctx, "uten")?, Amount::ZERO);
    assert_eq!(
        burn(&mut ctx, &ALICE, &Coins::from(Coin::base(1))).map_err(|e| e.code),
        Err(sdk::INSUFFICIENT_FUNDS)
    );
    BankModule.invariants(&mut ctx)
}

#[test]
fn sending_everything_to_oneself_changes_nothing() -> Result<()> {
    let mut ctx = ctx();
    mint(&mut ctx, &ALICE, &Coins::from(Coin::base(5)))?;
    transfer(&mut ctx, &ALICE, &ALICE, &Coin::base(5))?;
    assert_eq!(balance(&mut ctx, &ALICE, "uten")?, Amount::new(5));
    let error = transfer(&mut ctx, &ALICE, &ALICE, &Coin::base(6)).unwrap_err();
    assert_eq!(error.code, sdk::INSUFFICIENT_FUNDS);
    BankModule.invariants(&mut ctx)
}

#[test]
fn a_broken_supply_is_noticed() -> Result<()> {
    let mut ctx = ctx();
    mint(&mut ctx, &ALICE, &Coins::from(Coin::base(5)))?;
    ctx.set(NAME, &keys::supply("uten"), 6_u128.to_be_bytes().to_vec())?;
    assert!(BankModule.invariants(&mut ctx).is_err_and(|e| e.is_internal()));
    ctx.set(NAME, &keys::supply("uten"), 5_u128.to_be_bytes().to_vec())?;
    BankModule.invariants(&mut ctx)?;
    ctx.set(NAME, &keys::balance(&BOB, "uten"), 0_u128.to_be_bytes().to_vec())?;
    assert!(BankModule
        .invariants(&mut ctx)
        .is_err_and(|e| e.message.contains("zero")));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn movements_keep_the_supply_and_take_back_what_fails(
        moves in proptest::collection::vec((0_u8..4, 0_u8..4, 0_u128..8, 0_u8..3, any::<bool>()), 1..60),
    ) {
        let mut ctx = ctx();
        let who = |i: u8| Address::new([i + 1; 20]);
        let mut model = std::collections::BTreeMap::<(u8, &str), u128>::new();
        for (from, to, amount, kind, other) in moves {
            let denom = if other { "abc" } else { "uten" };
            let coin = Coin::new(denom, Amount::new(amount)).unwrap();
            let has = model.get(&(from, denom)).copied().unwrap_or_default();
            let done = ctx.atomically(|ctx| match kind {
                0 => mint(ctx, &who(from), &Coins::from(coin.clone())),
                1 => burn(ctx, &who(from), &Coins::from(coin.clone())),
                _ => transfer(ctx, &who(from), &who(to), &coin),
            });
            prop_assert_eq!(done.is_ok(), kind == 0 || has >= amount);
            if done.is_ok() {
                if kind != 0 { *model.entry((from, denom)).or_default() -= amount; }
                let receiver = match kind { 0 => Some(from), 1 => None, _ => Some(to) };
                if let Some(receiver) = receiver { *model.entry((receiver, denom)).or_default() += amount; }
            }
            BankModule.invariants(&mut ctx).unwrap();
        }
        for ((i, denom), amount) in model {
            prop_assert_eq!(balance(&mut ctx, &who(i), denom).unwrap().get(), amount);
        }
    }
}

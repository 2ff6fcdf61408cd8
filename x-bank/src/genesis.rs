//! Genesis section `bank`, as Cosmos has it:
//! `{"params": Params, "balances": [{"address", "coins": [{"denom", "amount"}…]}…], "supply": [coin…], "denom_metadata": [Metadata…]}`.
//! An empty supply is computed; any other must be the sum of the balances.

use serde_json::{json, Value};
use tenure_proto::cosmos::{
    bank::v1beta1::{Metadata, Output, Params},
    base::v1beta1::Coin as ProtoCoin,
};
use tenure_sdk::{derived::prefix_end, json as proto_json, records, Ctx, Error, Result};
use tenure_types::{coin::check_denom, sdk, Address, Coins};

use crate::{invariants, keys, mint, queries::proto, state, NAME};

pub(crate) fn init(ctx: &mut Ctx, section: &Value) -> Result<()> {
    let params = match section.get("params") {
        Some(value) => proto_json::from_json(value).map_err(|e| e.context("bank.params"))?,
        None => Params {
            default_send_enabled: true,
        },
    };
    if params != Params::default() {
        ctx.save(NAME, keys::PARAMS, &params)?;
    }
    // An entry has exactly the fields of an Output, so it is read as one.
    let balances: Vec<Output> = proto_json::list(section, "balances")?;
    for (i, entry) in balances.iter().enumerate() {
        let place = format!("bank.balances[{i}]");
        let address: Address = entry.address.parse().map_err(|e| Error::from(e).context(&place))?;
        if !state::balances(ctx, &address)?.is_empty() {
            return Err(invalid(format!("{place}.address {address} is listed twice")));
        }
        let coins = coins_of(&entry.coins).map_err(|e| e.context(format!("{place}.coins")))?;
        mint(ctx, &address, &coins).map_err(|e| e.context(&place))?;
    }
    let listed: Vec<ProtoCoin> = proto_json::list(section, "supply")?;
    if !listed.is_empty() {
        let listed = coins_of(&listed).map_err(|e| e.context("bank.supply"))?;
        let found = invariants::supplies(ctx)?;
        if listed != found {
            return Err(invalid(format!(
                "bank.supply is {listed}, the balances add up to {found}"
            )));
        }
    }
    for (i, metadata) in proto_json::list::<Metadata>(section, "denom_metadata")?
        .iter()
        .enumerate()
    {
        let place = format!("bank.denom_metadata[{i}]");
        check_metadata(metadata).map_err(|e| e.context(place))?;
        ctx.save(NAME, &keys::metadata(&metadata.base), metadata)?;
    }
    Ok(())
}

pub(crate) fn export(ctx: &mut Ctx) -> Result<Value> {
    let params = proto_json::to_json(&state::params(ctx)?)?;
    let mut balances: Vec<Value> = Vec::new();
    let mut current: Option<(Address, Vec<Value>)> = None;
    for (address, coin) in invariants::all_balances(ctx)? {
        let coin = proto_json::to_json(&proto(&coin))?;
        match &mut current {
            Some((owner, coins)) if *owner == address => coins.push(coin),
            _ => balances.extend(current.replace((address, vec![coin])).map(entry)),
        }
    }
    balances.extend(current.map(entry));
    let coins = invariants::supplies(ctx)?;
    let supply = coins
        .iter()
        .map(|coin| proto_json::to_json(&proto(coin)))
        .collect::<Result<Vec<_>>>()?;
    let range = ctx.range(
        NAME,
        keys::METADATA,
        prefix_end(keys::METADATA).as_deref(),
        false,
        usize::MAX,
    )?;
    let metadata = range
        .iter()
        .map(|(key, value)| proto_json::to_json(&records::decode::<Metadata>(NAME, key, value)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "params": params, "balances": balances, "supply": supply, "denom_metadata": metadata }))
}

fn entry((address, coins): (Address, Vec<Value>)) -> Value {
    json!({ "address": address.to_string(), "coins": coins })
}

fn coins_of(coins: &[ProtoCoin]) -> Result<Coins> {
    Coins::from_parts(coins.iter().map(|c| (c.denom.as_str(), c.amount.as_str())))
}

/// The base unit is a denom, its own unit with exponent 0, and the display unit is one of the units.
fn check_metadata(metadata: &Metadata) -> Result<()> {
    check_denom(&metadata.base).map_err(|e| e.context("base"))?;
    let exponent_of = |denom: &str| {
        metadata
            .denom_units
            .iter()
            .find(|unit| unit.denom == denom)
            .map(|unit| unit.exponent)
    };
    match exponent_of(&metadata.base) {
        Some(0) => {}
        other => {
            return Err(invalid(format!(
                "base {:?} has the exponent {other:?} in denom_units, must be 0",
                metadata.base
            )))
        }
    }
    if exponent_of(&metadata.display).is_none() {
        return Err(invalid(format!(
            "display {:?} is not among denom_units",
            metadata.display
        )));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::sdk(sdk::INVALID_REQUEST, message)
}

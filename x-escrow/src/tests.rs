//! Tests of the module as its callers see it.

mod history;
mod rules;

use serde_json::json;
use tenure_sdk::{json as proto_json, testing, Ctx, Result};
use tenure_types::{Address, AttestedTime};
use tenure_x_auth::AuthModule;
use tenure_x_bank::{self as bank, BankModule};

use crate::{default_params, EscrowModule, Params};

pub(crate) const OWNER: Address = Address::new([1; 20]);
pub(crate) const FRIEND: Address = Address::new([2; 20]);
pub(crate) const STRANGER: Address = Address::new([3; 20]);
pub(crate) const PROVIDERS: [Address; 3] = [Address::new([11; 20]), Address::new([12; 20]), Address::new([13; 20])];
/// What each depositor begins with.
pub(crate) const WEALTH: u128 = 1 << 94;

/// A chain on which the depositors are rich, with these parameters.
pub(crate) fn chain(params: &Params) -> Result<Ctx> {
    let coins =
        json!([{"denom": "usd", "amount": WEALTH.to_string()}, {"denom": "uten", "amount": WEALTH.to_string()}]);
    let balances: Vec<_> = [OWNER, FRIEND, STRANGER]
        .iter()
        .map(|a| json!({"address": a.to_string(), "coins": coins}))
        .collect();
    let sections = json!({
        "bank": { "balances": balances },
        "escrow": { "params": proto_json::to_json(params)? },
    });
    testing::chain(&[&AuthModule, &BankModule, &EscrowModule], &sections)
}

/// Parameters with small limits.
pub(crate) fn small() -> Params {
    Params {
        min_deposit: "1".to_owned(),
        min_runway_ms: 1,
        ..default_params()
    }
}

/// All time before an instant attested.
pub(crate) fn all_attested(final_until_ms: u64) -> AttestedTime {
    AttestedTime {
        final_until_ms,
        gaps: Vec::new(),
    }
}

pub(crate) fn uten(ctx: &mut Ctx, who: &Address) -> u128 {
    bank::balance(ctx, who, "uten").unwrap().get()
}

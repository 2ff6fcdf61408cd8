//! Genesis section `escrow`: `{"params": Params, "accounts": [Account…], "payments": [Payment…]}`. Absent params are the defaults. The money must
//! be in the bank's balance of the module account.

use serde_json::{json, Value};
use tenure_proto::tenure::escrow::v1::{Account, Params, Payment};
use tenure_sdk::{json as proto_json, Ctx, Result};
use tenure_x_auth as auth;

use crate::{
    keys::{self, NAME},
    params::{check, default_params, params},
    state,
};

pub(crate) fn init(ctx: &mut Ctx, section: &Value) -> Result<()> {
    let params: Params = match section.get("params") {
        Some(value) => proto_json::from_json(value).map_err(|e| e.context("escrow.params"))?,
        None => default_params(),
    };
    check(&params)?;
    ctx.save(NAME, keys::PARAMS, &params)?;
    auth::ensure_module_account(ctx, NAME)?;
    auth::ensure_module_account(ctx, auth::FEE_COLLECTOR)?;
    for account in proto_json::list::<Account>(section, "accounts")? {
        state::save_account(ctx, &account)?;
    }
    for payment in proto_json::list::<Payment>(section, "payments")? {
        state::save_payment(ctx, &payment)?;
    }
    Ok(())
}

pub(crate) fn export(ctx: &mut Ctx) -> Result<Value> {
    let accounts = state::all_accounts(ctx)?
        .iter()
        .map(proto_json::to_json)
        .collect::<Result<Vec<_>>>()?;
    let payments = state::all_payments(ctx)?
        .iter()
        .map(proto_json::to_json)
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "params": proto_json::to_json(&params(ctx)?)?, "accounts": accounts, "payments": payments }))
}

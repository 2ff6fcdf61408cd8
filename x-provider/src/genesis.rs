//! Genesis section `provider`: `{"params": Params, "providers": [Provider…], "gaps": [Gap…]}`. Absent params are the defaults. The bonds must be
//! in the bank's balance of the module account.

use serde_json::{json, Value};
use tenure_proto::tenure::provider::v1::{Gap, Params, Provider};
use tenure_sdk::{json as proto_json, Ctx, Error, Result};
use tenure_types::{sdk, Address};
use tenure_x_auth as auth;

use crate::{
    keys::{self, NAME},
    params::{check, default_params, params},
    state,
};

pub(crate) fn init(ctx: &mut Ctx, section: &Value) -> Result<()> {
    let params: Params = match section.get("params") {
        Some(value) => proto_json::from_json(value).map_err(|e| e.context("provider.params"))?,
        None => default_params(),
    };
    check(&params)?;
    ctx.save(NAME, keys::PARAMS, &params)?;
    auth::ensure_module_account(ctx, NAME)?;
    for (i, provider) in proto_json::list::<Provider>(section, "providers")?.iter().enumerate() {
        let owner = owner(&provider.owner, || format!("provider.providers[{i}].owner"))?;
        if provider.epoch_ms == 0 {
            return Err(Error::sdk(
                sdk::INVALID_REQUEST,
                format!("provider.providers[{i}].epoch_ms is 0, must be above 0"),
            ));
        }
        state::save(ctx, &owner, provider)?;
    }
    for (i, gap) in proto_json::list::<Gap>(section, "gaps")?.iter().enumerate() {
        let owner = owner(&gap.provider, || format!("provider.gaps[{i}].provider"))?;
        ctx.save(NAME, &keys::gap(&owner, gap.start_ms), gap)?;
    }
    Ok(())
}

pub(crate) fn export(ctx: &mut Ctx) -> Result<Value> {
    let providers = state::all(ctx)?
        .iter()
        .map(proto_json::to_json)
        .collect::<Result<Vec<_>>>()?;
    let gaps = state::all_gaps(ctx)?
        .iter()
        .map(proto_json::to_json)
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({ "params": proto_json::to_json(&params(ctx)?)?, "providers": providers, "gaps": gaps }))
}

fn owner(text: &str, place: impl Fn() -> String) -> Result<Address> {
    text.parse().map_err(|e| Error::from(e).context(place()))
}

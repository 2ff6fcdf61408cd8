//! Genesis section `auth`: `{"params": Params, "accounts": [BaseAccount…], "module_accounts": [ModuleAccount…]}`, all in proto JSON.

use prost::{Message, Name};
use serde_json::{json, Value};
use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, ModuleAccount};
use tenure_sdk::{derived::prefix_end, json as proto_json, records, Ctx, Error, Result};
use tenure_types::{sdk, Address};

use crate::{default_params, invariants, keys, params, set_params, state, FEE_COLLECTOR, NAME};

/// Greatest account number and sequence of a genesis: no chain counts on from there to the end.
const MAX_NUMBER: u64 = u64::MAX / 2;

pub(crate) fn init(ctx: &mut Ctx, section: &Value) -> Result<()> {
    let rules = match section.get("params") {
        Some(value) => proto_json::from_json(value).map_err(|e| e.context("auth.params"))?,
        None => default_params(),
    };
    set_params(ctx, &rules)?;
    let accounts: Vec<BaseAccount> = proto_json::list(section, "accounts")?;
    let mut next = 0;
    for (i, account) in accounts.iter().enumerate() {
        let place = format!("auth.accounts[{i}]");
        let address: Address = account.address.parse().map_err(|e| Error::from(e).context(&place))?;
        if state::account(ctx, &address)?.is_some() {
            let message = format!("{place}.address {address} is listed twice");
            return Err(Error::sdk(sdk::INVALID_REQUEST, message));
        }
        for (field, value) in [
            ("account_number", account.account_number),
            ("sequence", account.sequence),
        ] {
            if value > MAX_NUMBER {
                let message = format!("{place}.{field} is {value}, must be at most {MAX_NUMBER}");
                return Err(Error::sdk(sdk::INVALID_REQUEST, message));
            }
        }
        invariants::check_account(&address, account).map_err(|e| invalid(&place, &e))?;
        state::save(ctx, &address, account)?;
        next = next.max(account.account_number.saturating_add(1));
    }
    state::set_next_number(ctx, next)?;
    let modules: Vec<ModuleAccount> = proto_json::list(section, "module_accounts")?;
    for (i, module) in modules.iter().enumerate() {
        if module.name.is_empty() {
            let message = format!("auth.module_accounts[{i}].name is empty");
            return Err(Error::sdk(sdk::INVALID_REQUEST, message));
        }
        crate::ensure_module_account(ctx, &module.name)?;
    }
    crate::ensure_module_account(ctx, FEE_COLLECTOR)?;
    invariants::check(ctx).map_err(|e| invalid("auth", &e))
}

pub(crate) fn export(ctx: &mut Ctx) -> Result<Value> {
    let rules = proto_json::to_json(&params(ctx)?)?;
    let accounts = all::<BaseAccount>(ctx, keys::ACCOUNTS)?;
    let modules = all::<ModuleAccount>(ctx, keys::MODULES)?;
    Ok(json!({ "params": rules, "accounts": accounts, "module_accounts": modules }))
}

/// In a genesis file a broken rule is the author's mistake, not the node's.
fn invalid(place: &str, error: &Error) -> Error {
    Error::sdk(sdk::INVALID_REQUEST, format!("{place}: {}", error.message))
}

fn all<M: Message + Default + Name>(ctx: &mut Ctx, prefix: &[u8]) -> Result<Vec<Value>> {
    let entries = ctx.range(NAME, prefix, prefix_end(prefix).as_deref(), false, usize::MAX)?;
    entries
        .iter()
        .map(|(key, value)| proto_json::to_json(&records::decode::<M>(NAME, key, value)?))
        .collect()
}

//! `cosmos.auth.v1beta1.Query`.

use prost::Message;
use tenure_proto::{
    any,
    cosmos::auth::v1beta1::{
        BaseAccount, ModuleAccount, QueryAccountRequest, QueryAccountResponse, QueryAccountsRequest,
        QueryAccountsResponse, QueryModuleAccountByNameRequest, QueryModuleAccountByNameResponse, QueryParamsRequest,
        QueryParamsResponse,
    },
    Any,
};
use tenure_sdk::{
    module::request,
    page::{page, Source},
    records, Ctx, Error, QueryRoute, Result,
};
use tenure_types::{sdk, Address};

use crate::{keys, module_address, params, state, NAME};

pub(crate) fn routes() -> Vec<QueryRoute> {
    vec![
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/Account",
            answer: account,
        },
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/Accounts",
            answer: accounts,
        },
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/ModuleAccountByName",
            answer: module_account_by_name,
        },
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/Params",
            answer: |ctx, bytes| {
                request::<QueryParamsRequest>(bytes)?;
                Ok(QueryParamsResponse {
                    params: Some(params(ctx)?),
                }
                .encode_to_vec())
            },
        },
    ]
}

fn account(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let address: Address = request::<QueryAccountRequest>(bytes)?.address.parse()?;
    // Clients take "NotFound" in the answer for "this account does not exist yet"; the app adds that word for this code.
    let found = state::account(ctx, &address)?
        .ok_or_else(|| Error::sdk(sdk::NOT_FOUND, format!("account {address} not found: key not found")))?;
    let account = Some(shown(ctx, &address, found)?);
    Ok(QueryAccountResponse { account }.encode_to_vec())
}

fn accounts(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryAccountsRequest = request(bytes)?;
    let (entries, pagination) = page(ctx, Source::Records(NAME, keys::ACCOUNTS), request.pagination.as_ref())?;
    let mut accounts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let found: BaseAccount = records::decode(NAME, &key, &value)?;
        let address: Address = found.address.parse()?;
        accounts.push(shown(ctx, &address, found)?);
    }
    Ok(QueryAccountsResponse {
        accounts,
        pagination: Some(pagination),
    }
    .encode_to_vec())
}

fn module_account_by_name(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let name = request::<QueryModuleAccountByNameRequest>(bytes)?.name;
    let address = module_address(&name);
    let not_found = || Error::sdk(sdk::NOT_FOUND, format!("account {name} not found: key not found"));
    if !crate::is_module_account(ctx, &address)? {
        return Err(not_found());
    }
    let found = state::account(ctx, &address)?.ok_or_else(not_found)?;
    let account = Some(shown(ctx, &address, found)?);
    Ok(QueryModuleAccountByNameResponse { account }.encode_to_vec())
}

/// An account as clients expect it: BaseAccount, or ModuleAccount around it.
fn shown(ctx: &mut Ctx, address: &Address, account: BaseAccount) -> Result<Any> {
    Ok(match ctx.load::<ModuleAccount>(NAME, &keys::module(address))? {
        Some(module) => any(&ModuleAccount {
            base_account: Some(account),
            ..module
        }),
        None => any(&account),
    })
}

//! `cosmos.auth.v1beta1.Query`.

use prost::Message;
use tenure_proto::{
    any,
    cosmos::auth::v1beta1::{
        BaseAccount, Bech32PrefixRequest, Bech32PrefixResponse, ModuleAccount, QueryAccountInfoRequest,
        QueryAccountInfoResponse, QueryAccountRequest, QueryAccountResponse, QueryAccountsRequest,
        QueryAccountsResponse, QueryModuleAccountByNameRequest, QueryModuleAccountByNameResponse,
        QueryModuleAccountsRequest, QueryModuleAccountsResponse, QueryParamsRequest, QueryParamsResponse,
    },
    cosmos::base::query::v1beta1::PageRequest,
    Any,
};
use tenure_sdk::{
    module::request,
    page::{page, Source},
    records, Ctx, Error, QueryRoute, Result,
};
use tenure_types::{address::ACCOUNT_PREFIX, sdk, Address};

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
            path: "/cosmos.auth.v1beta1.Query/AccountInfo",
            answer: account_info,
        },
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/Bech32Prefix",
            answer: |_, bytes| {
                request::<Bech32PrefixRequest>(bytes)?;
                Ok(Bech32PrefixResponse {
                    bech32_prefix: ACCOUNT_PREFIX.to_owned(),
                }
                .encode_to_vec())
            },
        },
        QueryRoute {
            path: "/cosmos.auth.v1beta1.Query/ModuleAccounts",
            answer: module_accounts,
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

/// Modules listed at most. They are in the program, so there are few.
const MOST_MODULES: u64 = 1_000;

/// An account. Error (not found): there is none yet.
fn existing(ctx: &mut Ctx, address: &Address) -> Result<BaseAccount> {
    // Clients take "NotFound" in the answer for "this account does not exist yet"; the app adds that word for this code.
    state::account(ctx, address)?
        .ok_or_else(|| Error::sdk(sdk::NOT_FOUND, format!("account {address} not found: key not found")))
}

fn account(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let address: Address = request::<QueryAccountRequest>(bytes)?.address.parse()?;
    let found = existing(ctx, &address)?;
    let account = Some(shown(ctx, &address, found)?);
    Ok(QueryAccountResponse { account }.encode_to_vec())
}

fn account_info(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let address: Address = request::<QueryAccountInfoRequest>(bytes)?.address.parse()?;
    let info = Some(existing(ctx, &address)?);
    Ok(QueryAccountInfoResponse { info }.encode_to_vec())
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

fn module_accounts(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    request::<QueryModuleAccountsRequest>(bytes)?;
    let everything = PageRequest {
        limit: MOST_MODULES,
        ..PageRequest::default()
    };
    let (entries, _) = page(ctx, Source::Records(NAME, keys::MODULES), Some(&everything))?;
    let mut modules = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let module: ModuleAccount = records::decode(NAME, &key, &value)?;
        let address = module_address(&module.name);
        let found = existing(ctx, &address)?;
        modules.push((module.name, shown(ctx, &address, found)?));
    }
    modules.sort_by(|(a, _), (b, _)| a.cmp(b));
    let accounts = modules.into_iter().map(|(_, account)| account).collect();
    Ok(QueryModuleAccountsResponse { accounts }.encode_to_vec())
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

//! `cosmos.bank.v1beta1.Query`.

use prost::Message;
use tenure_proto::cosmos::{
    bank::v1beta1::{
        Metadata, QueryAllBalancesRequest, QueryAllBalancesResponse, QueryBalanceRequest, QueryBalanceResponse,
        QueryDenomsMetadataRequest, QueryDenomsMetadataResponse, QueryParamsRequest, QueryParamsResponse,
        QuerySpendableBalancesRequest, QuerySpendableBalancesResponse, QuerySupplyOfRequest, QuerySupplyOfResponse,
        QueryTotalSupplyRequest, QueryTotalSupplyResponse,
    },
    base::{
        query::v1beta1::{PageRequest, PageResponse},
        v1beta1::Coin as ProtoCoin,
    },
};
use tenure_sdk::{
    module::request,
    page::{page, Source},
    records, Ctx, QueryRoute, Result,
};
use tenure_types::{Address, Amount, Coin};

use crate::{balance, keys, state, supply, NAME};

pub(crate) fn routes() -> Vec<QueryRoute> {
    let route = |path, answer| QueryRoute { path, answer };
    vec![
        route("/cosmos.bank.v1beta1.Query/Balance", one_balance),
        route("/cosmos.bank.v1beta1.Query/AllBalances", all_balances),
        route("/cosmos.bank.v1beta1.Query/SpendableBalances", spendable_balances),
        route("/cosmos.bank.v1beta1.Query/TotalSupply", total_supply),
        route("/cosmos.bank.v1beta1.Query/SupplyOf", supply_of),
        route("/cosmos.bank.v1beta1.Query/Params", params),
        route("/cosmos.bank.v1beta1.Query/DenomsMetadata", denoms_metadata),
    ]
}

fn one_balance(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryBalanceRequest = request(bytes)?;
    let address: Address = request.address.parse()?;
    let coin = Coin::new(&request.denom, Amount::ZERO)?;
    let balance = Some(proto(&Coin {
        amount: balance(ctx, &address, &coin.denom)?,
        ..coin
    }));
    Ok(QueryBalanceResponse { balance }.encode_to_vec())
}

fn all_balances(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryAllBalancesRequest = request(bytes)?;
    let (balances, pagination) = balances_page(ctx, &request.address, request.pagination.as_ref())?;
    Ok(QueryAllBalancesResponse { balances, pagination }.encode_to_vec())
}

fn spendable_balances(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QuerySpendableBalancesRequest = request(bytes)?;
    let (balances, pagination) = balances_page(ctx, &request.address, request.pagination.as_ref())?;
    Ok(QuerySpendableBalancesResponse { balances, pagination }.encode_to_vec())
}

fn total_supply(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryTotalSupplyRequest = request(bytes)?;
    let (supply, pagination) = coins_page(ctx, keys::SUPPLY, request.pagination.as_ref())?;
    Ok(QueryTotalSupplyResponse { supply, pagination }.encode_to_vec())
}

fn supply_of(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let coin = Coin::new(&request::<QuerySupplyOfRequest>(bytes)?.denom, Amount::ZERO)?;
    let amount = Some(proto(&Coin {
        amount: supply(ctx, &coin.denom)?,
        ..coin
    }));
    Ok(QuerySupplyOfResponse { amount }.encode_to_vec())
}

fn params(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    request::<QueryParamsRequest>(bytes)?;
    Ok(QueryParamsResponse {
        params: Some(state::params(ctx)?),
    }
    .encode_to_vec())
}

fn denoms_metadata(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryDenomsMetadataRequest = request(bytes)?;
    let (entries, pagination) = page(ctx, Source::Records(NAME, keys::METADATA), request.pagination.as_ref())?;
    let metadatas = entries
        .iter()
        .map(|(key, value)| records::decode::<Metadata>(NAME, key, value))
        .collect::<Result<_>>()?;
    Ok(QueryDenomsMetadataResponse {
        metadatas,
        pagination: Some(pagination),
    }
    .encode_to_vec())
}

type Page = (Vec<ProtoCoin>, Option<PageResponse>);

fn balances_page(ctx: &mut Ctx, address: &str, request: Option<&PageRequest>) -> Result<Page> {
    let address: Address = address.parse()?;
    coins_page(ctx, &keys::balances_of(&address), request)
}

/// A page of the amounts under a prefix whose keys end with the denom.
fn coins_page(ctx: &mut Ctx, prefix: &[u8], request: Option<&PageRequest>) -> Result<Page> {
    let (entries, pagination) = page(ctx, Source::Records(NAME, prefix), request)?;
    let coin = |(key, value): &(Vec<u8>, Vec<u8>)| state::coin_of(key, prefix.len(), value).map(|coin| proto(&coin));
    Ok((entries.iter().map(coin).collect::<Result<_>>()?, Some(pagination)))
}

/// A coin as messages carry it.
pub(crate) fn proto(coin: &Coin) -> ProtoCoin {
    ProtoCoin {
        denom: coin.denom.clone(),
        amount: coin.amount.to_string(),
    }
}

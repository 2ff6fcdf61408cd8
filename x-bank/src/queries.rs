//! `cosmos.bank.v1beta1.Query`.

use prost::Message;
use tenure_proto::cosmos::{
    bank::v1beta1::{
        Metadata, QueryAllBalancesRequest, QueryAllBalancesResponse, QueryBalanceRequest, QueryBalanceResponse,
        QueryDenomMetadataByQueryStringRequest, QueryDenomMetadataByQueryStringResponse, QueryDenomMetadataRequest,
        QueryDenomMetadataResponse, QueryDenomsMetadataRequest, QueryDenomsMetadataResponse, QueryParamsRequest,
        QueryParamsResponse, QuerySendEnabledRequest, QuerySendEnabledResponse, QuerySpendableBalanceByDenomRequest,
        QuerySpendableBalanceByDenomResponse, QuerySpendableBalancesRequest, QuerySpendableBalancesResponse,
        QuerySupplyOfRequest, QuerySupplyOfResponse, QueryTotalSupplyRequest, QueryTotalSupplyResponse,
    },
    base::{
        query::v1beta1::{PageRequest, PageResponse},
        v1beta1::Coin as ProtoCoin,
    },
};
use tenure_sdk::{
    module::request,
    page::{page, Source},
    records, Ctx, Error, QueryRoute, Result,
};
use tenure_types::{sdk, Address, Amount, Coin};

use crate::{balance, keys, state, supply, NAME};

pub(crate) fn routes() -> Vec<QueryRoute> {
    let route = |path, answer| QueryRoute { path, answer };
    vec![
        route("/cosmos.bank.v1beta1.Query/Balance", one_balance),
        route("/cosmos.bank.v1beta1.Query/AllBalances", all_balances),
        route("/cosmos.bank.v1beta1.Query/SpendableBalances", spendable_balances),
        route("/cosmos.bank.v1beta1.Query/SpendableBalanceByDenom", spendable_balance),
        route("/cosmos.bank.v1beta1.Query/TotalSupply", total_supply),
        route("/cosmos.bank.v1beta1.Query/SupplyOf", supply_of),
        route("/cosmos.bank.v1beta1.Query/Params", params),
        route("/cosmos.bank.v1beta1.Query/DenomMetadata", denom_metadata),
        route(
            "/cosmos.bank.v1beta1.Query/DenomMetadataByQueryString",
            denom_metadata_by_query_string,
        ),
        route("/cosmos.bank.v1beta1.Query/DenomsMetadata", denoms_metadata),
        route("/cosmos.bank.v1beta1.Query/SendEnabled", send_enabled),
    ]
}

fn one_balance(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryBalanceRequest = request(bytes)?;
    let balance = Some(balance_of(ctx, &request.address, &request.denom)?);
    Ok(QueryBalanceResponse { balance }.encode_to_vec())
}

/// All of a balance may be sent.
fn spendable_balance(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QuerySpendableBalanceByDenomRequest = request(bytes)?;
    let balance = Some(balance_of(ctx, &request.address, &request.denom)?);
    Ok(QuerySpendableBalanceByDenomResponse { balance }.encode_to_vec())
}

/// A balance, zero if there is none.
fn balance_of(ctx: &mut Ctx, address: &str, denom: &str) -> Result<ProtoCoin> {
    let address: Address = address.parse()?;
    let coin = Coin::new(denom, Amount::ZERO)?;
    Ok(proto(&Coin {
        amount: balance(ctx, &address, &coin.denom)?,
        ..coin
    }))
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

fn denom_metadata(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let metadata = Some(metadata_of(ctx, &request::<QueryDenomMetadataRequest>(bytes)?.denom)?);
    Ok(QueryDenomMetadataResponse { metadata }.encode_to_vec())
}

fn denom_metadata_by_query_string(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let denom = request::<QueryDenomMetadataByQueryStringRequest>(bytes)?.denom;
    let metadata = Some(metadata_of(ctx, &denom)?);
    Ok(QueryDenomMetadataByQueryStringResponse { metadata }.encode_to_vec())
}

/// What is known of a denom. Error (not found): nothing is.
fn metadata_of(ctx: &mut Ctx, denom: &str) -> Result<Metadata> {
    let denom = Coin::new(denom, Amount::ZERO)?.denom;
    ctx.load(NAME, &keys::metadata(&denom))?
        .ok_or_else(|| Error::sdk(sdk::NOT_FOUND, format!("client metadata for denom {denom} not found")))
}

/// No denom has a rule of its own.
fn send_enabled(_: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    request::<QuerySendEnabledRequest>(bytes)?;
    Ok(QuerySendEnabledResponse {
        send_enabled: Vec::new(),
        pagination: Some(PageResponse::default()),
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

//! `tenure.provider.v1.Query`.

use prost::Message;
use tenure_proto::tenure::provider::v1::{
    QueryGapsRequest, QueryGapsResponse, QueryParamsRequest, QueryParamsResponse, QueryProviderRequest,
    QueryProviderResponse, QueryProvidersRequest, QueryProvidersResponse,
};
use tenure_sdk::{
    module::request,
    page::{page, Source},
    records, Ctx, QueryRoute, Result,
};

use crate::{keys, params::params, state, NAME};

pub(crate) fn routes() -> Vec<QueryRoute> {
    let route = |path, answer| QueryRoute { path, answer };
    vec![
        route("/tenure.provider.v1.Query/Provider", provider),
        route("/tenure.provider.v1.Query/Providers", providers),
        route("/tenure.provider.v1.Query/Gaps", gaps),
        route("/tenure.provider.v1.Query/Params", parameters),
    ]
}

fn provider(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let owner = request::<QueryProviderRequest>(bytes)?.owner.parse()?;
    Ok(QueryProviderResponse {
        provider: Some(state::load(ctx, &owner)?),
    }
    .encode_to_vec())
}

fn providers(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryProvidersRequest = request(bytes)?;
    let (entries, pagination) = page(ctx, Source::Records(NAME, keys::PROVIDERS), request.pagination.as_ref())?;
    let providers = entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect::<Result<_>>()?;
    Ok(QueryProvidersResponse {
        providers,
        pagination: Some(pagination),
    }
    .encode_to_vec())
}

fn gaps(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let request: QueryGapsRequest = request(bytes)?;
    let owner = request.owner.parse()?;
    let (entries, pagination) = page(
        ctx,
        Source::Records(NAME, &keys::gaps_of(&owner)),
        request.pagination.as_ref(),
    )?;
    let gaps = entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect::<Result<_>>()?;
    Ok(QueryGapsResponse {
        gaps,
        pagination: Some(pagination),
    }
    .encode_to_vec())
}

fn parameters(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    request::<QueryParamsRequest>(bytes)?;
    Ok(QueryParamsResponse {
        params: Some(params(ctx)?),
    }
    .encode_to_vec())
}

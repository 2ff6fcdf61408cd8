//! `tenure.escrow.v1.Query`. Answers show what has run out as stopped, even if no block has said so yet.

use prost::Message;
use tenure_proto::tenure::escrow::v1::{
    QueryAccountRequest, QueryAccountResponse, QueryParamsRequest, QueryParamsResponse, QueryPaymentRequest,
    QueryPaymentResponse,
};
use tenure_sdk::{derived::prefix_end, module::request, Ctx, Error, QueryRoute, Result};

use crate::{
    keys,
    params::params,
    payments::{catch_up, of_lease},
    state,
};

/// Most payments in one answer; an account has few, one for each lease that its bid became.
const MAX_PAYMENTS_SHOWN: usize = 1_000;

pub(crate) fn routes() -> Vec<QueryRoute> {
    let route = |path, answer| QueryRoute { path, answer };
    vec![
        route("/tenure.escrow.v1.Query/Account", account),
        route("/tenure.escrow.v1.Query/Payment", payment),
        route("/tenure.escrow.v1.Query/Params", parameters),
    ]
}

fn account(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let id = request::<QueryAccountRequest>(bytes)?.id;
    catch_up(ctx, id)?;
    let prefix = keys::payments_of(id);
    let entries = ctx.derived_range(&prefix, prefix_end(&prefix).as_deref(), false, MAX_PAYMENTS_SHOWN)?;
    let mut payments = Vec::new();
    for (key, _) in entries {
        let lease = key
            .strip_prefix(prefix.as_slice())
            .and_then(|rest| rest.try_into().ok())
            .map(u64::from_be_bytes);
        let lease =
            lease.ok_or_else(|| Error::internal(format!("index entry {} names no lease", hex::encode(&key))))?;
        payments.push(state::payment(ctx, lease)?);
    }
    Ok(QueryAccountResponse {
        account: Some(state::account(ctx, id)?),
        payments,
    }
    .encode_to_vec())
}

fn payment(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    let (_, payment) = of_lease(ctx, request::<QueryPaymentRequest>(bytes)?.lease_id)?;
    Ok(QueryPaymentResponse { payment: Some(payment) }.encode_to_vec())
}

fn parameters(ctx: &mut Ctx, bytes: &[u8]) -> Result<Vec<u8>> {
    request::<QueryParamsRequest>(bytes)?;
    Ok(QueryParamsResponse {
        params: Some(params(ctx)?),
    }
    .encode_to_vec())
}

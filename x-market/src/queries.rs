//! Answers about the market. Objects are caught up before they are shown: what is overdue shows as ended. A list has every object that is in
//! the wanted state after that, whatever state is stored, so answers do not depend on how far the queue of timers has got.

use prost::Message;
use tenure_proto::{
    cosmos::base::{
        query::v1beta1::{PageRequest, PageResponse},
        v1beta1::Coin as ProtoCoin,
    },
    tenure::{
        escrow::v1::{Account, Payment},
        market::v1::{
            Bid, BidState, Lease, LeaseBalance, LeaseState, QueryBidRequest, QueryBidResponse, QueryBidsRequest,
            QueryBidsResponse, QueryClaimsRequest, QueryClaimsResponse, QueryLeaseRequest, QueryLeaseResponse,
            QueryLeasesRequest, QueryLeasesResponse, QueryParamsRequest, QueryParamsResponse,
        },
    },
};
use tenure_sdk::{module::request, page, Ctx, Error, QueryRoute, Result};
use tenure_types::Address;

use crate::{
    derive::{
        catching_up_makes_bids, catching_up_makes_leases, prefix, state_byte, BIDS_BY_STATE, BIDS_BY_TENANT,
        LEASES_BY_STATE, LEASES_OF, OPEN_LEASES, OPEN_LEASES_OF,
    },
    errors::MarketError,
    keys,
    lifecycle::{bid, lease},
    params::params,
    state::claims,
    NAME,
};

/// All queries of the market.
pub(crate) fn routes() -> Vec<QueryRoute> {
    vec![
        QueryRoute {
            path: "/tenure.market.v1.Query/Bid",
            answer: |ctx, bytes| {
                let request: QueryBidRequest = request(bytes)?;
                Ok(QueryBidResponse {
                    bid: Some(bid(ctx, request.id)?),
                }
                .encode_to_vec())
            },
        },
        QueryRoute {
            path: "/tenure.market.v1.Query/Bids",
            answer: |ctx, bytes| Ok(bids(ctx, &request(bytes)?)?.encode_to_vec()),
        },
        QueryRoute {
            path: "/tenure.market.v1.Query/Claims",
            answer: |ctx, bytes| {
                let request: QueryClaimsRequest = request(bytes)?;
                let bid = bid(ctx, request.bid_id)?;
                Ok(QueryClaimsResponse {
                    claims: claims(ctx, bid.id)?,
                }
                .encode_to_vec())
            },
        },
        QueryRoute {
            path: "/tenure.market.v1.Query/Lease",
            answer: |ctx, bytes| {
                let request: QueryLeaseRequest = request(bytes)?;
                Ok(lease_with_money(ctx, request.id)?.encode_to_vec())
            },
        },
        QueryRoute {
            path: "/tenure.market.v1.Query/Leases",
            answer: |ctx, bytes| Ok(leases(ctx, &request(bytes)?)?.encode_to_vec()),
        },
        QueryRoute {
            path: "/tenure.market.v1.Query/Params",
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

/// Where a list's entries are: the index that the request's filters select.
enum Listing {
    Records(u8),
    Index(Vec<u8>),
}

/// One page of ids. Indexes are walked in order of id; filters that they do not cover thin the page out.
fn ids(ctx: &mut Ctx, listing: &Listing, pagination: Option<&PageRequest>) -> Result<(Vec<u64>, PageResponse)> {
    let (entries, response) = match listing {
        Listing::Records(kind) => page::page(ctx, page::Source::Records(NAME, &[*kind]), pagination)?,
        Listing::Index(prefix) => page::page(ctx, page::Source::Derived(prefix), pagination)?,
    };
    let ids = entries.iter().map(|(key, _)| keys::id_of(key)).collect::<Result<_>>()?;
    Ok((ids, response))
}

fn bids(ctx: &mut Ctx, request: &QueryBidsRequest) -> Result<QueryBidsResponse> {
    let state = BidState::try_from(request.state)
        .map_err(|_| MarketError::field("state", request.state, "must be a BidState"))?;
    let listing = match (request.tenant.as_str(), state) {
        ("", state) if state == BidState::Unspecified || catching_up_makes_bids(state) => Listing::Records(keys::BID),
        ("", _) => Listing::Index(prefix(BIDS_BY_STATE, &[state_byte(request.state)])),
        (tenant, _) => Listing::Index(prefix(BIDS_BY_TENANT, tenant.parse::<Address>()?.as_bytes())),
    };
    let (ids, pagination) = ids(ctx, &listing, request.pagination.as_ref())?;
    let mut bids: Vec<Bid> = Vec::with_capacity(ids.len());
    for id in ids {
        let bid = bid(ctx, id)?;
        if state == BidState::Unspecified || bid.state() == state {
            bids.push(bid);
        }
    }
    Ok(QueryBidsResponse {
        bids,
        pagination: Some(pagination),
    })
}

fn leases(ctx: &mut Ctx, request: &QueryLeasesRequest) -> Result<QueryLeasesResponse> {
    let state = LeaseState::try_from(request.state)
        .map_err(|_| MarketError::field("state", request.state, "must be a LeaseState"))?;
    let optional = |text: &str| {
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse::<Address>().map(Some)
        }
    };
    let (tenant, provider) = (optional(&request.tenant)?, optional(&request.provider)?);
    // A lease that is stored as CLOSED stays so: the shorter index serves every other state too.
    let open = request.open_only || !matches!(state, LeaseState::Unspecified | LeaseState::Closed);
    let listing = match (tenant.or(provider), state) {
        (Some(who), _) => Listing::Index(prefix(if open { OPEN_LEASES_OF } else { LEASES_OF }, who.as_bytes())),
        (None, state) if state == LeaseState::Unspecified || catching_up_makes_leases(state) => {
            if open {
                Listing::Index(prefix(OPEN_LEASES, &[]))
            } else {
                Listing::Records(keys::LEASE)
            }
        }
        (None, _) => Listing::Index(prefix(LEASES_BY_STATE, &[state_byte(request.state)])),
    };
    let (ids, pagination) = ids(ctx, &listing, request.pagination.as_ref())?;
    let (tenant, provider) = (tenant.map(|a| a.to_string()), provider.map(|a| a.to_string()));
    let mut leases: Vec<Lease> = Vec::with_capacity(ids.len());
    for id in ids {
        let lease = lease(ctx, id)?;
        let wanted = tenant.as_ref().is_none_or(|t| *t == lease.tenant)
            && provider.as_ref().is_none_or(|p| *p == lease.provider)
            && (state == LeaseState::Unspecified || lease.state() == state)
            && !(request.open_only && lease.state() == LeaseState::Closed);
        if wanted {
            leases.push(lease);
        }
    }
    Ok(QueryLeasesResponse {
        leases,
        pagination: Some(pagination),
    })
}

fn lease_with_money(ctx: &mut Ctx, id: u64) -> Result<QueryLeaseResponse> {
    let lease = lease(ctx, id)?;
    let account = tenure_x_escrow::account(ctx, lease.bid_id)?;
    let payment = if lease.ready_ms > 0 {
        Some(tenure_x_escrow::payment(ctx, id)?)
    } else {
        None
    };
    let balance = balance(&account, payment.as_ref())?;
    Ok(QueryLeaseResponse {
        lease: Some(lease),
        payment,
        account: Some(account),
        balance: Some(balance),
    })
}

/// The account's money in one line: deposited = paid + refunded + held. Error (internal): it is not.
pub(crate) fn balance(account: &Account, payment: Option<&Payment>) -> Result<LeaseBalance> {
    let amount = |text: &str| text.parse::<tenure_types::Amount>();
    let parts = amount(&account.paid_total)?
        .plus(amount(&account.refunded_total)?)?
        .plus(amount(&account.balance)?)?;
    if parts != amount(&account.deposited_total)? {
        let why = format!(
            "account {}: paid, refunded and held make {parts}, not {}",
            account.id, account.deposited_total
        );
        return Err(Error::internal(why));
    }
    let coin = |amount: &str| {
        Some(ProtoCoin {
            denom: account.denom.clone(),
            amount: amount.to_owned(),
        })
    };
    Ok(LeaseBalance {
        deposited: coin(&account.deposited_total),
        paid: coin(&account.paid_total),
        take: coin(payment.map_or("0", |p| &p.take_total)),
        refunded: coin(&account.refunded_total),
        held: coin(&account.balance),
    })
}

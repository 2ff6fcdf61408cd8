//! Offers to serve a bid, or improves an offer.
//!
//! A claim reserves nothing: whether the provider still has room is looked at again when the match is made, and a claim that its provider
//! cannot honour then is void.

use tenure_proto::tenure::market::v1::{Claim, MsgClaim, MsgClaimResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use super::{check_address, check_id, check_rate};
use crate::{
    capacity::{free, require_takes_leases},
    errors::MarketError,
    events, keys,
    lifecycle::{bid, require_open},
    matching::{rank, Offer},
    params::params,
    state::{self, save_bid, stored_address},
    NAME,
};

/// Handles [`MsgClaim`].
pub(super) struct MakeClaim;

impl Handler for MakeClaim {
    type Msg = MsgClaim;
    type Response = MsgClaimResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_id("bid_id", msg.bid_id)?;
        check_rate("rate", msg.rate)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let owner: Address = msg.provider.parse()?;
        let params = params(ctx)?;
        let mut bid = bid(ctx, msg.bid_id)?;
        require_open(&bid)?;
        let ends = state::deadline(bid.expires.as_ref(), "expires")?;
        if ends.passed(ctx.height(), ctx.now()) {
            return Err(MarketError::ClaimsEnded {
                bid: bid.id,
                height: ends.height,
                ms: ends.ms,
            }
            .into());
        }
        if msg.rate > bid.max_rate {
            return Err(MarketError::AboveCeiling {
                bid: bid.id,
                rate: msg.rate,
                ceiling: bid.max_rate,
            }
            .into());
        }
        let provider = require_takes_leases(ctx, &owner)?;
        let (need, free) = (state::resources(bid.resources.as_ref()), free(&provider)?);
        if !need.fits_in(&free) {
            return Err(MarketError::Capacity {
                bid: bid.id,
                provider: owner.to_string(),
                need,
                free,
            }
            .into());
        }

        match state::claim(ctx, bid.id, &owner)? {
            Some(old) => {
                let most = old
                    .rate
                    .saturating_sub(least_improvement(old.rate, params.min_improvement_bps));
                if msg.rate > most {
                    return Err(MarketError::NoImprovement {
                        rate: msg.rate,
                        most,
                        old: old.rate,
                    }
                    .into());
                }
            }
            None => {
                if bid.open_claims >= params.max_claims_per_bid {
                    evict_worst(ctx, bid.id, params.max_claims_per_bid, &owner, msg.rate)?;
                } else {
                    bid.open_claims = bid.open_claims.saturating_add(1);
                    save_bid(ctx, &bid)?;
                }
            }
        }
        let claim = Claim {
            bid_id: bid.id,
            provider: owner.to_string(),
            rate: msg.rate,
            height: ctx.height(),
        };
        ctx.save(NAME, &keys::claim(bid.id, &owner), &claim)?;
        events::claimed(ctx, bid.id, &owner, msg.rate);
        Ok(MsgClaimResponse {})
    }
}

/// The greater of the rule's share of the rate, rounded up, and one unit.
fn least_improvement(rate: u64, bps: u32) -> u64 {
    let share = u128::from(rate).saturating_mul(bps.into()).div_ceil(10_000);
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

/// Makes room for a claim by deleting the worst one, if that is worse.
fn evict_worst(ctx: &mut Ctx, bid: u64, limit: u32, newcomer: &Address, rate: u64) -> Result<()> {
    let mut ranked = Vec::new();
    for claim in state::claims(ctx, bid)? {
        let provider = stored_address(&claim.provider)?;
        ranked.push((
            rank(
                bid,
                &Offer {
                    provider,
                    rate: claim.rate,
                    height: claim.height,
                },
            ),
            provider,
        ));
    }
    let ours = rank(
        bid,
        &Offer {
            provider: *newcomer,
            rate,
            height: ctx.height(),
        },
    );
    match ranked.into_iter().max() {
        Some((worst, provider)) if ours < worst => {
            ctx.delete(NAME, &keys::claim(bid, &provider))?;
            events::claim_closed(ctx, bid, &provider.to_string(), "evicted");
            Ok(())
        }
        _ => Err(MarketError::BidFull { bid, limit, rate }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_improvement_is_the_share_rounded_up_and_at_least_one_unit() {
        assert_eq!(least_improvement(1_000, 100), 10);
        assert_eq!(least_improvement(1_001, 100), 11);
        assert_eq!(least_improvement(5, 100), 1);
        assert_eq!(least_improvement(5, 0), 1);
        assert_eq!(least_improvement(u64::MAX, 10_000), u64::MAX);
    }
}

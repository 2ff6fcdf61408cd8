//! Posts and funds a bid.

use tenure_proto::tenure::market::v1::{Bid, BidState, MsgPostBid, MsgPostBidResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::{Address, Window};

use super::{check_address, check_rate};
use crate::{
    errors::MarketError,
    events,
    lifecycle::require_runway,
    matching,
    params::params,
    state::{coin, from_now, next_bid_id, save_bid, window},
};

/// Shortest lease, milliseconds.
const MIN_DURATION_MS: u64 = 1_000;

/// Handles [`MsgPostBid`].
pub(super) struct PostBid;

impl Handler for PostBid {
    type Msg = MsgPostBid;
    type Response = MsgPostBidResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        let resources = msg
            .resources
            .as_ref()
            .ok_or_else(|| MarketError::field("resources", "absent", "must be given"))?;
        for (field, value) in [
            ("resources.cpu_milli", resources.cpu_milli),
            ("resources.memory_bytes", resources.memory_bytes),
        ] {
            if value == 0 {
                return Err(MarketError::field(field, value, "must be above 0"));
            }
        }
        check_rate("max_rate", msg.max_rate)?;
        if msg.duration_ms < MIN_DURATION_MS {
            return Err(MarketError::field(
                "duration_ms",
                msg.duration_ms,
                format!("must be at least {MIN_DURATION_MS}"),
            ));
        }
        let deposit = coin(msg.deposit.as_ref(), "deposit")?;
        if deposit.amount.is_zero() {
            return Err(MarketError::field("deposit", deposit, "must be above 0"));
        }
        if msg.manifest_hash.len() != 32 {
            return Err(MarketError::field(
                "manifest_hash",
                format!("{} bytes long", msg.manifest_hash.len()),
                "must be 32 bytes",
            ));
        }
        if let Some(order) = &msg.auto_top_up {
            tenure_x_escrow::check_order(order)?;
        }
        if let Some(expiry) = &msg.expiry {
            check_window("expiry", window(expiry))?;
            check_within("claim_window", claim_window(msg), window(expiry), "expiry")?;
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let params = params(ctx)?;
        let tenant: Address = msg.tenant.parse()?;
        let deposit = coin(msg.deposit.as_ref(), "deposit")?;
        if !params.denoms.contains(&deposit.denom) {
            return Err(MarketError::Denom {
                denom: deposit.denom,
                allowed: params.denoms.join(", "),
            }
            .into());
        }
        if msg.duration_ms > params.max_duration_ms {
            let limit = format!("must be at most {}", params.max_duration_ms);
            return Err(MarketError::field("duration_ms", msg.duration_ms, limit));
        }
        let longest = params.bid_expiry.as_ref().map(window).unwrap_or_default();
        let expiry = msg.expiry.as_ref().map_or(longest, window);
        check_within("expiry", expiry, longest, "the longest allowed")?;
        check_within("claim_window", claim_window(msg), expiry, "expiry")?;
        require_runway(ctx, deposit.amount.get(), msg.max_rate)?;

        let id = next_bid_id(ctx)?;
        tenure_x_escrow::open_account(ctx, id, &tenant, &deposit.denom, deposit.amount)?;
        if let Some(order) = &msg.auto_top_up {
            tenure_x_escrow::set_auto_top_up(ctx, id, &tenant, Some(order))?;
        }
        let bid = Bid {
            id,
            tenant: tenant.to_string(),
            resources: msg.resources,
            denom: deposit.denom.clone(),
            max_rate: msg.max_rate,
            duration_ms: msg.duration_ms,
            manifest_hash: msg.manifest_hash.clone(),
            state: BidState::Open.into(),
            posted_height: ctx.height(),
            posted_ms: ctx.now(),
            claims_close: Some(from_now(ctx, claim_window(msg))),
            expires: Some(from_now(ctx, expiry)),
            lease_id: 0,
            open_claims: 0,
            priority: matching::priority(id, ctx.height(), &ctx.block.chain_id),
        };
        save_bid(ctx, &bid)?;
        events::bid_posted(ctx, &bid, &deposit.amount.to_string());
        Ok(MsgPostBidResponse { bid_id: id })
    }
}

fn claim_window(msg: &MsgPostBid) -> Window {
    msg.claim_window.as_ref().map(window).unwrap_or_default()
}

fn check_window(field: &'static str, given: Window) -> Result<()> {
    if given.blocks > 0 && given.ms > 0 {
        return Ok(());
    }
    Err(MarketError::field(field, show(given), "must be above 0 in both parts"))
}

fn check_within(field: &'static str, given: Window, limit: Window, name: &str) -> Result<()> {
    if given.blocks <= limit.blocks && given.ms <= limit.ms {
        return Ok(());
    }
    Err(MarketError::field(
        field,
        show(given),
        format!("must be within {name}, {}", show(limit)),
    ))
}

fn show(window: Window) -> String {
    format!("{} blocks and {} ms", window.blocks, window.ms)
}

//! Takes an offer back.

use tenure_proto::tenure::market::v1::{MsgWithdrawClaim, MsgWithdrawClaimResponse};
use tenure_sdk::{Ctx, Error, Handler, Result};
use tenure_types::Address;

use super::{check_address, check_id};
use crate::{
    errors::MarketError,
    events, keys,
    lifecycle::{bid, require_open},
    state::{claim, save_bid},
    NAME,
};

/// Handles [`MsgWithdrawClaim`].
pub(super) struct WithdrawClaim;

impl Handler for WithdrawClaim {
    type Msg = MsgWithdrawClaim;
    type Response = MsgWithdrawClaimResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_id("bid_id", msg.bid_id)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let owner: Address = msg.provider.parse()?;
        let mut bid = bid(ctx, msg.bid_id)?;
        require_open(&bid)?;
        if claim(ctx, bid.id, &owner)?.is_none() {
            return Err(MarketError::NoClaim {
                bid: bid.id,
                provider: owner.to_string(),
            }
            .into());
        }
        ctx.delete(NAME, &keys::claim(bid.id, &owner))?;
        bid.open_claims = bid
            .open_claims
            .checked_sub(1)
            .ok_or_else(|| Error::internal(format!("bid {} has a claim but counts none", bid.id)))?;
        save_bid(ctx, &bid)?;
        events::claim_closed(ctx, bid.id, &owner.to_string(), "withdrawn");
        Ok(MsgWithdrawClaimResponse {})
    }
}

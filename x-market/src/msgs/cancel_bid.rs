//! Takes an open bid back; the deposit returns.

use tenure_proto::tenure::market::v1::{BidState, MsgCancelBid, MsgCancelBidResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::lifecycle::{bid, close_bid, require_open, require_owner};

/// Handles [`MsgCancelBid`].
pub(super) struct CancelBid;

impl Handler for CancelBid {
    type Msg = MsgCancelBid;
    type Response = MsgCancelBidResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        check_id("bid_id", msg.bid_id)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut bid = bid(ctx, msg.bid_id)?;
        require_owner(&msg.tenant, "tenant", "bid", bid.id, &bid.tenant)?;
        require_open(&bid)?;
        close_bid(ctx, &mut bid, BidState::Cancelled)?;
        Ok(MsgCancelBidResponse {})
    }
}

//! Sets, replaces or stops the standing order that tops a bid's escrow account up before its money runs out (tenant).

use tenure_proto::tenure::market::v1::{LeaseState, MsgSetAutoTopUp, MsgSetAutoTopUpResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use super::{check_address, check_id};
use crate::lifecycle::{bid, lease, lease_of_bid, require_open, require_owner, require_state};

/// Handles [`MsgSetAutoTopUp`].
pub(super) struct SetAutoTopUp;

impl Handler for SetAutoTopUp {
    type Msg = MsgSetAutoTopUp;
    type Response = MsgSetAutoTopUpResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        check_id("bid_id", msg.bid_id)?;
        msg.auto_top_up.as_ref().map_or(Ok(()), tenure_x_escrow::check_order)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let tenant: Address = msg.tenant.parse()?;
        let bid = bid(ctx, msg.bid_id)?;
        require_owner(&msg.tenant, "tenant", "bid", bid.id, &bid.tenant)?;
        match lease_of_bid(ctx, &bid)? {
            None => require_open(&bid)?,
            Some(lease) => {
                let open = [LeaseState::Starting, LeaseState::Active, LeaseState::Paused];
                require_state(&lease, &open, "STARTING, ACTIVE or PAUSED")?;
            }
        }
        tenure_x_escrow::set_auto_top_up(ctx, bid.id, &tenant, msg.auto_top_up.as_ref())?;
        if bid.lease_id > 0 {
            // A review may have passed while there was no order: catching the lease up draws on the new one at once.
            lease(ctx, bid.lease_id)?;
        }
        Ok(MsgSetAutoTopUpResponse {})
    }
}

//! Stops a lease's accrual for a while (tenant). The lease still expires when it would have.

use tenure_proto::tenure::market::v1::{LeaseState, MsgPauseLease, MsgPauseLeaseResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::{
    events,
    lifecycle::{lease, require_state, require_tenant, settle},
    state::save_lease,
};

/// Handles [`MsgPauseLease`].
pub(super) struct PauseLease;

impl Handler for PauseLease {
    type Msg = MsgPauseLease;
    type Response = MsgPauseLeaseResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        check_id("lease_id", msg.lease_id)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut lease = lease(ctx, msg.lease_id)?;
        require_tenant(&lease, &msg.tenant)?;
        require_state(&lease, &[LeaseState::Active], "ACTIVE")?;
        // Settling first frees the payment's segments whose outcomes are final, so that pausing often is not refused for want of one.
        settle(ctx, &lease)?;
        tenure_x_escrow::pause(ctx, lease.id)?;
        lease.state = LeaseState::Paused.into();
        save_lease(ctx, &lease)?;
        let now = ctx.now();
        events::lease_paused(ctx, &lease, "tenant", now);
        Ok(MsgPauseLeaseResponse {})
    }
}

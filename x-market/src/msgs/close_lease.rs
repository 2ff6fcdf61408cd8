//! Ends a lease (tenant). One that is not ready yet is over at once and costs nothing.

use tenure_proto::tenure::market::v1::{CloseReason, LeaseState, MsgCloseLease, MsgCloseLeaseResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::lifecycle::{end, lease, require_state, require_tenant};

/// Handles [`MsgCloseLease`].
pub(super) struct CloseLease;

impl Handler for CloseLease {
    type Msg = MsgCloseLease;
    type Response = MsgCloseLeaseResponse;

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
        let open = [LeaseState::Starting, LeaseState::Active, LeaseState::Paused];
        require_state(&lease, &open, "STARTING, ACTIVE or PAUSED")?;
        let now = ctx.now();
        end(ctx, &mut lease, now, CloseReason::Tenant)?;
        Ok(MsgCloseLeaseResponse {})
    }
}

//! Changes a lease's price from now on; tenant and provider both sign.

use tenure_proto::tenure::market::v1::{LeaseState, MsgAmendLease, MsgAmendLeaseResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id, check_rate};
use crate::{
    events,
    lifecycle::{lease, require_provider, require_state, require_tenant, settle},
    state::save_lease,
};

/// Handles [`MsgAmendLease`].
pub(super) struct AmendLease;

impl Handler for AmendLease {
    type Msg = MsgAmendLease;
    type Response = MsgAmendLeaseResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant, &msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        check_address("provider", &msg.provider)?;
        check_id("lease_id", msg.lease_id)?;
        check_rate("rate", msg.rate)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut lease = lease(ctx, msg.lease_id)?;
        require_tenant(&lease, &msg.tenant)?;
        require_provider(&lease, &msg.provider)?;
        require_state(&lease, &[LeaseState::Active, LeaseState::Paused], "ACTIVE or PAUSED")?;
        settle(ctx, &lease)?;
        tenure_x_escrow::amend(ctx, lease.id, msg.rate)?;
        lease.rate = msg.rate;
        save_lease(ctx, &lease)?;
        events::lease_amended(ctx, &lease);
        Ok(MsgAmendLeaseResponse {})
    }
}

//! Goes on after a pause (tenant). Refused while the account is not funded for the least runway.

use tenure_proto::tenure::market::v1::{LeaseState, MsgResumeLease, MsgResumeLeaseResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::{
    events,
    lifecycle::{lease, require_state, require_tenant, settle},
    state::save_lease,
};

/// Handles [`MsgResumeLease`].
pub(super) struct ResumeLease;

impl Handler for ResumeLease {
    type Msg = MsgResumeLease;
    type Response = MsgResumeLeaseResponse;

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
        require_state(&lease, &[LeaseState::Paused], "PAUSED")?;
        settle(ctx, &lease)?;
        tenure_x_escrow::resume(ctx, lease.id)?;
        lease.state = LeaseState::Active.into();
        save_lease(ctx, &lease)?;
        events::lease_resumed(ctx, &lease);
        Ok(MsgResumeLeaseResponse {})
    }
}

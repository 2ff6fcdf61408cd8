//! Excepts leases from an epoch that is attested next: they did not run in it and are not paid for it.
//!
//! It comes before the attestation, in a message of its own, so that a provider with many dead leases need not skip the epoch for the live
//! ones. Only the epoch right after the final outcomes can be excepted: before it everything is decided, in it nothing is.

use tenure_proto::tenure::market::v1::{LeaseState, MsgReportDown, MsgReportDownResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use super::{check_address, check_leases};
use crate::{
    errors::MarketError,
    events,
    lifecycle::{attested, lease, require_provider, require_state},
};

/// Most leases of one message.
const MAX_LEASES: usize = 256;

/// Handles [`MsgReportDown`].
pub(super) struct ReportDown;

impl Handler for ReportDown {
    type Msg = MsgReportDown;
    type Response = MsgReportDownResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_leases(&msg.lease_ids, MAX_LEASES)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let owner: Address = msg.provider.parse()?;
        let provider = tenure_x_provider::load(ctx, &owner)?;
        let refuse = |why: String| MarketError::Epoch { epoch: msg.epoch, why };
        let next = tenure_x_provider::epoch_of(&provider, provider.final_until_ms);
        if msg.epoch != next {
            return Err(refuse(format!("epoch {next} is attested next")).into());
        }
        let (start_ms, end_ms) = tenure_x_provider::epoch_range(&provider, msg.epoch);
        if end_ms > ctx.now() {
            return Err(refuse(format!("it ends at {end_ms} ms, now is {} ms", ctx.now())).into());
        }
        for id in &msg.lease_ids {
            let lease = lease(ctx, *id)?;
            require_provider(&lease, &msg.provider)?;
            let unsettled = [LeaseState::Active, LeaseState::Paused, LeaseState::Closing];
            require_state(&lease, &unsettled, "ACTIVE, PAUSED or CLOSING")?;
            let attested = attested(ctx, &lease)?;
            tenure_x_escrow::except(ctx, *id, &attested, start_ms, end_ms)?;
            events::lease_excepted(ctx, &lease, msg.epoch);
        }
        Ok(MsgReportDownResponse {})
    }
}

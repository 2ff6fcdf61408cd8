//! Reports the end of a workload, or gives a lease up (provider).

use tenure_proto::tenure::market::v1::{CloseReason, LeaseState, MsgFinishLease, MsgFinishLeaseResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::{
    errors::MarketError,
    lifecycle::{end, lease, require_provider, require_state},
};

/// Most bytes of the provider's words.
const MAX_DETAIL: usize = 256;

/// Handles [`MsgFinishLease`].
pub(super) struct FinishLease;

impl Handler for FinishLease {
    type Msg = MsgFinishLease;
    type Response = MsgFinishLeaseResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_id("lease_id", msg.lease_id)?;
        match CloseReason::try_from(msg.reason) {
            Ok(CloseReason::Completed) if msg.exit_code != 0 => {
                return Err(MarketError::field(
                    "exit_code",
                    msg.exit_code,
                    "must be 0 if the workload completed",
                ));
            }
            Ok(CloseReason::Completed | CloseReason::WorkloadFailed | CloseReason::Provider) => {}
            _ => {
                return Err(MarketError::field(
                    "reason",
                    msg.reason,
                    "must be COMPLETED, WORKLOAD_FAILED or PROVIDER",
                ))
            }
        }
        if !matches!(msg.output_root.len(), 0 | 32) {
            let value = format!("{} bytes long", msg.output_root.len());
            return Err(MarketError::field("output_root", value, "must be 32 bytes or empty"));
        }
        if msg.detail.len() > MAX_DETAIL {
            let value = format!("{} bytes long", msg.detail.len());
            return Err(MarketError::field(
                "detail",
                value,
                format!("must be at most {MAX_DETAIL} bytes"),
            ));
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut lease = lease(ctx, msg.lease_id)?;
        require_provider(&lease, &msg.provider)?;
        if msg.reason() == CloseReason::Provider {
            let open = [LeaseState::Starting, LeaseState::Active, LeaseState::Paused];
            require_state(&lease, &open, "STARTING, ACTIVE or PAUSED")?;
        } else {
            // What never ran cannot have ended by itself.
            require_state(&lease, &[LeaseState::Active, LeaseState::Paused], "ACTIVE or PAUSED")?;
        }
        lease.exit_code = msg.exit_code;
        lease.output_root.clone_from(&msg.output_root);
        lease.detail.clone_from(&msg.detail);
        let now = ctx.now();
        end(ctx, &mut lease, now, msg.reason())?;
        Ok(MsgFinishLeaseResponse {})
    }
}

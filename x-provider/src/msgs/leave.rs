//! `MsgLeave`: asks for the bond back.

use tenure_proto::tenure::{
    base::v1::Deadline as ProtoDeadline,
    provider::v1::{MsgLeave, MsgLeaveResponse, ProviderStatus},
};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use crate::{
    errors::ProviderError,
    events,
    params::{params, unbonding},
    state,
};

/// Starts the unbonding window. The bond returns when it has passed and no lease is open.
pub(crate) struct Leave;

impl Handler for Leave {
    type Msg = MsgLeave;
    type Response = MsgLeaveResponse;

    fn signers(msg: &MsgLeave) -> Vec<&str> {
        vec![&msg.owner]
    }

    fn validate(_: &MsgLeave) -> Result<()> {
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgLeave) -> Result<MsgLeaveResponse> {
        let owner: Address = msg.owner.parse()?;
        let mut provider = state::load(ctx, &owner)?;
        if provider.status() == ProviderStatus::Unbonding {
            let why = "it has asked for its bond back already";
            return Err(ProviderError::WrongStatus {
                owner: provider.owner,
                status: "unbonding",
                why,
            }
            .into());
        }
        let end = unbonding(&params(ctx)?)?.from(ctx.height(), ctx.now());
        let unbonds = Some(ProtoDeadline {
            height: end.height,
            ms: end.ms,
        });
        provider.set_status(ProviderStatus::Unbonding);
        provider.unbonds = unbonds;
        state::save(ctx, &owner, &provider)?;
        events::status_changed(ctx, &provider);
        Ok(MsgLeaveResponse { unbonds })
    }
}

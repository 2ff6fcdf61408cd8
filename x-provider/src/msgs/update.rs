//! `MsgUpdate`: changes what a provider declares.

use tenure_proto::tenure::provider::v1::{MsgUpdate, MsgUpdateResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use super::check_declaration;
use crate::{errors::ProviderError, events, state};

/// Changes what a provider declares.
pub(crate) struct Update;

impl Handler for Update {
    type Msg = MsgUpdate;
    type Response = MsgUpdateResponse;

    fn signers(msg: &MsgUpdate) -> Vec<&str> {
        vec![&msg.owner]
    }

    fn validate(msg: &MsgUpdate) -> Result<()> {
        check_declaration(&msg.moniker, &msg.endpoint, msg.capacity.as_ref())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgUpdate) -> Result<MsgUpdateResponse> {
        let owner: Address = msg.owner.parse()?;
        let mut provider = state::load(ctx, &owner)?;
        let capacity = state::resources(msg.capacity.as_ref());
        let reserved = state::resources(provider.reserved.as_ref());
        if !reserved.fits_in(&capacity) {
            return Err(ProviderError::Capacity {
                owner: provider.owner,
                capacity,
                reserved,
            }
            .into());
        }
        provider.moniker.clone_from(&msg.moniker);
        provider.endpoint.clone_from(&msg.endpoint);
        provider.capacity = msg.capacity;
        state::save(ctx, &owner, &provider)?;
        events::updated(ctx, &provider);
        Ok(MsgUpdateResponse {})
    }
}

#[cfg(test)]
mod tests {
    use tenure_types::Resources;

    use super::*;
    use crate::{
        capacity::{release, reserve},
        tests::{messages, registered, PROVIDER},
    };

    #[test]
    fn capacity_never_falls_below_what_leases_hold() -> Result<()> {
        let mut ctx = registered()?;
        let half = Resources {
            cpu_milli: 2_000,
            memory_bytes: 1 << 30,
            storage_bytes: 0,
        };
        reserve(&mut ctx, &PROVIDER, &half)?;
        let mut msg = messages::update(&PROVIDER);
        msg.capacity.as_mut().unwrap().cpu_milli = 1_999;
        assert_eq!(Update::execute(&mut ctx, &msg).unwrap_err().code, 6);
        msg.capacity.as_mut().unwrap().cpu_milli = 2_000;
        Update::execute(&mut ctx, &msg)?;
        assert_eq!(
            reserve(
                &mut ctx,
                &PROVIDER,
                &Resources {
                    cpu_milli: 1,
                    ..Default::default()
                }
            )
            .unwrap_err()
            .code,
            6
        );
        release(&mut ctx, &PROVIDER, &half)?;
        assert!(release(&mut ctx, &PROVIDER, &half).unwrap_err().is_internal());
        crate::invariants::check(&mut ctx)
    }
}

//! `MsgDrain`: stops taking new leases, or starts again.

use tenure_proto::tenure::provider::v1::{MsgDrain, MsgDrainResponse, ProviderStatus};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Address;

use crate::{errors::ProviderError, events, state};

/// Stops taking new leases, or starts again. Asking for the status that is there changes nothing.
pub(crate) struct Drain;

impl Handler for Drain {
    type Msg = MsgDrain;
    type Response = MsgDrainResponse;

    fn signers(msg: &MsgDrain) -> Vec<&str> {
        vec![&msg.owner]
    }

    fn validate(_: &MsgDrain) -> Result<()> {
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgDrain) -> Result<MsgDrainResponse> {
        let owner: Address = msg.owner.parse()?;
        let mut provider = state::load(ctx, &owner)?;
        if provider.status() == ProviderStatus::Unbonding {
            let why = "it has asked for its bond back and takes no new leases";
            return Err(ProviderError::WrongStatus {
                owner: provider.owner,
                status: "unbonding",
                why,
            }
            .into());
        }
        let wanted = if msg.drain {
            ProviderStatus::Draining
        } else {
            ProviderStatus::Active
        };
        if provider.status() != wanted {
            provider.set_status(wanted);
            state::save(ctx, &owner, &provider)?;
            events::status_changed(ctx, &provider);
        }
        Ok(MsgDrainResponse {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capacity::may_take_leases,
        msgs::Leave,
        tests::{messages, registered, PROVIDER},
    };

    #[test]
    fn a_draining_provider_takes_no_leases_until_it_starts_again() -> Result<()> {
        let mut ctx = registered()?;
        for (drain, takes) in [(true, false), (true, false), (false, true)] {
            Drain::execute(
                &mut ctx,
                &MsgDrain {
                    owner: PROVIDER.to_string(),
                    drain,
                },
            )?;
            assert_eq!(may_take_leases(&state::load(&mut ctx, &PROVIDER)?), takes);
        }
        Leave::execute(&mut ctx, &messages::leave(&PROVIDER))?;
        let error = Drain::execute(
            &mut ctx,
            &MsgDrain {
                owner: PROVIDER.to_string(),
                drain: false,
            },
        )
        .unwrap_err();
        assert_eq!(error.code, 5, "{error}");
        Ok(())
    }
}

//! `MsgRegister`: becomes a provider.

use tenure_proto::tenure::{
    base::v1::Resources as ProtoResources,
    provider::v1::{MsgRegister, MsgRegisterResponse, Provider, ProviderStatus},
};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::{Address, Coin};
use tenure_x_bank as bank;

use super::check_declaration;
use crate::{
    epochs::{epoch_of, epoch_range, grid_offset},
    errors::ProviderError,
    events,
    params::{min_bond, params},
    state, NAME,
};

/// Registers the signer as a provider and takes its bond.
pub(crate) struct Register;

impl Handler for Register {
    type Msg = MsgRegister;
    type Response = MsgRegisterResponse;

    fn signers(msg: &MsgRegister) -> Vec<&str> {
        vec![&msg.owner]
    }

    fn validate(msg: &MsgRegister) -> Result<()> {
        check_declaration(&msg.moniker, &msg.endpoint, msg.capacity.as_ref())?;
        bond(msg).map(|_| ())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgRegister) -> Result<MsgRegisterResponse> {
        let owner: Address = msg.owner.parse()?;
        let params = params(ctx)?;
        let (bond, min) = (bond(msg)?, min_bond(&params)?);
        if bond.denom != min.denom || bond.amount < min.amount {
            return Err(ProviderError::Bond {
                bond: bond.to_string(),
                min: min.to_string(),
            }
            .into());
        }
        if state::find(ctx, &owner)?.is_some() {
            return Err(ProviderError::AlreadyRegistered(msg.owner.clone()).into());
        }
        let mut provider = Provider {
            owner: msg.owner.clone(),
            moniker: msg.moniker.clone(),
            endpoint: msg.endpoint.clone(),
            status: ProviderStatus::Active.into(),
            bond: msg.bond.clone(),
            capacity: msg.capacity,
            reserved: Some(ProtoResources::default()),
            epoch_ms: params.epoch_ms,
            grid_offset_ms: grid_offset(&owner, params.epoch_ms),
            registered_ms: ctx.now(),
            ..Default::default()
        };
        let (boundary, next) = epoch_range(&provider, epoch_of(&provider, ctx.now()));
        provider.final_until_ms = boundary;
        if let Some(gap) = state::last_gap(ctx, &owner)? {
            // Who comes back goes on with the gaps it left; the grid may have other epochs now.
            if gap.end_ms > boundary {
                return Err(ProviderError::TooSoon {
                    until_ms: gap.end_ms,
                    again_ms: next,
                }
                .into());
            }
            provider.last_gap_start_ms = gap.start_ms;
            provider.pruned_to_ms = gap.end_ms;
            provider.missed_total_ms = gap
                .missed_before_ms
                .saturating_add(gap.end_ms.saturating_sub(gap.start_ms));
        }
        bank::transfer(ctx, &owner, &Address::of_module(NAME), &bond)?;
        state::save(ctx, &owner, &provider)?;
        events::registered(ctx, &provider, &bond);
        Ok(MsgRegisterResponse {})
    }
}

fn bond(msg: &MsgRegister) -> Result<Coin> {
    let (denom, amount) = msg.bond.as_ref().map_or(("", ""), |bond| (&bond.denom, &bond.amount));
    Coin::from_parts(denom, amount).map_err(|e| e.context("bond"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{chain, messages, PROVIDER};

    #[test]
    fn a_bond_is_taken_once_and_not_below_the_minimum() -> Result<()> {
        let mut ctx = chain()?;
        let mut msg = messages::register(&PROVIDER);
        msg.bond.as_mut().unwrap().amount = "99999999".to_owned();
        let error = Register::execute(&mut ctx, &msg).unwrap_err();
        assert_eq!((error.codespace, error.code), (NAME, 3), "{error}");
        let msg = messages::register(&PROVIDER);
        Register::validate(&msg)?;
        let before = bank::balance(&mut ctx, &PROVIDER, "uten")?;
        Register::execute(&mut ctx, &msg)?;
        let held = bank::balance(&mut ctx, &Address::of_module(NAME), "uten")?;
        assert_eq!(bank::balance(&mut ctx, &PROVIDER, "uten")?.plus(held)?, before);
        assert_eq!(held.to_string(), msg.bond.clone().unwrap().amount);
        assert_eq!(Register::execute(&mut ctx, &msg).unwrap_err().code, 2);
        crate::invariants::check(&mut ctx)
    }

    #[test]
    fn a_malformed_bond_is_refused_before_state_is_read() {
        let mut msg = messages::register(&PROVIDER);
        msg.bond = None;
        assert!(Register::validate(&msg).is_err_and(|e| e.message.starts_with("bond")));
    }
}

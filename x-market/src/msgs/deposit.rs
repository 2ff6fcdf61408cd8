//! Adds money to a bid's escrow account. A lease that exhaustion paused goes on if the tenant itself pays in enough.

use tenure_proto::tenure::market::v1::{LeaseState, MsgDeposit, MsgDepositResponse};
use tenure_sdk::{codes, Ctx, Error, Handler, Result};
use tenure_types::Address;

use super::{check_address, check_id};
use crate::{
    errors::MarketError,
    events,
    lifecycle::{bid, lease_of_bid, require_open, require_state, settle},
    state::{coin, save_lease},
};

/// Handles [`MsgDeposit`].
pub(super) struct Deposit;

impl Handler for Deposit {
    type Msg = MsgDeposit;
    type Response = MsgDepositResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.depositor]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("depositor", &msg.depositor)?;
        check_id("bid_id", msg.bid_id)?;
        let amount = coin(msg.amount.as_ref(), "amount")?;
        if amount.amount.is_zero() {
            return Err(MarketError::field("amount", amount, "must be above 0"));
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let depositor: Address = msg.depositor.parse()?;
        let amount = coin(msg.amount.as_ref(), "amount")?;
        let bid = bid(ctx, msg.bid_id)?;
        let Some(mut lease) = lease_of_bid(ctx, &bid)? else {
            require_open(&bid)?;
            tenure_x_escrow::deposit(ctx, bid.id, &depositor, &amount)?;
            return Ok(MsgDepositResponse {});
        };
        let open = [LeaseState::Starting, LeaseState::Active, LeaseState::Paused];
        require_state(&lease, &open, "STARTING, ACTIVE or PAUSED")?;
        tenure_x_escrow::deposit(ctx, bid.id, &depositor, &amount)?;
        let exhausted = tenure_x_escrow::account(ctx, bid.id)?.exhausted;
        if lease.state() == LeaseState::Paused && exhausted && depositor.to_string() == bid.tenant {
            settle(ctx, &lease)?;
            // Too little to go on with is still a deposit: the lease then stays paused.
            match ctx.atomically(|ctx| tenure_x_escrow::resume(ctx, lease.id)) {
                Ok(_) => {
                    lease.state = LeaseState::Active.into();
                    save_lease(ctx, &lease)?;
                    events::lease_resumed(ctx, &lease);
                }
                Err(error) if error.is_internal() || is_out_of_gas(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(MsgDepositResponse {})
    }
}

fn is_out_of_gas(error: &Error) -> bool {
    error.codespace == "sdk" && error.code == codes::OUT_OF_GAS
}

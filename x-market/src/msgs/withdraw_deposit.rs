//! Takes unspent money back while the account stays funded.

use tenure_proto::tenure::market::v1::{LeaseState, MsgWithdrawDeposit, MsgWithdrawDepositResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::{Address, Amount};

use super::{check_address, check_id};
use crate::{
    errors::MarketError,
    lifecycle::{bid, lease_of_bid, require_open, require_owner, require_runway, require_state, settle},
    state::coin,
};

/// Handles [`MsgWithdrawDeposit`].
pub(super) struct WithdrawDeposit;

impl Handler for WithdrawDeposit {
    type Msg = MsgWithdrawDeposit;
    type Response = MsgWithdrawDepositResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.tenant]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("tenant", &msg.tenant)?;
        check_id("bid_id", msg.bid_id)?;
        let amount = coin(msg.amount.as_ref(), "amount")?;
        if amount.amount.is_zero() {
            return Err(MarketError::field("amount", amount, "must be above 0"));
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let tenant: Address = msg.tenant.parse()?;
        let amount = coin(msg.amount.as_ref(), "amount")?;
        let bid = bid(ctx, msg.bid_id)?;
        require_owner(&msg.tenant, "tenant", "bid", bid.id, &bid.tenant)?;
        // Nothing accrues before the lease is ready, so escrow would let everything go; but whoever claimed must find the account funded.
        let promised = match lease_of_bid(ctx, &bid)? {
            None => {
                require_open(&bid)?;
                Some(bid.max_rate)
            }
            Some(lease) => {
                let open = [LeaseState::Starting, LeaseState::Active, LeaseState::Paused];
                require_state(&lease, &open, "STARTING, ACTIVE or PAUSED")?;
                if lease.state() == LeaseState::Starting {
                    Some(lease.rate)
                } else {
                    settle(ctx, &lease)?;
                    None
                }
            }
        };
        if let Some(rate) = promised {
            let balance: Amount = tenure_x_escrow::account(ctx, bid.id)?.balance.parse()?;
            require_runway(ctx, balance.minus(amount.amount)?.get(), rate)?;
        }
        let now = ctx.now();
        tenure_x_escrow::withdraw_deposit(ctx, bid.id, &tenant, &amount, now)?;
        Ok(MsgWithdrawDepositResponse {})
    }
}

//! Settles leases and pays out what they earned.

use tenure_proto::{
    cosmos::base::v1beta1::Coin as ProtoCoin,
    tenure::market::v1::{LeaseState, MsgWithdrawEarnings, MsgWithdrawEarningsResponse},
};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::Coins;

use super::{check_address, check_leases};
use crate::lifecycle::{lease, require_provider, require_state, settle};

/// Most leases of one message.
const MAX_LEASES: usize = 100;

/// Handles [`MsgWithdrawEarnings`].
pub(super) struct WithdrawEarnings;

impl Handler for WithdrawEarnings {
    type Msg = MsgWithdrawEarnings;
    type Response = MsgWithdrawEarningsResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_leases(&msg.lease_ids, MAX_LEASES)
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut paid = Coins::default();
        for id in &msg.lease_ids {
            let lease = lease(ctx, *id)?;
            require_provider(&lease, &msg.provider)?;
            let started = [
                LeaseState::Active,
                LeaseState::Paused,
                LeaseState::Closing,
                LeaseState::Closed,
            ];
            require_state(&lease, &started, "ACTIVE, PAUSED, CLOSING or CLOSED")?;
            // A closed lease was paid when it closed, and one that never started has no payment: both have nothing left to give.
            if lease.state() != LeaseState::Closed {
                settle(ctx, &lease)?;
                paid.add(&tenure_x_escrow::pay_out(ctx, lease.id)?)?;
            }
        }
        let paid = paid
            .iter()
            .map(|c| ProtoCoin {
                denom: c.denom.clone(),
                amount: c.amount.to_string(),
            })
            .collect();
        Ok(MsgWithdrawEarningsResponse { paid })
    }
}

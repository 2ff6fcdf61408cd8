//! The two phases in which a payment ends: nothing accrues any more; then the last outcome is final and everything is paid and returned.

use tenure_proto::tenure::escrow::v1::Account;
use tenure_sdk::{Ctx, Result};
use tenure_types::{Amount, AttestedTime, Coin};

use crate::{
    accounts::{close_now, refund_above},
    accrual::Contribution,
    errors::EscrowError,
    events,
    payments::{caught_up_to, end_exhaustion, of_lease},
    settlement::{pay_out_in, settle_in, Settled},
    state::{self, change, pool, save_account, save_payment, set_pool, stream},
};

/// How a payment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The last settlement.
    pub settled: Settled,
    /// What the provider was paid, earlier earnings included.
    pub paid_out: Coin,
    /// What returned to the depositors.
    pub refunded: Amount,
    /// Whether the account closed with it.
    pub account_closed: bool,
}

/// Ends a lease's accrual at an instant that is not after now, and returns at once everything that can no longer be owed, if no other payment of
/// the account goes on. An instant in the past voids what was said of later time; settled time stays settled. Returns the instant at which
/// accrual ended: earlier if the payment had stopped before. Error: the lease has no payment, or it has ended already.
pub fn begin_close(ctx: &mut Ctx, lease: u64, at_ms: u64) -> Result<u64> {
    let at_ms = at_ms.min(ctx.now());
    let id = state::payment(ctx, lease)?.account_id;
    // Not further than the end: money that this end frees may keep the others going beyond the X of before.
    let (mut account, _) = caught_up_to(ctx, id, at_ms)?;
    let mut payment = state::payment(ctx, lease)?;
    if payment.closing {
        return Err(EscrowError::WrongState {
            lease,
            why: "has ended",
        }
        .into());
    }
    let ended = change(&mut account, &mut payment, |stream| stream.end(at_ms))?;
    payment.closing = true;
    payment.paused_by_owner = false;
    save_payment(ctx, &payment)?;
    events::rate_changed(ctx, &payment, ended, 0);
    end_exhaustion(ctx, &mut account)?;
    refund_excess(ctx, &mut account)?;
    save_account(ctx, &account)?;
    Ok(ended)
}

/// Ends a payment for good once every outcome until its end is final: the last settlement, the provider's earnings, and what is no longer owed.
/// The account closes too if that was asked for and this was its last payment. Error: the lease has no open payment that has ended; an outcome
/// is open.
pub fn finish_close(ctx: &mut Ctx, lease: u64, attested: &AttestedTime) -> Result<Closed> {
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    let Ok(at) = account.open_payments.binary_search(&lease) else {
        return Err(EscrowError::WrongState { lease, why: "is final" }.into());
    };
    if !payment.closing {
        return Err(EscrowError::WrongState {
            lease,
            why: "has not ended",
        }
        .into());
    }
    let (end_ms, final_until_ms) = (stream(&payment).last()?.from_ms, attested.final_until());
    if final_until_ms < end_ms {
        return Err(EscrowError::NotFinal {
            lease,
            end_ms,
            final_until_ms,
        }
        .into());
    }
    let settled = settle_in(ctx, &mut account, &mut payment, attested)?;
    let paid_out = pay_out_in(ctx, &account, &mut payment)?;
    payment.settle_by_ms = 0;
    save_payment(ctx, &payment)?;
    let mut pool = pool(&account)?;
    pool.replace(stream(&payment).contribution()?, Contribution::default())?;
    set_pool(&mut account, &pool)?;
    account.open_payments.remove(at);
    account.payees.remove(at);
    let closes = account.open_payments.is_empty() && account.close_requested;
    let refunded = if closes {
        close_now(ctx, &mut account)?
    } else {
        refund_excess(ctx, &mut account)?
    };
    save_account(ctx, &account)?;
    Ok(Closed {
        settled,
        paid_out,
        refunded,
        account_closed: closes,
    })
}

/// Returns what the account's payments can no longer be owed, if all of them have ended. Without any payment the money waits for the next one,
/// or for the account's end.
fn refund_excess(ctx: &mut Ctx, account: &mut Account) -> Result<Amount> {
    let open = state::open_payments(ctx, account)?;
    if open.is_empty() || open.iter().any(|payment| !payment.closing) {
        return Ok(Amount::ZERO);
    }
    let keep = Amount::new(pool(account)?.owed_stopped()?);
    refund_above(ctx, account, keep)
}

//! Payments while they live: start, change of rate, pause, resumption, exhaustion.

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::Address;

use crate::{
    accounts::{check_open, check_runway},
    accrual::{Contribution, Stream, FOREVER, MAX_RATE, MAX_SEGMENTS},
    errors::EscrowError,
    events,
    params::params,
    review::review_at,
    state::{self, change, pool, save_account, save_payment, set_pool, set_stream, stream},
};

/// Most open payments of an account.
pub const MAX_PAYMENTS: usize = 64;

/// Whether a payment accrues now.
pub fn is_running(payment: &Payment) -> bool {
    payment.segments.last().is_some_and(|segment| segment.rate > 0)
}

/// Stops every payment of an account whose money has run out by now, dated at the instant at which it did, and returns the leases this
/// stopped, ascending. Each is reported once. Error: the account does not exist.
pub fn catch_up(ctx: &mut Ctx, id: u64) -> Result<Vec<u64>> {
    caught_up(ctx, id).map(|(_, stopped)| stopped)
}

/// Starts a lease's payment now. Error: the account is not open or has too many payments; the lease has a payment; the rate is out of bounds;
/// the account would not be funded for the least runway. The account is reviewed `review_lead_ms` before its money runs out, or sooner if another of
/// its payments wants that; 0 asks for no review.
pub fn start_payment(
    ctx: &mut Ctx,
    account: u64,
    lease: u64,
    provider: &Address,
    rate: u64,
    review_lead_ms: u64,
) -> Result<()> {
    let (now, params) = (ctx.now(), params(ctx)?);
    let (mut account, _) = caught_up(ctx, account)?;
    check_open(&account)?;
    if account.close_requested {
        return Err(EscrowError::AccountClosed(account.id).into());
    }
    if account.open_payments.len() >= MAX_PAYMENTS {
        return Err(EscrowError::TooManyPayments {
            account: account.id,
            max: MAX_PAYMENTS,
        }
        .into());
    }
    if state::find_payment(ctx, lease)?.is_some() {
        return Err(EscrowError::Exists {
            what: "the payment of lease",
            id: lease,
        }
        .into());
    }
    check_rate(&account, 0, rate)?;
    let zero = || "0".to_owned();
    let mut payment = Payment {
        lease_id: lease,
        account_id: account.id,
        provider: provider.to_string(),
        paid_total: zero(),
        take_total: zero(),
        earned: zero(),
        withdrawn_total: zero(),
        agreed_rate: rate,
        take_bps: params.take_bps,
        settle_by_ms: now.saturating_add(params.settle_every_ms),
        ..Default::default()
    };
    let stream = Stream::start(now, rate);
    let mut pool = pool(&account)?;
    pool.replace(Contribution::default(), stream.contribution()?)?;
    set_stream(&mut payment, &stream);
    set_pool(&mut account, &pool)?;
    check_runway(ctx, &account, now)?;
    let at = account.open_payments.partition_point(|open| *open < lease);
    account.open_payments.insert(at, lease);
    account.payees.insert(at, payment.provider.clone());
    account.review_lead_ms = account.review_lead_ms.max(review_lead_ms);
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)?;
    events::rate_changed(ctx, &payment, now, rate);
    Ok(())
}

/// Changes the agreed rate: from now on if the payment runs, else from its resumption on. Error: the payment has ended; the rate is out of
/// bounds; too many unsettled changes; the account would not be funded for the least runway.
pub fn amend(ctx: &mut Ctx, lease: u64, rate: u64) -> Result<()> {
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    check_live(&payment)?;
    check_rate(&account, stream(&payment).last()?.rate, rate)?;
    payment.agreed_rate = rate;
    if is_running(&payment) {
        run(ctx, &mut account, &mut payment)?;
    }
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)
}

/// Stops a payment for a while at its owner's wish. Error: it does not run.
pub fn pause(ctx: &mut Ctx, lease: u64) -> Result<()> {
    let now = ctx.now();
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    check_live(&payment)?;
    if !is_running(&payment) {
        return Err(EscrowError::WrongState {
            lease,
            why: "does not run",
        }
        .into());
    }
    change(&mut account, &mut payment, |stream| stream.push(now, 0))?;
    payment.paused_by_owner = true;
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)?;
    events::rate_changed(ctx, &payment, now, 0);
    Ok(())
}

/// Goes on from now at the agreed rate, after a pause or an exhaustion; never for the time between. Error: it runs or has ended; too many
/// unsettled changes; the account would not be funded for the least runway.
pub fn resume(ctx: &mut Ctx, lease: u64) -> Result<()> {
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    check_live(&payment)?;
    if is_running(&payment) {
        return Err(EscrowError::WrongState {
            lease,
            why: "runs already",
        }
        .into());
    }
    check_rate(&account, 0, payment.agreed_rate)?;
    payment.paused_by_owner = false;
    run(ctx, &mut account, &mut payment)?;
    save_payment(ctx, &payment)?;
    end_exhaustion(ctx, &mut account)?;
    save_account(ctx, &account)
}

/// A lease's account and payment, caught up to now; what that changed is saved.
pub(crate) fn of_lease(ctx: &mut Ctx, lease: u64) -> Result<(Account, Payment)> {
    let id = state::payment(ctx, lease)?.account_id;
    let (account, _) = caught_up(ctx, id)?;
    // Exhaustion may just have changed it.
    Ok((account, state::payment(ctx, lease)?))
}

/// An account caught up to now, and the leases that this stopped; what that changed is saved.
pub(crate) fn caught_up(ctx: &mut Ctx, id: u64) -> Result<(Account, Vec<u64>)> {
    let now = ctx.now();
    caught_up_to(ctx, id, now)
}

/// The same, up to an instant that is not after now.
pub(crate) fn caught_up_to(ctx: &mut Ctx, id: u64, instant_ms: u64) -> Result<(Account, Vec<u64>)> {
    let mut account = state::account(ctx, id)?;
    let x = account.funded_until_ms;
    if x > instant_ms || x == FOREVER {
        return Ok((account, Vec::new()));
    }
    if review_at(&account).is_some() {
        return Err(Error::internal(format!(
            "escrow account {id} runs out at {x} ms and was not reviewed {} ms before",
            account.review_lead_ms
        )));
    }
    let mut stopped = Vec::new();
    for mut payment in state::open_payments(ctx, &account)? {
        if is_running(&payment) {
            change(&mut account, &mut payment, |stream| stream.push(x, 0))?;
            save_payment(ctx, &payment)?;
            events::rate_changed(ctx, &payment, x, 0);
            stopped.push(payment.lease_id);
        }
    }
    if !account.exhausted {
        // A second exhaustion within the grace does not lengthen it: whoever still waits has waited since the first.
        account.exhausted = true;
        account.exhausted_at_ms = x;
        account.grace_ends_ms = x.saturating_add(params(ctx)?.exhaustion_grace_ms);
    }
    save_account(ctx, &account)?;
    events::exhausted(ctx, &account);
    Ok((account, stopped))
}

/// Ends the exhaustion once no payment waits for money. All payments must have been saved.
pub(crate) fn end_exhaustion(ctx: &mut Ctx, account: &mut Account) -> Result<()> {
    if !account.exhausted {
        return Ok(());
    }
    let waits = |payment: &Payment| !is_running(payment) && !payment.closing && !payment.paused_by_owner;
    if !state::open_payments(ctx, account)?.iter().any(waits) {
        (account.exhausted, account.exhausted_at_ms, account.grace_ends_ms) = (false, 0, 0);
    }
    Ok(())
}

/// Lets a payment accrue at the agreed rate from now on.
fn run(ctx: &mut Ctx, account: &mut Account, payment: &mut Payment) -> Result<()> {
    let (now, rate) = (ctx.now(), payment.agreed_rate);
    let current = stream(payment);
    if current.last()?.rate != rate && !current.has_room_for(now, rate) {
        let (lease, since_ms) = (payment.lease_id, payment.settled_to_ms);
        return Err(EscrowError::TooManySegments {
            lease,
            found: current.segments.len().min(MAX_SEGMENTS),
            since_ms,
        }
        .into());
    }
    change(account, payment, |stream| stream.push(now, rate))?;
    check_runway(ctx, account, now)?;
    events::rate_changed(ctx, payment, now, rate);
    Ok(())
}

fn check_live(payment: &Payment) -> Result<()> {
    if payment.closing {
        return Err(EscrowError::WrongState {
            lease: payment.lease_id,
            why: "has ended",
        }
        .into());
    }
    Ok(())
}

/// A rate must be in bounds, alone and in the account's sum.
fn check_rate(account: &Account, current: u64, rate: u64) -> Result<()> {
    let others = account.rate_sum.saturating_sub(current);
    let max = MAX_RATE.min(u64::MAX.saturating_sub(others));
    if rate == 0 || rate > max {
        return Err(EscrowError::Rate { rate, max }.into());
    }
    Ok(())
}

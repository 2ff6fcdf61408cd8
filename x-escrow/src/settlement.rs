//! Settlement: attested time becomes money.

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{Ctx, Result};
use tenure_types::{Address, Amount, AttestedTime, Coin, Error};
use tenure_x_auth::FEE_COLLECTOR;
use tenure_x_bank as bank;

use crate::{
    accrual::MAX_BALANCE,
    errors::EscrowError,
    events, lots,
    params::BPS,
    payments::of_lease,
    state::{self, add_to, change, pool, save_account, save_payment, set_pool, stored_amount, take_from},
    NAME,
};

/// What a settlement moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What left the account.
    pub gross: Amount,
    /// Part of it that went to the protocol.
    pub take: Amount,
    /// Part of it that the provider may withdraw.
    pub net: Amount,
}

/// The instants at which a settlement of a lease asks for attested time, besides the end of what is final: bounded, however long the lease was
/// not settled. Error: the lease has no payment.
pub fn instants(ctx: &mut Ctx, lease: u64) -> Result<Vec<u64>> {
    let payment = state::payment(ctx, lease)?;
    let funded_until_ms = state::account(ctx, payment.account_id)?.funded_until_ms;
    let changes = payment.segments.iter().map(|segment| segment.from_ms);
    let open = changes.filter(|from_ms| *from_ms > payment.settled_to_ms);
    Ok(open.chain([payment.settled_to_ms, funded_until_ms]).collect())
}

/// Pays for the attested time of a lease up to what is final. `attested` must be exact at the payment's [`instants`]. A lease whose payment
/// is final, or of whose time nothing new is final, is paid nothing. Error: the lease has no payment.
pub fn settle(ctx: &mut Ctx, lease: u64, attested: &AttestedTime) -> Result<Settled> {
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    if account.open_payments.binary_search(&lease).is_err() {
        return Ok(Settled::default());
    }
    let settled = settle_in(ctx, &mut account, &mut payment, attested)?;
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)?;
    Ok(settled)
}

/// Leaves a lease unpaid for a whole epoch that is over and whose outcome is next to become final; what the lease ran before is settled. Must
/// come before the outcome is final. Error: the lease has no open payment; the epoch is not the next one, or not over.
pub fn except(ctx: &mut Ctx, lease: u64, attested: &AttestedTime, epoch_start: u64, epoch_end: u64) -> Result<()> {
    let (mut account, mut payment) = of_lease(ctx, lease)?;
    if account.open_payments.binary_search(&lease).is_err() {
        return Err(EscrowError::WrongState { lease, why: "is final" }.into());
    }
    let (final_until_ms, now_ms) = (attested.final_until(), ctx.now());
    // A later epoch would leave the time between unsettled for ever. An epoch that is not over would free time that has not passed: money
    // that another lease of the account could then be promised while this one still accrues.
    if final_until_ms != epoch_start || epoch_end > now_ms {
        let (start_ms, end_ms) = (epoch_start, epoch_end);
        return Err(EscrowError::NotNextEpoch {
            lease,
            start_ms,
            end_ms,
            final_until_ms,
            now_ms,
        }
        .into());
    }
    settle_in(ctx, &mut account, &mut payment, attested)?;
    let to = match payment.segments.last() {
        Some(end) if payment.closing => epoch_end.min(end.from_ms),
        _ => epoch_end,
    };
    let from = payment.settled_to_ms;
    if to > from {
        let excepted = state::stream(&payment).running_ms(from, to);
        payment.excepted_ms_total = payment.excepted_ms_total.saturating_add(excepted);
        change(&mut account, &mut payment, |stream| {
            stream.skip_to(to);
            Ok(())
        })?;
        events::excepted(ctx, &payment, from, to);
    }
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)
}

/// Pays a lease's earnings to its provider; none pays nothing. Error: the lease has no payment.
pub fn pay_out(ctx: &mut Ctx, lease: u64) -> Result<Coin> {
    let mut payment = state::payment(ctx, lease)?;
    let account = state::account(ctx, payment.account_id)?;
    let coin = pay_out_in(ctx, &account, &mut payment)?;
    save_payment(ctx, &payment)?;
    Ok(coin)
}

/// Settles records that are caught up.
pub(crate) fn settle_in(
    ctx: &mut Ctx,
    account: &mut Account,
    payment: &mut Payment,
    attested: &AttestedTime,
) -> Result<Settled> {
    let to = attested.final_until().min(account.funded_until_ms);
    if to <= payment.settled_to_ms {
        return Ok(Settled::default());
    }
    let mut pool = pool(account)?;
    let mut stream = state::stream(payment);
    let before = stream.contribution()?;
    let gross = stream.settle(to, |t| attested.attested_before(t))?;
    pool.replace(before, stream.contribution()?)?;
    // Both sides of balance · D + K fell by what was paid.
    pool.balance = pool.balance.checked_sub(gross).ok_or_else(|| {
        Error::internal(format!(
            "escrow account {} holds {}, owes {gross}",
            account.id, pool.balance
        ))
    })?;
    state::set_stream(payment, &stream);
    set_pool(account, &pool)?;
    let settled = split(payment, Amount::new(gross))?;
    if !settled.gross.is_zero() {
        lots::spend(&mut account.lots, settled.gross)?;
        add_to(&mut account.paid_total, settled.gross)?;
        let take = Coin::new(&account.denom, settled.take)?;
        bank::transfer(
            ctx,
            &Address::of_module(NAME),
            &Address::of_module(FEE_COLLECTOR),
            &take,
        )?;
        events::settled(ctx, account, payment, &settled);
    }
    Ok(settled)
}

/// Pays earnings out.
pub(crate) fn pay_out_in(ctx: &mut Ctx, account: &Account, payment: &mut Payment) -> Result<Coin> {
    let amount = stored_amount(&payment.earned)?;
    let coin = Coin::new(&account.denom, amount)?;
    if !amount.is_zero() {
        let provider: Address = payment.provider.parse().map_err(Error::from)?;
        bank::transfer(ctx, &Address::of_module(NAME), &provider, &coin)?;
        take_from(&mut payment.earned, amount)?;
        add_to(&mut payment.withdrawn_total, amount)?;
        events::paid_out(ctx, account, payment, amount);
    }
    Ok(coin)
}

/// Divides what was paid between protocol and provider. The protocol's share is the floor of its part of all that was ever paid, so it does not
/// depend on how often is settled.
fn split(payment: &mut Payment, gross: Amount) -> Result<Settled> {
    add_to(&mut payment.paid_total, gross)?;
    let paid = stored_amount(&payment.paid_total)?.get();
    if paid > MAX_BALANCE.saturating_mul(1 << 20) {
        return Err(Error::internal(format!("lease {} was paid {paid}", payment.lease_id)));
    }
    let due = Amount::new(
        paid.saturating_mul(payment.take_bps.into())
            .checked_div(BPS.into())
            .unwrap_or(0),
    );
    let take = due
        .minus(stored_amount(&payment.take_total)?)
        .map_err(|e| Error::internal(e.message))?;
    payment.take_total = due.to_string();
    let net = gross.minus(take).map_err(|e| Error::internal(e.message))?;
    add_to(&mut payment.earned, net)?;
    Ok(Settled { gross, take, net })
}

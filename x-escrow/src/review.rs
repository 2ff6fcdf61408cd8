//! What happens to an account while nobody acts, in order of time: settlements that must come by an instant, the review before its money runs out,
//! and the running out.
//!
//! Each is dated at the instant it was due and settles with what was final **then** (the caller says what was), so that whenever it is noticed the
//! result is the same. All three free the money of missed time; only the review draws on the owner's standing order. An account whose lead is 0 is
//! not reviewed.
//!
//! Whoever touches an account that runs applies what is due first ([`next_due`]); an account that would run out without having been reviewed is a
//! broken invariant.

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{Ctx, Result};
use tenure_types::AttestedTime;

use crate::{
    accrual::FOREVER,
    settlement::settle_in,
    state::{self, save_account, save_payment},
    top_up,
};

/// What time alone brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The payment is settled, so that nothing older than a bounded time is asked for: [`settle_due`].
    Settlement,
    /// The account is settled and topped up: [`review`].
    Review,
    /// The money runs out, unless settling frees some: [`settle_as_of`], then [`crate::catch_up`].
    Exhaustion,
}

/// When an account is reviewed next, if it is: its lead before its money runs out, once for each instant at which it would.
pub(crate) fn review_at(account: &Account) -> Option<u64> {
    let x = account.funded_until_ms;
    let due = account.review_lead_ms > 0 && account.rate_sum > 0 && x < FOREVER && x != account.reviewed_until_ms;
    due.then(|| x.saturating_sub(account.review_lead_ms))
}

/// When a payment must be settled, if it must.
pub(crate) fn settlement_at(payment: &Payment) -> Option<u64> {
    (payment.settle_by_ms > 0 && !payment.closing).then_some(payment.settle_by_ms)
}

/// The first that time alone brings for a lease's payment and its account, and when. Error: the lease has no payment.
pub fn next_due(ctx: &mut Ctx, lease: u64) -> Result<Option<(u64, Due)>> {
    let Some(payment) = state::find_payment(ctx, lease)? else {
        return Ok(None);
    };
    let account = state::account(ctx, payment.account_id)?;
    let exhaustion = (account.rate_sum > 0 && account.funded_until_ms < FOREVER).then_some(account.funded_until_ms);
    let all = [
        settlement_at(&payment).map(|at_ms| (at_ms, Due::Settlement)),
        review_at(&account).map(|at_ms| (at_ms, Due::Review)),
        exhaustion.map(|at_ms| (at_ms, Due::Exhaustion)),
    ];
    Ok(all.into_iter().flatten().min())
}

/// The settlement that was due at `at_ms`, with what was final then. The next one follows a fixed time later, whatever is settled meanwhile. Error:
/// the lease has no payment.
pub fn settle_due(ctx: &mut Ctx, lease: u64, attested: &AttestedTime, at_ms: u64) -> Result<()> {
    let every_ms = crate::params(ctx)?.settle_every_ms;
    let mut payment = state::payment(ctx, lease)?;
    payment.settle_by_ms = at_ms.saturating_add(every_ms.max(1));
    save_payment(ctx, &payment)?;
    settle_as_of(ctx, lease, attested).map(drop)
}

/// Settles a lease with what was final at an instant not after the account's X, and returns the X there is then. Nothing else is caught up. Error:
/// the lease has no payment.
pub fn settle_as_of(ctx: &mut Ctx, lease: u64, attested: &AttestedTime) -> Result<u64> {
    let mut payment = state::payment(ctx, lease)?;
    let mut account = state::account(ctx, payment.account_id)?;
    settle_in(ctx, &mut account, &mut payment, attested)?;
    save_payment(ctx, &payment)?;
    save_account(ctx, &account)?;
    Ok(account.funded_until_ms)
}

/// The review that was due for the account of a lease: missed time that was final then is freed; if that gains nothing, the owner's standing order is
/// drawn on. An account that gains nothing either way is left alone until its money runs out. Error: the lease has no payment.
pub fn review(ctx: &mut Ctx, lease: u64, attested: &AttestedTime) -> Result<()> {
    let id = state::payment(ctx, lease)?.account_id;
    let before = state::account(ctx, id)?.funded_until_ms;
    settle_as_of(ctx, lease, attested)?;
    let mut account = state::account(ctx, id)?;
    if account.funded_until_ms == before {
        let until_ms = before.saturating_add(account.review_lead_ms);
        top_up::draw(ctx, &mut account, until_ms)?;
    }
    if account.funded_until_ms == before {
        account.reviewed_until_ms = before;
    }
    save_account(ctx, &account)
}

//! How bids and leases end, each at the instant it was due, whenever that is noticed.
//!
//! Every handler and query reads bids and leases through [`bid`] and [`lease`], which first apply what came due in the meantime. So what
//! happens to money does not depend on when the queue got round to an object, only on the instants themselves (`docs/decisions.md`).
//!
//! A lease that runs can come to several ends; the earliest wins, and at one instant the order is expiry, default, exhaustion. Its end is
//! applied at that instant even if the money ran out later, and the money's running out is applied first if it came earlier.

use tenure_proto::tenure::{
    escrow::v1::AccountState,
    market::v1::{Bid, BidState, CloseReason, Lease, LeaseState},
};
use tenure_sdk::{records::required, Ctx, Error, Result};
use tenure_types::{Address, AttestedTime};
use tenure_x_escrow::Due;

use crate::{
    errors::MarketError,
    events,
    state::{self, save_bid, save_lease, stored_address, stored_bid, stored_lease},
};

/// A bid, caught up: it has expired if nobody may claim it any more and nobody did. Error: there is none.
pub fn bid(ctx: &mut Ctx, id: u64) -> Result<Bid> {
    let mut bid = stored_bid(ctx, id)?;
    if bid.state() == BidState::Open && bid.open_claims == 0 {
        let expires = state::deadline(bid.expires.as_ref(), "expires")?;
        if expires.passed(ctx.height(), ctx.now()) {
            close_bid(ctx, &mut bid, BidState::Expired)?;
        }
    }
    Ok(bid)
}

/// Ends an open bid without a lease: its claims go, its deposit returns.
pub(crate) fn close_bid(ctx: &mut Ctx, bid: &mut Bid, into: BidState) -> Result<()> {
    drop_claims(ctx, bid, None, "bid_closed")?;
    bid.state = into.into();
    save_bid(ctx, bid)?;
    tenure_x_escrow::close_account(ctx, bid.id)?;
    let account = tenure_x_escrow::account(ctx, bid.id)?;
    let how = if into == BidState::Cancelled {
        "cancelled"
    } else {
        "expired"
    };
    events::bid_closed(ctx, bid, how, &account.refunded_total);
    Ok(())
}

/// Deletes all claims on a bid, saying `why` of all but the winner. The bid itself is left for the caller to save.
pub(crate) fn drop_claims(ctx: &mut Ctx, bid: &mut Bid, winner: Option<&Address>, why: &str) -> Result<()> {
    if bid.open_claims == 0 {
        return Ok(());
    }
    for claim in state::claims(ctx, bid.id)? {
        let provider = stored_address(&claim.provider)?;
        ctx.delete(crate::NAME, &crate::keys::claim(bid.id, &provider))?;
        if winner != Some(&provider) {
            events::claim_closed(ctx, bid.id, &claim.provider, why);
        }
    }
    bid.open_claims = 0;
    Ok(())
}

/// A lease, caught up. Error: there is none.
pub fn lease(ctx: &mut Ctx, id: u64) -> Result<Lease> {
    let lease = stored_lease(ctx, id)?;
    catch_up(ctx, lease)
}

/// Applies what came due to a lease.
pub(crate) fn catch_up(ctx: &mut Ctx, mut lease: Lease) -> Result<Lease> {
    match lease.state() {
        LeaseState::Starting => {
            if let Some((at_ms, reason)) = end_of_starting(ctx, &lease)? {
                end(ctx, &mut lease, at_ms, reason)?;
            }
        }
        LeaseState::Active | LeaseState::Paused => catch_up_running(ctx, &mut lease)?,
        LeaseState::Closing => finish_if_final(ctx, &mut lease)?,
        LeaseState::Closed => {}
        LeaseState::Unspecified => return Err(Error::internal(format!("lease {} has no state", lease.id))),
    }
    Ok(lease)
}

/// Applies to a lease that has begun what came due, in order of time: what time does to its account, until the lease ends. At one instant the end
/// comes first.
fn catch_up_running(ctx: &mut Ctx, lease: &mut Lease) -> Result<()> {
    loop {
        let ends = end_of_running(ctx, lease)?;
        let now = ctx.now();
        let next = tenure_x_escrow::next_due(ctx, lease.id)?
            .filter(|(at_ms, _)| *at_ms <= now && ends.is_none_or(|(end_ms, _)| *at_ms < end_ms));
        match (next, ends) {
            (Some((at_ms, due)), _) => account_due(ctx, lease, at_ms, due)?,
            (None, Some((at_ms, reason))) => return end(ctx, lease, at_ms, reason),
            (None, None) => return Ok(()),
        }
    }
}

/// Applies what came due to a lease's account, with what was final then.
fn account_due(ctx: &mut Ctx, lease: &mut Lease, at_ms: u64, due: Due) -> Result<()> {
    let instants = tenure_x_escrow::instants(ctx, lease.id)?;
    let provider = stored_address(&lease.provider)?;
    let attested = tenure_x_provider::attested_as_of(ctx, &provider, &instants, at_ms)?;
    match due {
        Due::Settlement => {
            tenure_x_escrow::settle_due(ctx, lease.id, &attested, at_ms)?;
            forget_settled_time(ctx, &provider)
        }
        Due::Review => tenure_x_escrow::review(ctx, lease.id, &attested),
        Due::Exhaustion => {
            // Money that missed time frees at the last moment still puts it off.
            if tenure_x_escrow::settle_as_of(ctx, lease.id, &attested)? > at_ms {
                return Ok(());
            }
            pause_exhausted(ctx, lease, at_ms)
        }
    }
}

/// Tells a provider from when on its time may still be asked for.
fn forget_settled_time(ctx: &mut Ctx, provider: &Address) -> Result<()> {
    match tenure_x_escrow::oldest_unsettled(ctx, provider)? {
        Some(settled_to_ms) => tenure_x_provider::needed_from(ctx, provider, settled_to_ms),
        None => Ok(()),
    }
}

type End = (u64, CloseReason);

fn earliest(a: Option<End>, b: Option<End>) -> Option<End> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn end_of_starting(ctx: &mut Ctx, lease: &Lease) -> Result<Option<End>> {
    let start_by = state::deadline(lease.start_by.as_ref(), "start_by")?;
    let timeout = start_by
        .passed(ctx.height(), ctx.now())
        .then_some((start_by.ms, CloseReason::StartTimeout));
    Ok(earliest(timeout, default_end(ctx, lease)?))
}

fn end_of_running(ctx: &mut Ctx, lease: &Lease) -> Result<Option<End>> {
    let expiry = (lease.expires_ms <= ctx.now()).then_some((lease.expires_ms, CloseReason::Expired));
    let end = earliest(expiry, default_end(ctx, lease)?);
    Ok(earliest(end, exhausted_end(ctx, lease)?))
}

/// When a default of the provider ended the lease: the first one after the lease was made. One at the very instant of the match came before
/// it, because matches are made at the end of a block: the new lease does not concern it.
fn default_end(ctx: &mut Ctx, lease: &Lease) -> Result<Option<End>> {
    let owner = stored_address(&lease.provider)?;
    // What has been taken over is older than what has not.
    let taken = state::defaulting(ctx, &owner)?.map_or_else(Vec::new, |record| record.default_at_ms);
    let fresh = tenure_x_provider::load(ctx, &owner)?.default_at_ms;
    let mut all = taken.into_iter().chain(fresh);
    let at_ms = all.find(|at_ms| lease.created_ms < *at_ms && *at_ms <= ctx.now());
    Ok(at_ms.map(|at_ms| (at_ms, CloseReason::Default)))
}

/// When the grace after exhaustion ended the lease.
fn exhausted_end(ctx: &mut Ctx, lease: &Lease) -> Result<Option<End>> {
    let account = tenure_x_escrow::account(ctx, lease.bid_id)?;
    let over = account.exhausted && account.grace_ends_ms <= ctx.now();
    Ok(over.then_some((account.grace_ends_ms, CloseReason::Exhausted)))
}

/// The money ran out at `at_ms`: the payment stops there, and so does the lease until somebody tops up.
fn pause_exhausted(ctx: &mut Ctx, lease: &mut Lease, at_ms: u64) -> Result<()> {
    let stopped = tenure_x_escrow::catch_up(ctx, lease.bid_id)?;
    if stopped.contains(&lease.id) && lease.state() == LeaseState::Active {
        lease.state = LeaseState::Paused.into();
        save_lease(ctx, lease)?;
        events::lease_paused(ctx, lease, "exhaustion", at_ms);
    }
    Ok(())
}

/// Ends a lease at an instant that is not after now. One that never became ready is over at once and unpaid; any other closes when the
/// outcome of its last epoch is final.
pub(crate) fn end(ctx: &mut Ctx, lease: &mut Lease, at_ms: u64, reason: CloseReason) -> Result<()> {
    lease.reason = reason.into();
    // A payment that began cannot have ended before.
    lease.ended_ms = at_ms.max(lease.ready_ms);
    if lease.state() == LeaseState::Starting {
        events::lease_closing(ctx, lease, reason);
        return release(ctx, lease);
    }
    tenure_x_escrow::begin_close(ctx, lease.id, lease.ended_ms)?;
    lease.state = LeaseState::Closing.into();
    save_lease(ctx, lease)?;
    events::lease_closing(ctx, lease, reason);
    finish_if_final(ctx, lease)
}

/// Pays and returns the rest if the outcome of the lease's last epoch is final.
fn finish_if_final(ctx: &mut Ctx, lease: &mut Lease) -> Result<()> {
    let attested = attested(ctx, lease)?;
    if attested.final_until_ms < lease.ended_ms {
        return Ok(());
    }
    tenure_x_escrow::finish_close(ctx, lease.id, &attested)?;
    release(ctx, lease)
}

/// The last step of every lease: the account closes and the provider has its capacity back.
fn release(ctx: &mut Ctx, lease: &mut Lease) -> Result<()> {
    let account = tenure_x_escrow::account(ctx, lease.bid_id)?;
    if account.state() != AccountState::Closed {
        tenure_x_escrow::close_account(ctx, lease.bid_id)?;
    }
    let provider = stored_address(&lease.provider)?;
    tenure_x_provider::release(ctx, &provider, &state::resources(lease.resources.as_ref()))?;
    tenure_x_provider::close_lease(ctx, &provider)?;
    forget_settled_time(ctx, &provider)?;
    lease.state = LeaseState::Closed.into();
    lease.closed_ms = ctx.now();
    save_lease(ctx, lease)?;
    let account = tenure_x_escrow::account(ctx, lease.bid_id)?;
    events::lease_closed(ctx, lease, &account.paid_total, &account.refunded_total);
    Ok(())
}

/// Settles a lease as far as its provider's outcomes are final: missed time frees money, attested time becomes earnings.
pub(crate) fn settle(ctx: &mut Ctx, lease: &Lease) -> Result<()> {
    let attested = attested(ctx, lease)?;
    tenure_x_escrow::settle(ctx, lease.id, &attested)?;
    Ok(())
}

/// What settling a lease must know of its provider's time.
pub(crate) fn attested(ctx: &mut Ctx, lease: &Lease) -> Result<AttestedTime> {
    let instants = tenure_x_escrow::instants(ctx, lease.id)?;
    tenure_x_provider::attested(ctx, &stored_address(&lease.provider)?, &instants)
}

/// The lease of a bid, caught up. Error: the bid never became a lease.
pub(crate) fn lease_of_bid(ctx: &mut Ctx, bid: &Bid) -> Result<Option<Lease>> {
    if bid.state() == BidState::Leased {
        lease(ctx, bid.lease_id).map(Some)
    } else {
        Ok(None)
    }
}

/// Refuses a bid that is not open.
pub(crate) fn require_open(bid: &Bid) -> Result<()> {
    if bid.state() == BidState::Open {
        return Ok(());
    }
    Err(MarketError::BidNotOpen {
        id: bid.id,
        state: short(bid.state().as_str_name()),
    }
    .into())
}

/// Refuses a lease in another state than these.
pub(crate) fn require_state(lease: &Lease, allowed: &[LeaseState], wanted: &'static str) -> Result<()> {
    if allowed.contains(&lease.state()) {
        return Ok(());
    }
    Err(MarketError::LeaseState {
        id: lease.id,
        state: short(lease.state().as_str_name()),
        wanted,
    }
    .into())
}

/// Refuses a signer that is not the lease's tenant.
pub(crate) fn require_tenant(lease: &Lease, signer: &str) -> Result<()> {
    require_owner(signer, "tenant", "lease", lease.id, &lease.tenant)
}

/// Refuses a signer that is not the lease's provider.
pub(crate) fn require_provider(lease: &Lease, signer: &str) -> Result<()> {
    require_owner(signer, "provider", "lease", lease.id, &lease.provider)
}

pub(crate) fn require_owner(
    signer: &str,
    role: &'static str,
    object: &'static str,
    id: u64,
    owner: &str,
) -> Result<()> {
    // An address has one spelling: only lower case parses.
    if signer == owner {
        return Ok(());
    }
    let (signer, owner) = (signer.to_owned(), owner.to_owned());
    Err(MarketError::NotYours {
        signer,
        role,
        object,
        id,
        owner,
    }
    .into())
}

/// `OPEN` of `BID_STATE_OPEN`.
fn short(name: &'static str) -> &'static str {
    name.rsplit_once("STATE_").map_or(name, |(_, short)| short)
}

/// Refuses an account that would not pay for the least runway at `rate`.
pub(crate) fn require_runway(ctx: &mut Ctx, have: u128, rate: u64) -> Result<()> {
    let min_runway_ms = tenure_x_escrow::params(ctx)?.min_runway_ms;
    let owed = required(u128::from(rate).checked_mul(min_runway_ms.into()), "a bounded rate")?;
    let need = owed.div_ceil(tenure_types::MS_PER_HOUR.into());
    if have >= need {
        return Ok(());
    }
    Err(MarketError::Runway {
        have,
        need,
        rate,
        min_runway_ms,
    }
    .into())
}

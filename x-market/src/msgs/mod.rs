//! The market's messages, one file each.

mod amend_lease;
mod cancel_bid;
mod claim;
mod close_lease;
mod deposit;
mod finish_lease;
mod lease_ready;
mod pause_lease;
mod post_bid;
mod report_down;
mod resume_lease;
mod set_auto_top_up;
mod withdraw_claim;
mod withdraw_deposit;
mod withdraw_earnings;

use tenure_sdk::{MsgRoute, Result};
use tenure_types::Address;

use crate::errors::MarketError;

/// Rates are below this, base units per hour: escrow's arithmetic rests on it (`docs/decisions.md`).
pub(crate) const RATE_LIMIT: u64 = 1 << 60;

/// All messages of the market.
pub(crate) fn routes() -> Vec<MsgRoute> {
    vec![
        MsgRoute::of::<post_bid::PostBid>(),
        MsgRoute::of::<cancel_bid::CancelBid>(),
        MsgRoute::of::<claim::MakeClaim>(),
        MsgRoute::of::<withdraw_claim::WithdrawClaim>(),
        MsgRoute::of::<lease_ready::LeaseReady>(),
        MsgRoute::of::<close_lease::CloseLease>(),
        MsgRoute::of::<finish_lease::FinishLease>(),
        MsgRoute::of::<pause_lease::PauseLease>(),
        MsgRoute::of::<resume_lease::ResumeLease>(),
        MsgRoute::of::<amend_lease::AmendLease>(),
        MsgRoute::of::<report_down::ReportDown>(),
        MsgRoute::of::<deposit::Deposit>(),
        MsgRoute::of::<withdraw_deposit::WithdrawDeposit>(),
        MsgRoute::of::<set_auto_top_up::SetAutoTopUp>(),
        MsgRoute::of::<withdraw_earnings::WithdrawEarnings>(),
    ]
}

fn check_address(field: &'static str, text: &str) -> Result<()> {
    text.parse::<Address>()
        .map(drop)
        .map_err(|e| tenure_sdk::Error::from(e).context(field))
}

fn check_id(field: &'static str, id: u64) -> Result<()> {
    if id > 0 {
        return Ok(());
    }
    Err(MarketError::field(field, id, "ids begin at 1"))
}

fn check_rate(field: &'static str, rate: u64) -> Result<()> {
    if (1..RATE_LIMIT).contains(&rate) {
        return Ok(());
    }
    Err(MarketError::field(
        field,
        rate,
        format!("must be from 1 to {} base units per hour", RATE_LIMIT.saturating_sub(1)),
    ))
}

/// A list of leases: between 1 and `most`, ascending.
fn check_leases(ids: &[u64], most: usize) -> Result<()> {
    if ids.is_empty() || ids.len() > most {
        return Err(MarketError::field(
            "lease_ids",
            format!("{} ids long", ids.len()),
            format!("must be 1 to {most} ids"),
        ));
    }
    let ascending = ids.first().is_some_and(|id| *id > 0) && ids.windows(2).all(|pair| pair.first() < pair.last());
    if ascending {
        return Ok(());
    }
    Err(MarketError::field(
        "lease_ids",
        "out of order",
        "must ascend from 1 without repetition",
    ))
}

//! Timers that follow from a provider's record.

use tenure_proto::tenure::provider::v1::{Provider, ProviderStatus};
use tenure_sdk::{records, Ctx, Derived, Error, Result, Timer, TimerClass};
use tenure_types::{Address, Coin, Deadline};
use tenure_x_bank as bank;

use crate::{
    events,
    keys::{self, NAME, PROVIDERS},
    state,
};

/// Kind of the market's timer that a provider in default implies: class safety, module `market`, id = the owner's 20 bytes, due at the first
/// instant of `default_at_ms`. The market calls [`crate::take_defaults`] and ends the provider's leases, dated at those instants.
pub const DEFAULT_TIMER_KIND: u8 = 1;
/// The instant of the next deadline, its height not being known yet.
const DEADLINE_INSTANT: u8 = 1;
/// The next deadline with its height. Its own kind: the two timers of one deadline fall on the same instant.
const DEADLINE: u8 = 2;
/// The end of unbonding.
const UNBONDED: u8 = 3;
/// Module that ends leases.
const MARKET: &str = "market";

/// What follows from a record of this store.
pub(crate) fn derive(key: &[u8], value: &[u8], out: &mut Derived) -> Result<()> {
    let Some(owner) = key.strip_prefix(PROVIDERS) else {
        return Ok(());
    };
    let provider: Provider = records::decode(NAME, key, value)?;
    let mut timer = |class, module: &str, kind, due| {
        out.timer(&Timer {
            class,
            due,
            module: module.to_owned(),
            kind,
            id: owner.to_vec(),
        });
    };
    if let Some(next) = provider.next_deadline {
        let kind = if next.height == 0 { DEADLINE_INSTANT } else { DEADLINE };
        timer(
            TimerClass::Safety,
            NAME,
            kind,
            Deadline {
                height: next.height,
                ms: next.ms,
            },
        );
    }
    if let Some(at_ms) = provider.default_at_ms.first() {
        timer(
            TimerClass::Safety,
            MARKET,
            DEFAULT_TIMER_KIND,
            Deadline { height: 0, ms: *at_ms },
        );
    }
    // With an open lease the bond waits; the record of the last one's end brings the timer back.
    if let (ProviderStatus::Unbonding, 0, Some(end)) = (provider.status(), provider.open_leases, provider.unbonds) {
        timer(
            TimerClass::Archive,
            NAME,
            UNBONDED,
            Deadline {
                height: end.height,
                ms: end.ms,
            },
        );
    }
    Ok(())
}

/// Handles one of this module's timers.
pub(crate) fn due(ctx: &mut Ctx, timer: &Timer) -> Result<()> {
    let owner = Address::from_slice(&timer.id)
        .ok_or_else(|| Error::internal(format!("timer of provider {} names no owner", hex::encode(&timer.id))))?;
    match timer.kind {
        DEADLINE_INSTANT | DEADLINE => state::load(ctx, &owner).map(|_| ()),
        UNBONDED => remove(ctx, &owner),
        kind => Err(Error::internal(format!("module {NAME} has no timer of kind {kind}"))),
    }
}

/// Returns the bond and deletes the record. Gaps stay: see [`state::last_gap`].
fn remove(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    let provider = state::stored(ctx, owner)?;
    let bond: Coin = state::bond(&provider)?;
    bank::transfer(ctx, &Address::of_module(NAME), owner, &bond)?;
    ctx.delete(NAME, &keys::provider(owner))?;
    events::left(ctx, &provider.owner, &bond);
    Ok(())
}

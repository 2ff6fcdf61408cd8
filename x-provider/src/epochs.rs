//! Epochs and their outcomes: the grid, W, gaps, misses and defaults.
//!
//! Epoch k of a provider is `[offset + k·E, offset + (k+1)·E)`; `offset` spreads the providers' deadlines over time. An epoch may be attested
//! from its end on until its deadline: grace milliseconds after its end, and grace blocks after the first block at or after its end. Both must
//! pass, so neither fast blocks nor slow ones cut the provider's time short.
//!
//! The height part of a deadline is unknown before the epoch has ended. The record therefore stores `{0, end + grace}` and derives a timer from
//! it; when that timer fires (it does not if the epoch was attested), the height is looked up in the clock's history: either the deadline has
//! passed, or the record learns the height and derives its second timer from it. Whether a block handles that timer in time, late, or a message
//! comes first and runs [`finalise`] itself makes no difference: outcomes depend on the deadlines alone.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use tenure_proto::tenure::{
    base::v1::Deadline as ProtoDeadline,
    provider::v1::{Gap, Provider},
};
use tenure_sdk::{clock, derived::prefix_end, records, records::required, Ctx, Error, Result};
use tenure_types::{Address, AttestedTime, Deadline, GapSpan, Window};

use crate::{
    events,
    keys::{self, NAME},
    params::{grace, params},
    state,
};

/// Offset of an owner's grid: the first 8 bytes of SHA-256 of its address, big-endian, modulo the epoch.
pub(crate) fn grid_offset(owner: &Address, epoch_ms: u64) -> u64 {
    let digest = Sha256::digest(owner.as_bytes());
    let number = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    number.checked_rem(epoch_ms).unwrap_or(0)
}

/// First instant of epoch `k` and first instant after it, capped at the greatest instant.
pub fn epoch_range(provider: &Provider, k: u64) -> (u64, u64) {
    let start = |k: u64| {
        k.saturating_mul(provider.epoch_ms)
            .saturating_add(provider.grid_offset_ms)
    };
    (start(k), start(k.saturating_add(1)))
}

/// The epoch that holds an instant; 0 for instants before the grid.
pub fn epoch_of(provider: &Provider, t: u64) -> u64 {
    t.saturating_sub(provider.grid_offset_ms)
        .checked_div(provider.epoch_ms)
        .unwrap_or(0)
}

/// The deadline of an epoch that has ended by now, with its height part.
pub(crate) fn deadline(ctx: &mut Ctx, end_ms: u64, grace: Window) -> Result<Deadline> {
    let ended_at = clock::first_height_at(ctx, end_ms)?.unwrap_or_else(|| ctx.height());
    Ok(grace.from(ended_at, end_ms))
}

/// Makes every epoch whose deadline has passed by now final. Error: the provider does not exist.
pub fn catch_up(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    state::load(ctx, owner).map(|_| ())
}

/// A provider's attested time at some instants, caught up: exact at each of them and at the end of what is final, and nowhere else. The work is
/// one seek for each instant, however many gaps there are. Error: the provider does not exist; (internal) an instant lies before what
/// [`needed_from`] was told is needed.
pub fn attested(ctx: &mut Ctx, owner: &Address, instants: &[u64]) -> Result<AttestedTime> {
    let provider = state::load(ctx, owner)?;
    time_of(ctx, owner, &provider, provider.final_until_ms, instants)
}

/// The same as it was known at `at_ms`, an instant not after now, while leases were open: of outcomes that are final now, those that were final on
/// every chain in the first block at or after that instant. It depends on the instant alone, not on when it is asked.
///
/// An epoch's deadline passes at its end plus the grace, and no later than `grace.blocks` + 1 blocks after its end. A block advances live time by at
/// most `max_block_gap_ms`. So an epoch that ended the longer of the two before `at_ms` was final then.
pub fn attested_as_of(ctx: &mut Ctx, owner: &Address, instants: &[u64], at_ms: u64) -> Result<AttestedTime> {
    let provider = state::load(ctx, owner)?;
    let grace = grace(&params(ctx)?)?;
    let in_blocks = clock::params(ctx)?
        .max_block_gap_ms
        .saturating_mul(grace.blocks.saturating_add(1));
    let ended_by = at_ms.saturating_sub(grace.ms.max(in_blocks));
    let (boundary, _) = epoch_range(&provider, epoch_of(&provider, ended_by));
    // Before the grid begins nothing is known.
    let known = if boundary <= ended_by { boundary } else { 0 };
    let final_until_ms = provider.final_until_ms.min(known.max(provider.pruned_to_ms));
    time_of(ctx, owner, &provider, final_until_ms, instants)
}

/// Attested time with outcomes up to an instant on the grid that is not after W.
fn time_of(
    ctx: &mut Ctx,
    owner: &Address,
    provider: &Provider,
    final_until_ms: u64,
    instants: &[u64],
) -> Result<AttestedTime> {
    let asked: BTreeSet<u64> = instants
        .iter()
        .map(|t| *t.min(&final_until_ms))
        .chain([final_until_ms])
        .collect();
    if let Some(t) = asked.first().filter(|t| **t < provider.pruned_to_ms) {
        return Err(Error::internal(format!(
            "attested time of {owner} at {t} ms is asked for, gaps before {} ms are gone",
            provider.pruned_to_ms
        )));
    }
    let prefix = keys::gaps_of(owner);
    let end = prefix_end(&prefix);
    // By start. The last gap that begins at or before an instant decides; before all gaps it is the first one.
    let mut gaps: BTreeMap<u64, GapSpan> = BTreeMap::new();
    for t in asked {
        let after = keys::gap(owner, t.saturating_add(1));
        let mut found = ctx.range(NAME, &prefix, Some(&after), true, 1)?;
        if found.is_empty() {
            found = ctx.range(NAME, &after, end.as_deref(), false, 1)?;
        }
        for (key, value) in found {
            let gap: Gap = records::decode(NAME, &key, &value)?;
            let span = GapSpan {
                start_ms: gap.start_ms,
                end_ms: gap.end_ms,
                missed_before_ms: gap.missed_before_ms,
            };
            gaps.insert(gap.start_ms, span);
        }
    }
    Ok(AttestedTime {
        final_until_ms,
        gaps: gaps.into_values().collect(),
    })
}

/// Counts a lease that begins. With the first one the timers start; the time since the last lease has passed as missed. Error: the provider
/// does not exist.
pub fn open_lease(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    let mut provider = state::load(ctx, owner)?;
    if provider.open_leases == 0 {
        let (boundary, _) = epoch_range(&provider, epoch_of(&provider, ctx.now()));
        if boundary > provider.final_until_ms {
            miss_until(ctx, owner, &mut provider, boundary)?;
        }
        // "In a row" means while leases were held.
        provider.consecutive_misses = 0;
    }
    provider.open_leases = changed(provider.open_leases.checked_add(1), owner)?;
    provider.last_lease_ms = ctx.now();
    let grace = grace(&params(ctx)?)?;
    arm(&mut provider, grace);
    state::save(ctx, owner, &provider)
}

/// Counts a lease that ended for good. With the last one the timers stop, and a default that was pending has nothing left to end. Error: the
/// provider does not exist; (internal) it has no open lease.
pub fn close_lease(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    let mut provider = state::load(ctx, owner)?;
    provider.open_leases = changed(provider.open_leases.checked_sub(1), owner)?;
    if provider.open_leases == 0 {
        provider.next_deadline = None;
        provider.default_at_ms.clear();
        provider.consecutive_misses = 0;
    }
    state::save(ctx, owner, &provider)
}

/// Hands the instants of a provider's defaults over to the market, ascending: from here on it knows that the leases made before each have ended
/// there. None if there is nothing new. Error: the provider does not exist.
pub fn take_defaults(ctx: &mut Ctx, owner: &Address) -> Result<Vec<u64>> {
    let mut provider = state::load(ctx, owner)?;
    let taken = std::mem::take(&mut provider.default_at_ms);
    if !taken.is_empty() {
        state::save(ctx, owner, &provider)?;
    }
    Ok(taken)
}

/// Makes every epoch whose deadline has passed by now final; whether anything changed. In closed form: the deadlines' parts both grow with the
/// epoch, so the last epoch that has passed is found by bisection, and the result is that of going one by one.
pub(crate) fn finalise(ctx: &mut Ctx, owner: &Address, provider: &mut Provider) -> Result<bool> {
    let Some(next) = provider.next_deadline else {
        return Ok(false);
    };
    if ctx.now() < next.ms {
        return Ok(false);
    }
    if next.height > ctx.height() {
        return Ok(false);
    }
    let params = params(ctx)?;
    let grace = grace(&params)?;
    let (w, epoch_ms) = (provider.final_until_ms, provider.epoch_ms);
    let past = ctx.now().saturating_sub(next.ms).checked_div(epoch_ms).unwrap_or(0);
    // `passed` epochs from W on are known to be over, no more than `most` can be: their instants have not passed.
    let (mut passed, mut most) = (u64::from(next.height > 0), past.saturating_add(1));
    let end_of = |n: u64| w.saturating_add(n.saturating_mul(epoch_ms));
    while passed < most {
        // The upper middle: with no lag this asks once, for the one epoch.
        let middle = most.saturating_sub(most.saturating_sub(passed) / 2);
        if deadline(ctx, end_of(middle), grace)?.height <= ctx.height() {
            passed = middle;
        } else {
            most = middle.saturating_sub(1);
        }
    }
    if passed == 0 {
        let height = deadline(ctx, end_of(1), grace)?.height;
        provider.next_deadline = Some(ProtoDeadline { height, ms: next.ms });
        return Ok(true);
    }
    let until = end_of(passed);
    provider.missed_epochs = provider.missed_epochs.saturating_add(passed);
    miss_until(ctx, owner, provider, until)?;
    let defaults = count_misses(provider, passed, params.default_after_misses, |n| {
        let deadline = deadline(ctx, end_of(n), grace)?;
        Ok(clock::passed_at(ctx, deadline)?.unwrap_or_else(|| ctx.now()))
    })?;
    events::missed(ctx, provider, w, until);
    for at_ms in defaults {
        events::defaulted(ctx, provider, at_ms);
    }
    arm(provider, grace);
    // The next epoch's instant may have passed while its height has not: the record then says so at once, as if its timer had fired.
    if provider.next_deadline.is_some_and(|d| d.ms <= ctx.now()) {
        let next = deadline(ctx, until.saturating_add(epoch_ms), grace)?;
        provider.next_deadline = Some(ProtoDeadline {
            height: next.height,
            ms: next.ms,
        });
    }
    Ok(true)
}

/// Counts epochs missed in a row and notes the defaults this makes. Each is dated at the block in which the deadline of the epoch that was one too
/// many had passed in both parts (`passed_at(n)` for the n-th of these epochs), and the count restarts with that epoch. Nothing here depends on how
/// many epochs became final at once, nor on when anybody ends leases. A default dated at the deadline's instant, with its blocks still to come,
/// would end leases before what has happened to them by then.
///
/// A default ends the leases that were made before it. One that follows another without a lease made in between has none to end and is not
/// noted: without a new lease at most one waits for the market. Returns those noted.
fn count_misses(
    provider: &mut Provider,
    passed: u64,
    limit: u32,
    mut passed_at: impl FnMut(u64) -> Result<u64>,
) -> Result<Vec<u64>> {
    let limit = u64::from(limit.max(1));
    let before = u64::from(provider.consecutive_misses).min(limit.saturating_sub(1));
    let total = before.saturating_add(passed);
    let row = total.checked_rem(limit).unwrap_or(0);
    provider.consecutive_misses = u32::try_from(row).unwrap_or(u32::MAX);
    let mut dated = |nth: u64| passed_at(nth.saturating_mul(limit).saturating_sub(before));
    let all = total.checked_div(limit).unwrap_or(0);
    let mut noted = Vec::new();
    for nth in 1..=all {
        if provider.last_lease_ms < provider.last_default_ms {
            break;
        }
        let at_ms = dated(nth)?;
        // Several may fall on one block.
        if at_ms > provider.last_default_ms {
            provider.last_default_ms = at_ms;
            noted.push(at_ms);
        }
    }
    if all > 0 {
        provider.last_default_ms = provider.last_default_ms.max(dated(all)?);
    }
    provider.default_at_ms.extend_from_slice(&noted);
    Ok(noted)
}

/// Moves W to `until`, all of it missed: lengthens the last gap if it ends at W, or begins a new one.
pub(crate) fn miss_until(ctx: &mut Ctx, owner: &Address, provider: &mut Provider, until: u64) -> Result<()> {
    let from = provider.final_until_ms;
    let last = match provider.last_gap_start_ms {
        0 => None,
        start => Some(required(
            ctx.load::<Gap>(NAME, &keys::gap(owner, start))?,
            "provider's last gap",
        )?),
    };
    let gap = match last.filter(|gap| gap.end_ms == from) {
        Some(gap) => Gap { end_ms: until, ..gap },
        None => {
            prune(ctx, owner, provider)?;
            Gap {
                provider: provider.owner.clone(),
                start_ms: from,
                end_ms: until,
                missed_before_ms: provider.missed_total_ms,
            }
        }
    };
    let missed = changed(until.checked_sub(from), owner)?;
    provider.missed_total_ms = changed(provider.missed_total_ms.checked_add(missed), owner)?;
    provider.last_gap_start_ms = gap.start_ms;
    provider.final_until_ms = until;
    ctx.save(NAME, &keys::gap(owner, gap.start_ms), &gap)
}

/// Says that no instant before `from_ms` will be asked for while the leases of now are open: gaps that end by then and are older than the horizon
/// are dropped as new ones come. Error: the provider does not exist.
pub fn needed_from(ctx: &mut Ctx, owner: &Address, from_ms: u64) -> Result<()> {
    let mut provider = state::load(ctx, owner)?;
    if from_ms > provider.needed_from_ms {
        provider.needed_from_ms = from_ms;
        state::save(ctx, owner, &provider)?;
    }
    Ok(())
}

/// Drops up to two gaps that nobody asks for any more, when a new one is about to be written: so their number follows from the horizon, and the work
/// is bounded. What remains knows the missed time before it, so differences between later instants stay what they were.
fn prune(ctx: &mut Ctx, owner: &Address, provider: &mut Provider) -> Result<()> {
    let mut before_ms = ctx.now().saturating_sub(params(ctx)?.gap_horizon_ms);
    if provider.open_leases > 0 {
        before_ms = before_ms.min(provider.needed_from_ms);
    }
    let prefix = keys::gaps_of(owner);
    for (key, value) in ctx.range(NAME, &prefix, prefix_end(&prefix).as_deref(), false, 2)? {
        let gap: Gap = records::decode(NAME, &key, &value)?;
        if gap.end_ms <= before_ms {
            ctx.delete(NAME, &key)?;
            provider.pruned_to_ms = gap.end_ms;
        }
    }
    Ok(())
}

/// Sets the deadline of the epoch that begins at W, unless it is set: afresh after W moved, never while no lease is open.
pub(crate) fn arm(provider: &mut Provider, grace: Window) {
    let ms = provider
        .final_until_ms
        .saturating_add(provider.epoch_ms)
        .saturating_add(grace.ms);
    provider.next_deadline = match provider.next_deadline {
        _ if provider.open_leases == 0 => None,
        Some(same) if same.ms == ms => Some(same),
        _ => Some(ProtoDeadline { height: 0, ms }),
    };
}

fn changed<T>(value: Option<T>, owner: &Address) -> Result<T> {
    value.ok_or_else(|| Error::internal(format!("provider {owner}: a counter left its range")))
}

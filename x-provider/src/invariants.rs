//! What always holds of providers: see the crate's documentation.

use std::collections::BTreeMap;

use tenure_proto::tenure::provider::v1::{Gap, Provider, ProviderStatus};
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::{Address, Amount, BASE_DENOM};
use tenure_x_bank as bank;

use crate::{
    epochs::{deadline, epoch_of, epoch_range},
    params::{grace, params},
    state, NAME,
};

pub(crate) fn check(ctx: &mut Ctx) -> Result<()> {
    let mut gaps: BTreeMap<String, Vec<Gap>> = BTreeMap::new();
    for gap in state::all_gaps(ctx)? {
        gaps.entry(gap.provider.clone()).or_default().push(gap);
    }
    for (owner, gaps) in &gaps {
        check_gaps(gaps).map_err(|what| Error::internal(format!("gaps of {owner}: {what}")))?;
    }
    let mut bonds = Amount::ZERO;
    for provider in state::all(ctx)? {
        bonds = bonds.plus(state::bond(&provider)?.amount)?;
        let last = gaps.get(&provider.owner).and_then(|gaps| gaps.last());
        check_provider(&provider, last)
            .map_err(|what| Error::internal(format!("provider {}: {what}", provider.owner)))?;
        check_deadline(ctx, &provider)?;
    }
    let held = bank::balance(ctx, &Address::of_module(NAME), BASE_DENOM)?;
    if held != bonds {
        return Err(Error::internal(format!(
            "the provider module holds {held}{BASE_DENOM}, bonds add up to {bonds}"
        )));
    }
    Ok(())
}

fn check_gaps(gaps: &[Gap]) -> Result<(), String> {
    // Earlier ones may have been dropped.
    let (mut end, mut missed) = (None, gaps.first().map_or(0, |gap| gap.missed_before_ms));
    for gap in gaps {
        if gap.start_ms >= gap.end_ms || end.is_some_and(|end| end >= gap.start_ms) {
            return Err(format!("{gap:?} does not follow {end:?} with time between"));
        }
        if gap.missed_before_ms != missed {
            return Err(format!("{gap:?}: {missed} ms were missed before"));
        }
        missed = missed.saturating_add(gap.end_ms.saturating_sub(gap.start_ms));
        end = Some(gap.end_ms);
    }
    Ok(())
}

fn check_provider(provider: &Provider, last: Option<&Gap>) -> Result<(), String> {
    let (capacity, reserved) = (
        state::resources(provider.capacity.as_ref()),
        state::resources(provider.reserved.as_ref()),
    );
    if !reserved.fits_in(&capacity) {
        return Err(format!("{reserved} are reserved of {capacity}"));
    }
    let w = provider.final_until_ms;
    if epoch_range(provider, epoch_of(provider, w)).0 != w {
        return Err(format!("final_until_ms {w} is not on the grid"));
    }
    let (start, missed) = last.map_or((0, 0), |gap| {
        (
            gap.start_ms,
            gap.missed_before_ms
                .saturating_add(gap.end_ms.saturating_sub(gap.start_ms)),
        )
    });
    if (provider.last_gap_start_ms, provider.missed_total_ms) != (start, missed) {
        return Err(format!(
            "the last gap begins at {start} after {missed} ms missed in all"
        ));
    }
    if last.is_some_and(|gap| gap.end_ms > w) {
        return Err(format!("the last gap {last:?} ends after final_until_ms {w}"));
    }
    if provider.next_deadline.is_some() != (provider.open_leases > 0) {
        return Err(format!(
            "{} open leases, next deadline {:?}",
            provider.open_leases, provider.next_deadline
        ));
    }
    if last.is_some_and(|gap| gap.end_ms < provider.pruned_to_ms) || w < provider.pruned_to_ms {
        return Err(format!(
            "gaps before {} are gone, the last is {last:?}",
            provider.pruned_to_ms
        ));
    }
    let defaults = &provider.default_at_ms;
    let in_order =
        defaults.is_sorted_by(|a, b| a < b) && defaults.last().is_none_or(|at| *at <= provider.last_default_ms);
    if !in_order || (!defaults.is_empty() && provider.open_leases == 0) {
        return Err(format!(
            "in default at {defaults:?}, last at {}, with {} leases",
            provider.last_default_ms, provider.open_leases
        ));
    }
    if provider.unbonds.is_some() != (provider.status() == ProviderStatus::Unbonding) {
        return Err(format!("{:?} with unbonds {:?}", provider.status(), provider.unbonds));
    }
    Ok(())
}

/// A height part that is set is that of the epoch at W.
fn check_deadline(ctx: &mut Ctx, provider: &Provider) -> Result<()> {
    let Some(next) = provider.next_deadline else {
        return Ok(());
    };
    let grace = grace(&params(ctx)?)?;
    let end = provider.final_until_ms.saturating_add(provider.epoch_ms);
    let late = next.height > 0 && next.height > deadline(ctx, end, grace)?.height;
    if next.ms != end.saturating_add(grace.ms) || late {
        let owner = &provider.owner;
        return Err(Error::internal(format!(
            "provider {owner}: next deadline {next:?} is not that of the epoch until {end}"
        )));
    }
    Ok(())
}

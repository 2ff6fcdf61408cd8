//! What the market does at the end of every block: it goes on with defaults, finalises closing leases and makes matches, in that order, so
//! that capacity freed in a block can be let in it. Each part is bounded; what is left over follows in later blocks with the same amounts.

use std::collections::BTreeMap;

use tenure_proto::tenure::market::v1::{BidState, CloseReason, Defaulting, Lease, LeaseState, Params};
use tenure_sdk::{
    derived::prefix_end,
    records::{decode, required},
    Ctx, Error, Result,
};
use tenure_types::Address;

use crate::{
    capacity::{first_running, free, require_takes_leases},
    derive::{prefix, CLOSING_LEASES, READY_BIDS},
    events, keys,
    lifecycle::{catch_up, drop_claims},
    matching::{match_bids, Match, Offer, ReadyBid},
    params::params,
    state::{self, from_now, next_lease_id, save_bid, save_lease, stored_address, stored_bid, stored_lease, window},
    NAME,
};

/// Leases finalised per block.
const FINALS_PER_BLOCK: u32 = 500;
/// Providers with closing leases asked per block how far their outcomes are final.
const PROVIDERS_PER_BLOCK: u32 = 1_000;

pub(crate) fn end_block(ctx: &mut Ctx) -> Result<()> {
    let params = params(ctx)?;
    go_on_with_defaults(ctx, params.defaults_per_block)?;
    finalise(ctx, FINALS_PER_BLOCK, PROVIDERS_PER_BLOCK)?;
    make_matches(ctx, &params)
}

/// Takes a provider's defaults over, if there are new ones. Wherever they are read, its leases count as ended there, before as after; the records
/// follow at the end of blocks, or when the provider wants a new lease.
pub(crate) fn begin_default(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    let fresh = tenure_x_provider::take_defaults(ctx, owner)?;
    if fresh.is_empty() {
        return Ok(());
    }
    let mut record = state::defaulting(ctx, owner)?.unwrap_or_else(|| Defaulting {
        provider: owner.to_string(),
        default_at_ms: Vec::new(),
    });
    record.default_at_ms.extend(fresh);
    ctx.save(NAME, &keys::defaulting(owner), &record)
}

/// Ends the leases that a provider's defaults concern, oldest first, as long as `may_go_on` lets it; true once none is left. Error: what
/// `may_go_on` says; (internal) a lease outlives its end.
pub(crate) fn work_off_default(
    ctx: &mut Ctx,
    owner: &Address,
    mut may_go_on: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    let Some(record) = state::defaulting(ctx, owner)? else {
        return Ok(true);
    };
    let last = record.default_at_ms.last().copied().unwrap_or(0);
    // Ids ascend with time: the first lease made after the last default ends the list of those they concern.
    while let Some(lease) = first_running(ctx, owner)?.filter(|lease| lease.created_ms < last) {
        if !may_go_on()? {
            return Ok(false);
        }
        let lease = catch_up(ctx, lease)?;
        if matches!(
            lease.state(),
            LeaseState::Starting | LeaseState::Active | LeaseState::Paused
        ) {
            let id = lease.id;
            return Err(Error::internal(format!("lease {id} outlived its provider's default")));
        }
    }
    ctx.delete(NAME, &keys::defaulting(owner))?;
    Ok(true)
}

/// Ends at most `budget` leases of defaulting providers.
fn go_on_with_defaults(ctx: &mut Ctx, mut budget: u32) -> Result<()> {
    let mut may_go_on = || {
        let left = budget.checked_sub(1);
        budget = left.unwrap_or(0);
        Ok(left.is_some())
    };
    loop {
        let from = [keys::DEFAULTING];
        let Some((key, value)) = ctx.range(NAME, &from, prefix_end(&from).as_deref(), false, 1)?.pop() else {
            return Ok(());
        };
        let record: Defaulting = decode(NAME, &key, &value)?;
        if !work_off_default(ctx, &stored_address(&record.provider)?, &mut may_go_on)? {
            return Ok(());
        }
    }
}

/// Finalises closing leases whose provider's outcomes are final up to their end: at most so many leases, asking at most so many providers.
///
/// Nothing in a lease says when that is: attestations decide it. So the providers that have closing leases are asked in turn, each once, by
/// its oldest closing lease; one read for each such provider. Where the bounds end one round, the next begins.
pub fn finalise(ctx: &mut Ctx, most_finals: u32, most_providers: u32) -> Result<()> {
    let all = prefix(CLOSING_LEASES, &[]);
    let end = prefix_end(&all);
    let resumed: Option<Vec<u8>> = ctx.get(NAME, keys::FINAL_CURSOR)?;
    let mut stretches = match &resumed {
        Some(provider) => {
            let from = prefix(CLOSING_LEASES, provider);
            vec![(all.clone(), Some(from.clone())), (from, end)]
        }
        None => vec![(all.clone(), end)],
    };
    let (mut finals, mut providers) = (0_u32, 0_u32);
    let mut stopped_at = None;
    let mut asked: Option<Vec<u8>> = None;
    'round: while let Some((mut from, to)) = stretches.pop() {
        while let Some((entry, _)) = ctx.derived_range(&from, to.as_deref(), false, 1)?.pop() {
            let provider = entry
                .get(all.len()..all.len().saturating_add(20))
                .ok_or_else(|| Error::internal("market: a closing entry holds no provider"))?
                .to_vec();
            if asked.as_ref() != Some(&provider) {
                providers = providers.saturating_add(1);
                asked = Some(provider.clone());
            }
            if providers > most_providers || finals >= most_finals {
                stopped_at = Some(provider);
                break 'round;
            }
            let lease = stored_lease(ctx, keys::id_of(&entry)?)?;
            if catch_up(ctx, lease)?.state() == LeaseState::Closed {
                finals = finals.saturating_add(1);
                from = [entry.as_slice(), &[0]].concat();
            } else {
                // Its provider's outcomes are not final that far, and its later leases ended later.
                let Some(next) = prefix_end(&prefix(CLOSING_LEASES, &provider)) else {
                    break;
                };
                from = next;
            }
        }
    }
    match (stopped_at, resumed) {
        (Some(provider), _) => ctx.set(NAME, keys::FINAL_CURSOR, provider),
        (None, Some(_)) => ctx.delete(NAME, keys::FINAL_CURSOR),
        (None, None) => Ok(()),
    }
}

/// Matches the bids whose windows have closed, at most `matches_per_block`. A bid that no claim can serve loses its claims and waits for
/// others, so that every bid looked at leaves the queue: none can hold up those behind it.
fn make_matches(ctx: &mut Ctx, params: &Params) -> Result<()> {
    let ids = ready_bids(ctx, params.matches_per_block)?;
    if ids.is_empty() {
        return Ok(());
    }
    let (mut bids, mut room) = (Vec::new(), BTreeMap::new());
    for id in &ids {
        let bid = stored_bid(ctx, *id)?;
        let mut offers = Vec::new();
        for claim in state::claims(ctx, *id)? {
            let provider = stored_address(&claim.provider)?;
            if let std::collections::btree_map::Entry::Vacant(entry) = room.entry(provider) {
                let able = match require_takes_leases(ctx, &provider) {
                    Ok(provider) => Some(free(&provider)?),
                    Err(error) if error.is_internal() => return Err(error),
                    Err(_) => None,
                };
                entry.insert(able);
            }
            offers.push(Offer {
                provider,
                rate: claim.rate,
                height: claim.height,
            });
        }
        bids.push(ReadyBid {
            id: *id,
            closed_ms: required(bid.claims_close.as_ref(), "claims_close")?.ms,
            posted_height: bid.posted_height,
            priority: bid.priority,
            max_rate: bid.max_rate,
            resources: state::resources(bid.resources.as_ref()),
            claims: offers,
        });
    }
    let free = room
        .into_iter()
        .filter_map(|(provider, able)| able.map(|able| (provider, able)))
        .collect();
    let mut served = BTreeMap::new();
    for won in match_bids(bids, free)? {
        served.insert(won.bid, ());
        create_lease(ctx, params, &won)?;
    }
    for id in ids.into_iter().filter(|id| !served.contains_key(id)) {
        let mut bid = stored_bid(ctx, id)?;
        drop_claims(ctx, &mut bid, None, "void")?;
        save_bid(ctx, &bid)?;
    }
    Ok(())
}

/// The first bids in the order of [`crate::matching`] whose windows have closed and that have claims.
fn ready_bids(ctx: &mut Ctx, most: u32) -> Result<Vec<u64>> {
    const CHUNK: usize = 256;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut from = prefix(READY_BIDS, &[]);
    let to = prefix(READY_BIDS, &ctx.now().saturating_add(1).to_be_bytes());
    let mut ids = Vec::new();
    loop {
        let entries = ctx.derived_range(&from, Some(&to), false, CHUNK)?;
        for (key, height) in &entries {
            if ids.len() >= most {
                return Ok(ids);
            }
            // The window's instant has passed; its blocks may not have. Such bids are at most as old as the longest expiry has blocks.
            if keys::id_of(height)? <= ctx.height() {
                ids.push(keys::id_of(key)?);
            }
        }
        match entries.last() {
            Some((key, _)) if entries.len() == CHUNK => from = [key.as_slice(), &[0]].concat(),
            _ => return Ok(ids),
        }
    }
}

/// A bid becomes a lease.
fn create_lease(ctx: &mut Ctx, params: &Params, won: &Match) -> Result<()> {
    let mut bid = stored_bid(ctx, won.bid)?;
    tenure_x_provider::reserve(ctx, &won.provider, &state::resources(bid.resources.as_ref()))?;
    tenure_x_provider::open_lease(ctx, &won.provider)?;
    let start = window(required(params.start.as_ref(), "start")?);
    let lease = Lease {
        id: next_lease_id(ctx)?,
        bid_id: bid.id,
        tenant: bid.tenant.clone(),
        provider: won.provider.to_string(),
        resources: bid.resources,
        denom: bid.denom.clone(),
        rate: won.rate,
        manifest_hash: bid.manifest_hash.clone(),
        state: LeaseState::Starting.into(),
        created_ms: ctx.now(),
        created_height: ctx.height(),
        start_by: Some(from_now(ctx, start)),
        ready_ms: 0,
        expires_ms: 0,
        ended_ms: 0,
        closed_ms: 0,
        reason: CloseReason::Unspecified.into(),
        detail: String::new(),
        exit_code: 0,
        output_root: Vec::new(),
        duration_ms: bid.duration_ms,
    };
    save_lease(ctx, &lease)?;
    drop_claims(ctx, &mut bid, Some(&won.provider), "lost")?;
    bid.state = BidState::Leased.into();
    bid.lease_id = lease.id;
    save_bid(ctx, &bid)?;
    events::lease_created(ctx, &lease);
    Ok(())
}

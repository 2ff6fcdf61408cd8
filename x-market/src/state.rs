//! Typed reads and writes of the market's records, as they are stored: nothing here looks at the clock ([`crate::lifecycle`] does).

use tenure_proto::{
    cosmos::base::v1beta1::Coin as ProtoCoin,
    tenure::{
        base::v1::{Deadline as ProtoDeadline, Resources as ProtoResources, Window as ProtoWindow},
        market::v1::{Bid, Claim, Counters, Defaulting, Lease},
    },
};
use tenure_sdk::{
    derived::prefix_end,
    records::{decode, required},
    Ctx, Error, Result,
};
use tenure_types::{Address, Coin, Deadline, Resources, Window};

use crate::{errors::MarketError, keys, NAME};

/// A bid as stored. Error: there is none.
pub(crate) fn stored_bid(ctx: &mut Ctx, id: u64) -> Result<Bid> {
    ctx.load(NAME, &keys::bid(id))?
        .ok_or_else(|| MarketError::NoBid(id).into())
}

/// A lease as stored. Error: there is none.
pub(crate) fn stored_lease(ctx: &mut Ctx, id: u64) -> Result<Lease> {
    ctx.load(NAME, &keys::lease(id))?
        .ok_or_else(|| MarketError::NoLease(id).into())
}

pub(crate) fn save_bid(ctx: &mut Ctx, bid: &Bid) -> Result<()> {
    ctx.save(NAME, &keys::bid(bid.id), bid)
}

pub(crate) fn save_lease(ctx: &mut Ctx, lease: &Lease) -> Result<()> {
    ctx.save(NAME, &keys::lease(lease.id), lease)
}

/// A provider's claim on a bid.
pub(crate) fn claim(ctx: &mut Ctx, bid: u64, provider: &Address) -> Result<Option<Claim>> {
    ctx.load(NAME, &keys::claim(bid, provider))
}

/// A bid's claims in order of provider; there are at most `Params.max_claims_per_bid`.
pub fn claims(ctx: &mut Ctx, bid: u64) -> Result<Vec<Claim>> {
    let prefix = keys::claims(bid);
    let entries = ctx.range(NAME, &prefix, prefix_end(&prefix).as_deref(), false, usize::MAX)?;
    entries.iter().map(|(key, value)| decode(NAME, key, value)).collect()
}

/// The counters; zeros before the first id.
pub(crate) fn counters(ctx: &mut Ctx) -> Result<Counters> {
    Ok(ctx.load(NAME, keys::COUNTERS)?.unwrap_or_default())
}

/// The next bid's id.
pub(crate) fn next_bid_id(ctx: &mut Ctx) -> Result<u64> {
    let mut counters = counters(ctx)?;
    counters.last_bid_id = next(counters.last_bid_id)?;
    ctx.save(NAME, keys::COUNTERS, &counters)?;
    Ok(counters.last_bid_id)
}

/// The next lease's id.
pub(crate) fn next_lease_id(ctx: &mut Ctx) -> Result<u64> {
    let mut counters = counters(ctx)?;
    counters.last_lease_id = next(counters.last_lease_id)?;
    ctx.save(NAME, keys::COUNTERS, &counters)?;
    Ok(counters.last_lease_id)
}

fn next(last: u64) -> Result<u64> {
    last.checked_add(1)
        .ok_or_else(|| Error::internal("market: ids are exhausted"))
}

/// Whether a provider's leases are being ended by a default, and since when.
pub(crate) fn defaulting(ctx: &mut Ctx, provider: &Address) -> Result<Option<Defaulting>> {
    ctx.load(NAME, &keys::defaulting(provider))
}

/// An address in a stored record. Error (internal): it does not parse.
pub(crate) fn stored_address(text: &str) -> Result<Address> {
    text.parse()
        .map_err(|e| Error::internal(format!("market: stored address: {e}")))
}

/// Resources of a record or message; absent means nothing of each.
pub(crate) fn resources(of: Option<&ProtoResources>) -> Resources {
    of.map_or_else(Resources::default, |r| Resources {
        cpu_milli: r.cpu_milli,
        memory_bytes: r.memory_bytes,
        storage_bytes: r.storage_bytes,
    })
}

/// A stored deadline. Error (internal): absent.
pub(crate) fn deadline(of: Option<&ProtoDeadline>, what: &str) -> Result<Deadline> {
    let of = required(of, what)?;
    Ok(Deadline {
        height: of.height,
        ms: of.ms,
    })
}

/// The end of a window that begins now.
pub(crate) fn from_now(ctx: &Ctx, window: Window) -> ProtoDeadline {
    let end = window.from(ctx.height(), ctx.now());
    ProtoDeadline {
        height: end.height,
        ms: end.ms,
    }
}

pub(crate) fn window(of: &ProtoWindow) -> Window {
    Window {
        blocks: of.blocks,
        ms: of.ms,
    }
}

/// A message's coin. Error: absent or malformed.
pub(crate) fn coin(of: Option<&ProtoCoin>, field: &'static str) -> Result<Coin> {
    let of = of.ok_or_else(|| MarketError::field(field, "absent", "must be given"))?;
    Coin::from_parts(&of.denom, &of.amount).map_err(|e| e.context(field))
}

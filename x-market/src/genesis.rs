//! The market's section of genesis: `params`, `counters`, `bids`, `claims`, `leases`, `defaulting`, `final_cursor` (hex). All but `params`
//! may be absent.

use serde_json::{json, Value};
use tenure_proto::tenure::market::v1::{Bid, Claim, Counters, Defaulting, Lease, Params};
use tenure_sdk::{
    derived::prefix_end,
    json::{field, from_json, list, to_json},
    records::decode,
    Ctx, Error, Result,
};
use tenure_types::Address;

use crate::{
    keys,
    params::{check, params},
    state::counters,
    NAME,
};

/// Greatest id that a genesis may have given out: no chain makes so many that the rest runs out.
const MAX_ID: u64 = u64::MAX / 2;

pub(crate) fn init(ctx: &mut Ctx, section: &Value) -> Result<()> {
    let params: Params = from_json(field(section, "params")?)?;
    check(&params)?;
    ctx.save(NAME, keys::PARAMS, &params)?;
    let counters: Counters = section.get("counters").map(from_json).transpose()?.unwrap_or_default();
    if counters.last_bid_id.max(counters.last_lease_id) > MAX_ID {
        return Err(invalid(&format!(
            "counters are {} and {}, must be at most {MAX_ID}",
            counters.last_bid_id, counters.last_lease_id
        )));
    }
    if counters != Counters::default() {
        ctx.save(NAME, keys::COUNTERS, &counters)?;
    }
    for (i, bid) in list::<Bid>(section, "bids")?.iter().enumerate() {
        check_id(&format!("bids[{i}]"), bid.id, counters.last_bid_id)?;
        ctx.save(NAME, &keys::bid(bid.id), bid)?;
    }
    for claim in list::<Claim>(section, "claims")? {
        let provider: Address = claim.provider.parse()?;
        ctx.save(NAME, &keys::claim(claim.bid_id, &provider), &claim)?;
    }
    for (i, lease) in list::<Lease>(section, "leases")?.iter().enumerate() {
        check_id(&format!("leases[{i}]"), lease.id, counters.last_lease_id)?;
        ctx.save(NAME, &keys::lease(lease.id), lease)?;
    }
    for record in list::<Defaulting>(section, "defaulting")? {
        let provider: Address = record.provider.parse()?;
        let now_ms = ctx.now();
        let at_ms = &record.default_at_ms;
        if !at_ms.is_sorted_by(|a, b| a < b) || at_ms.last().is_none_or(|last| *last > now_ms) {
            return Err(invalid(&format!(
                "defaulting: default_at_ms of {provider} is {at_ms:?}, must be instants in order, at most genesis_time, {now_ms} ms"
            )));
        }
        ctx.save(NAME, &keys::defaulting(&provider), &record)?;
    }
    if let Some(cursor) = section.get("final_cursor").and_then(Value::as_str) {
        let cursor = hex::decode(cursor)
            .ok()
            .filter(|bytes| bytes.len() == 20)
            .ok_or_else(|| invalid("final_cursor must be 20 bytes in hex"))?;
        ctx.set(NAME, keys::FINAL_CURSOR, cursor)?;
    }
    Ok(())
}

pub(crate) fn export(ctx: &mut Ctx) -> Result<Value> {
    let mut section = json!({
        "params": to_json(&params(ctx)?)?,
        "counters": to_json(&counters(ctx)?)?,
        "bids": all::<Bid>(ctx, keys::BID)?,
        "claims": all::<Claim>(ctx, keys::CLAIM)?,
        "leases": all::<Lease>(ctx, keys::LEASE)?,
        "defaulting": all::<Defaulting>(ctx, keys::DEFAULTING)?,
    });
    if let (Some(cursor), Some(fields)) = (ctx.get(NAME, keys::FINAL_CURSOR)?, section.as_object_mut()) {
        fields.insert("final_cursor".to_owned(), hex::encode(cursor).into());
    }
    Ok(section)
}

fn all<M: prost::Message + prost::Name + Default>(ctx: &mut Ctx, kind: u8) -> Result<Vec<Value>> {
    let entries = ctx.range(NAME, &[kind], prefix_end(&[kind]).as_deref(), false, usize::MAX)?;
    entries
        .iter()
        .map(|(key, value)| to_json(&decode::<M>(NAME, key, value)?))
        .collect()
}

fn check_id(place: &str, id: u64, last: u64) -> Result<()> {
    if (1..=last).contains(&id) {
        return Ok(());
    }
    Err(invalid(&format!(
        "{place}.id is {id}, must be from 1 to the counter, {last}"
    )))
}

fn invalid(why: &str) -> Error {
    Error::sdk(tenure_sdk::codes::INVALID_REQUEST, format!("genesis: market: {why}"))
}

//! Typed reads and writes of providers and their gaps.

use tenure_proto::tenure::{
    base::v1::Resources as ProtoResources,
    provider::v1::{Gap, Provider},
};
use tenure_sdk::{derived::prefix_end, records, records::required, Ctx, Error, Result};
use tenure_types::{Address, Coin, Resources};

use crate::{
    epochs,
    errors::ProviderError,
    keys::{self, NAME},
};

/// A provider, caught up: every epoch whose deadline has passed by now is final. Error: it does not exist.
pub fn load(ctx: &mut Ctx, owner: &Address) -> Result<Provider> {
    let mut provider = stored(ctx, owner)?;
    if epochs::finalise(ctx, owner, &mut provider)? {
        save(ctx, owner, &provider)?;
    }
    Ok(provider)
}

/// A provider as it was last written. Error: it does not exist.
pub(crate) fn stored(ctx: &mut Ctx, owner: &Address) -> Result<Provider> {
    find(ctx, owner)?.ok_or_else(|| ProviderError::NotFound(owner.to_string()).into())
}

/// A provider as it was last written, if it exists.
pub(crate) fn find(ctx: &mut Ctx, owner: &Address) -> Result<Option<Provider>> {
    ctx.load(NAME, &keys::provider(owner))
}

/// Writes a provider's record.
pub(crate) fn save(ctx: &mut Ctx, owner: &Address, provider: &Provider) -> Result<()> {
    ctx.save(NAME, &keys::provider(owner), provider)
}

/// All providers in order of owner.
pub(crate) fn all(ctx: &mut Ctx) -> Result<Vec<Provider>> {
    let entries = ctx.range(
        NAME,
        keys::PROVIDERS,
        prefix_end(keys::PROVIDERS).as_deref(),
        false,
        usize::MAX,
    )?;
    entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect()
}

/// All gaps in order of owner and start.
pub(crate) fn all_gaps(ctx: &mut Ctx) -> Result<Vec<Gap>> {
    let entries = ctx.range(NAME, keys::GAPS, prefix_end(keys::GAPS).as_deref(), false, usize::MAX)?;
    entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect()
}

/// An owner's last gap. It outlives the provider's record, so that a provider that comes back goes on where it was.
pub(crate) fn last_gap(ctx: &mut Ctx, owner: &Address) -> Result<Option<Gap>> {
    let prefix = keys::gaps_of(owner);
    let last = ctx.range(NAME, &prefix, prefix_end(&prefix).as_deref(), true, 1)?;
    last.first()
        .map(|(key, value)| records::decode(NAME, key, value))
        .transpose()
}

/// A provider's bond.
pub(crate) fn bond(provider: &Provider) -> Result<Coin> {
    let bond = required(provider.bond.as_ref(), "provider.bond")?;
    Coin::from_parts(&bond.denom, &bond.amount).map_err(|e| Error::internal(format!("bond of {}: {e}", provider.owner)))
}

/// A resource vector of a record or message; absent is none of anything.
pub(crate) fn resources(parts: Option<&ProtoResources>) -> Resources {
    let parts = parts.copied().unwrap_or_default();
    Resources {
        cpu_milli: parts.cpu_milli,
        memory_bytes: parts.memory_bytes,
        storage_bytes: parts.storage_bytes,
    }
}

/// A resource vector as records carry it.
pub(crate) fn proto_resources(parts: &Resources) -> ProtoResources {
    ProtoResources {
        cpu_milli: parts.cpu_milli,
        memory_bytes: parts.memory_bytes,
        storage_bytes: parts.storage_bytes,
    }
}

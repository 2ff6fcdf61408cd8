//! Declared capacity and what leases hold of it.

use tenure_proto::tenure::provider::v1::{Provider, ProviderStatus};
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::{Address, Resources};

use crate::{errors::ProviderError, state};

/// Whether a provider takes new leases now: it is active and no default waits for the market.
pub fn may_take_leases(provider: &Provider) -> bool {
    provider.status() == ProviderStatus::Active && provider.default_at_ms.is_empty()
}

/// Takes capacity for a lease. Error: the provider does not exist, or has less left; the message says how much.
pub fn reserve(ctx: &mut Ctx, owner: &Address, amount: &Resources) -> Result<()> {
    let mut provider = state::load(ctx, owner)?;
    let capacity = state::resources(provider.capacity.as_ref());
    let reserved = state::resources(provider.reserved.as_ref()).plus(*amount)?;
    if !reserved.fits_in(&capacity) {
        return Err(ProviderError::Capacity {
            owner: provider.owner,
            capacity,
            reserved,
        }
        .into());
    }
    provider.reserved = Some(state::proto_resources(&reserved));
    state::save(ctx, owner, &provider)
}

/// Gives capacity of a lease back. Error: the provider does not exist; (internal) less was reserved.
pub fn release(ctx: &mut Ctx, owner: &Address, amount: &Resources) -> Result<()> {
    let mut provider = state::load(ctx, owner)?;
    let reserved = state::resources(provider.reserved.as_ref()).minus(*amount);
    let reserved = reserved.map_err(|e| Error::internal(format!("reservation of {owner}: {e}")))?;
    provider.reserved = Some(state::proto_resources(&reserved));
    state::save(ctx, owner, &provider)
}

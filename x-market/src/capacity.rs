//! What a provider may and can take on.

use tenure_proto::tenure::{
    market::v1::{Lease, LeaseState},
    provider::v1::{Provider, ProviderStatus},
};
use tenure_sdk::{derived::prefix_end, Ctx, Result};
use tenure_types::{Address, Resources};

use crate::{
    derive::{prefix, CLOSING_LEASES, DUE_LEASES_OF, RUNNING_LEASES_OF},
    end_block::{begin_default, work_off_default},
    errors::MarketError,
    keys::id_of,
    lifecycle::{bid, lease},
    state::{resources, stored_lease},
};

/// Capacity that no lease holds. Error (internal): more is reserved than there is.
pub(crate) fn free(provider: &Provider) -> Result<Resources> {
    resources(provider.capacity.as_ref())
        .minus(resources(provider.reserved.as_ref()))
        .map_err(|e| tenure_sdk::Error::internal(format!("provider {}: {e}", provider.owner)))
}

/// The provider, if it may take leases now: active, and with nothing of what its other leases came to left to be done. Error: it may not; says
/// why.
pub(crate) fn require_takes_leases(ctx: &mut Ctx, owner: &Address) -> Result<Provider> {
    end_due_leases(ctx, owner)?;
    let provider = tenure_x_provider::load(ctx, owner)?;
    let refuse = |why: String| {
        Err(MarketError::ProviderNotActive {
            provider: owner.to_string(),
            why,
        }
        .into())
    };
    if provider.status() != ProviderStatus::Active {
        return refuse(format!(
            "it is {}",
            provider.status().as_str_name().trim_start_matches("PROVIDER_STATUS_")
        ));
    }
    Ok(provider)
}

/// Most leases of a provider that are ended or finalised for it before it may take another one.
const MOST_LAGGING: u32 = 100;

/// Ends what is due among a provider's leases, whether by a default, a deadline of the lease or money that ran out, and finalises what can be.
/// Capacity, the count of open leases and with it the provider's misses then are what they would be had the queue no lag: whoever reads them to
/// decide about a new lease begins here. One step for each such lease, none if nothing lags. Error: more lag than one transaction or one match may work off; the provider takes no lease until the queue has caught up.
fn end_due_leases(ctx: &mut Ctx, owner: &Address) -> Result<()> {
    let mut left = MOST_LAGGING;
    let mut step = || match left.checked_sub(1) {
        Some(less) => {
            left = less;
            Ok(())
        }
        None => Err(MarketError::ProviderNotActive {
            provider: owner.to_string(),
            why: format!("more than {MOST_LAGGING} of its leases are still to be ended"),
        }),
    };
    begin_default(ctx, owner)?;
    work_off_default(ctx, owner, || {
        step()?;
        Ok(true)
    })?;
    let (mut after, now) = (None, ctx.now());
    while let Some(next) = tenure_x_escrow::next_change(ctx, owner, after, now)? {
        step()?;
        let bid = bid(ctx, next.1)?;
        lease(ctx, bid.lease_id)?;
        after = Some(next);
    }
    let mut from = prefix(DUE_LEASES_OF, owner.as_bytes());
    let to = [from.as_slice(), &ctx.now().saturating_add(1).to_be_bytes()].concat();
    while let Some((key, height)) = ctx.derived_range(&from, Some(&to), false, 1)?.pop() {
        step()?;
        if id_of(&height)? <= ctx.height() {
            lease(ctx, id_of(&key)?)?;
        }
        from = [key.as_slice(), &[0]].concat();
    }
    let mut from = prefix(CLOSING_LEASES, owner.as_bytes());
    let to = prefix_end(&from);
    while let Some((key, _)) = ctx.derived_range(&from, to.as_deref(), false, 1)?.pop() {
        if lease(ctx, id_of(&key)?)?.state() == LeaseState::Closing {
            // Later ones ended later: their outcomes are open too.
            break;
        }
        step()?;
        from = [key.as_slice(), &[0]].concat();
    }
    Ok(())
}

/// The oldest of a provider's leases that are starting, active or paused, as stored.
pub(crate) fn first_running(ctx: &mut Ctx, owner: &Address) -> Result<Option<Lease>> {
    let mine = prefix(RUNNING_LEASES_OF, owner.as_bytes());
    match ctx.derived_range(&mine, prefix_end(&mine).as_deref(), false, 1)?.pop() {
        Some((key, _)) => stored_lease(ctx, id_of(&key)?).map(Some),
        None => Ok(None),
    }
}

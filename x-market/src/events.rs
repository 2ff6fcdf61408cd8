//! What the market says happened. Names and values of attributes are for clients; every amount is in base units with its denom beside it.

use tenure_proto::tenure::market::v1::{Bid, CloseReason, Lease};
use tenure_sdk::Ctx;
use tenure_types::Address;

/// A bid was posted and funded.
pub(crate) fn bid_posted(ctx: &mut Ctx, bid: &Bid, deposit: &str) {
    ctx.emit(
        "tenure.market.v1.EventBidPosted",
        [
            ("bid_id", bid.id.to_string()),
            ("tenant", bid.tenant.clone()),
            ("max_rate", bid.max_rate.to_string()),
            ("denom", bid.denom.clone()),
            ("deposit", deposit.to_owned()),
        ],
    );
}

/// A bid ended without a lease: `cancelled` or `expired`.
pub(crate) fn bid_closed(ctx: &mut Ctx, bid: &Bid, how: &str, refunded: &str) {
    ctx.emit(
        "tenure.market.v1.EventBidClosed",
        [
            ("bid_id", bid.id.to_string()),
            ("tenant", bid.tenant.clone()),
            ("state", how.to_owned()),
            ("refunded", refunded.to_owned()),
            ("denom", bid.denom.clone()),
        ],
    );
}

/// A provider offered, or improved its offer.
pub(crate) fn claimed(ctx: &mut Ctx, bid: u64, provider: &Address, rate: u64) {
    let attributes = [
        ("bid_id", bid.to_string()),
        ("provider", provider.to_string()),
        ("rate", rate.to_string()),
    ];
    ctx.emit("tenure.market.v1.EventClaimed", attributes);
}

/// A claim is gone without having won: `withdrawn`, `evicted` by a better one, `lost` to one, `void` because its provider had no room or took
/// no leases when the match was made, or `bid_closed`.
pub(crate) fn claim_closed(ctx: &mut Ctx, bid: u64, provider: &str, why: &str) {
    let attributes = [
        ("bid_id", bid.to_string()),
        ("provider", provider.to_owned()),
        ("why", why.to_owned()),
    ];
    ctx.emit("tenure.market.v1.EventClaimClosed", attributes);
}

/// A bid became a lease.
pub(crate) fn lease_created(ctx: &mut Ctx, lease: &Lease) {
    ctx.emit(
        "tenure.market.v1.EventLeaseCreated",
        [
            ("lease_id", lease.id.to_string()),
            ("bid_id", lease.bid_id.to_string()),
            ("tenant", lease.tenant.clone()),
            ("provider", lease.provider.clone()),
            ("rate", lease.rate.to_string()),
            ("denom", lease.denom.clone()),
        ],
    );
}

/// A lease's workload runs.
pub(crate) fn lease_ready(ctx: &mut Ctx, lease: &Lease) {
    ctx.emit(
        "tenure.market.v1.EventLeaseReady",
        parties(lease, [("expires_ms", lease.expires_ms.to_string())]),
    );
}

/// A lease was paused (`by` the `tenant` or `exhaustion`).
pub(crate) fn lease_paused(ctx: &mut Ctx, lease: &Lease, by: &str, at_ms: u64) {
    let rest = [("by", by.to_owned()), ("at_ms", at_ms.to_string())];
    ctx.emit("tenure.market.v1.EventLeasePaused", parties(lease, rest));
}

/// A lease goes on.
pub(crate) fn lease_resumed(ctx: &mut Ctx, lease: &Lease) {
    ctx.emit("tenure.market.v1.EventLeaseResumed", parties(lease, []));
}

/// A lease has another price.
pub(crate) fn lease_amended(ctx: &mut Ctx, lease: &Lease) {
    let rest = [("rate", lease.rate.to_string()), ("denom", lease.denom.clone())];
    ctx.emit("tenure.market.v1.EventLeaseAmended", parties(lease, rest));
}

/// A lease was excepted from an epoch.
pub(crate) fn lease_excepted(ctx: &mut Ctx, lease: &Lease, epoch: u64) {
    ctx.emit(
        "tenure.market.v1.EventLeaseExcepted",
        parties(lease, [("epoch", epoch.to_string())]),
    );
}

/// A lease ended; its last payment follows when its last epoch's outcome is final.
pub(crate) fn lease_closing(ctx: &mut Ctx, lease: &Lease, reason: CloseReason) {
    let rest = [
        ("reason", reason.as_str_name().to_owned()),
        ("ended_ms", lease.ended_ms.to_string()),
    ];
    ctx.emit("tenure.market.v1.EventLeaseClosing", parties(lease, rest));
}

/// Everything a lease owed is paid and the rest returned.
pub(crate) fn lease_closed(ctx: &mut Ctx, lease: &Lease, paid: &str, refunded: &str) {
    let rest = [
        ("reason", lease.reason().as_str_name().to_owned()),
        ("paid", paid.to_owned()),
        ("refunded", refunded.to_owned()),
        ("denom", lease.denom.clone()),
    ];
    ctx.emit("tenure.market.v1.EventLeaseClosed", parties(lease, rest));
}

fn parties<const N: usize>(lease: &Lease, rest: [(&'static str, String); N]) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("lease_id", lease.id.to_string()),
        ("tenant", lease.tenant.clone()),
        ("provider", lease.provider.clone()),
    ];
    attributes.extend(rest);
    attributes
}

//! What clients are told.

use tenure_proto::tenure::provider::v1::Provider;
use tenure_sdk::Ctx;
use tenure_types::Coin;

/// A provider registered and paid its bond.
pub(crate) fn registered(ctx: &mut Ctx, provider: &Provider, bond: &Coin) {
    let parts = [
        ("provider", provider.owner.clone()),
        ("amount", bond.amount.to_string()),
        ("denom", bond.denom.clone()),
    ];
    ctx.emit("tenure.provider.v1.EventRegistered", parts);
}

/// A provider changed what it declares.
pub(crate) fn updated(ctx: &mut Ctx, provider: &Provider) {
    ctx.emit("tenure.provider.v1.EventUpdated", [("provider", &provider.owner)]);
}

/// A provider's status changed.
pub(crate) fn status_changed(ctx: &mut Ctx, provider: &Provider) {
    let status = provider.status().as_str_name();
    ctx.emit(
        "tenure.provider.v1.EventStatus",
        [("provider", provider.owner.as_str()), ("status", status)],
    );
}

/// An epoch was attested.
pub(crate) fn attested(ctx: &mut Ctx, provider: &Provider, epoch: u64) {
    let parts = [
        ("provider", provider.owner.clone()),
        ("epoch", epoch.to_string()),
        ("root", hex::encode(&provider.last_root)),
    ];
    ctx.emit("tenure.provider.v1.EventAttested", parts);
}

/// A stretch of time became missed while leases were open.
pub(crate) fn missed(ctx: &mut Ctx, provider: &Provider, from_ms: u64, to_ms: u64) {
    let parts = [
        ("provider", provider.owner.clone()),
        ("from_ms", from_ms.to_string()),
        ("to_ms", to_ms.to_string()),
        ("consecutive_misses", provider.consecutive_misses.to_string()),
    ];
    ctx.emit("tenure.provider.v1.EventMissed", parts);
}

/// A provider defaulted: its leases made before `at_ms` end there.
pub(crate) fn defaulted(ctx: &mut Ctx, provider: &Provider, at_ms: u64) {
    let parts = [
        ("provider", provider.owner.clone()),
        ("default_at_ms", at_ms.to_string()),
    ];
    ctx.emit("tenure.provider.v1.EventDefaulted", parts);
}

/// A provider is gone and has its bond back.
pub(crate) fn left(ctx: &mut Ctx, owner: &str, bond: &Coin) {
    let parts = [
        ("provider", owner.to_owned()),
        ("amount", bond.amount.to_string()),
        ("denom", bond.denom.clone()),
    ];
    ctx.emit("tenure.provider.v1.EventLeft", parts);
}

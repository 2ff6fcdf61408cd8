//! What clients are told. Every movement of money has one event with its amount and denom.

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{Ctx, Result};
use tenure_types::Amount;

use crate::settlement::Settled;

/// Money came in.
pub(crate) fn deposited(ctx: &mut Ctx, account: &Account, depositor: &str, amount: Amount) {
    let parts = [
        ("account", account.id.to_string()),
        ("depositor", depositor.to_owned()),
        ("amount", amount.to_string()),
        ("denom", account.denom.clone()),
    ];
    ctx.emit("tenure.escrow.v1.EventDeposited", parts);
}

/// Money went back to who had paid it in.
pub(crate) fn refunded(ctx: &mut Ctx, account: &Account, depositor: &str, amount: Amount) {
    let parts = [
        ("account", account.id.to_string()),
        ("depositor", depositor.to_owned()),
        ("amount", amount.to_string()),
        ("denom", account.denom.clone()),
    ];
    ctx.emit("tenure.escrow.v1.EventRefunded", parts);
}

/// Attested time was paid for: `gross` left the account, `take` of it went to the protocol, `net` is the provider's to withdraw.
pub(crate) fn settled(ctx: &mut Ctx, account: &Account, payment: &Payment, settled: &Settled) {
    let parts = [
        ("account", account.id.to_string()),
        ("lease", payment.lease_id.to_string()),
        ("provider", payment.provider.clone()),
        ("gross", settled.gross.to_string()),
        ("take", settled.take.to_string()),
        ("net", settled.net.to_string()),
        ("denom", account.denom.clone()),
        ("settled_to_ms", payment.settled_to_ms.to_string()),
    ];
    ctx.emit("tenure.escrow.v1.EventSettled", parts);
}

/// Earnings reached the provider.
pub(crate) fn paid_out(ctx: &mut Ctx, account: &Account, payment: &Payment, amount: Amount) {
    let parts = [
        ("account", account.id.to_string()),
        ("lease", payment.lease_id.to_string()),
        ("provider", payment.provider.clone()),
        ("amount", amount.to_string()),
        ("denom", account.denom.clone()),
    ];
    ctx.emit("tenure.escrow.v1.EventPaidOut", parts);
}

/// From an instant on a payment accrues at another rate; 0 is a pause, an exhaustion or the end.
pub(crate) fn rate_changed(ctx: &mut Ctx, payment: &Payment, from_ms: u64, rate: u64) {
    let parts = [
        ("account", payment.account_id),
        ("lease", payment.lease_id),
        ("from_ms", from_ms),
        ("rate", rate),
    ];
    ctx.emit(
        "tenure.escrow.v1.EventRateChanged",
        parts.map(|(name, value)| (name, value.to_string())),
    );
}

/// An epoch is not paid for, whatever its outcome.
pub(crate) fn excepted(ctx: &mut Ctx, payment: &Payment, from_ms: u64, to_ms: u64) {
    let parts = [
        ("account", payment.account_id),
        ("lease", payment.lease_id),
        ("from_ms", from_ms),
        ("to_ms", to_ms),
    ];
    ctx.emit(
        "tenure.escrow.v1.EventExcepted",
        parts.map(|(name, value)| (name, value.to_string())),
    );
}

/// An account's money ran out.
pub(crate) fn exhausted(ctx: &mut Ctx, account: &Account) {
    let parts = [
        ("account", account.id),
        ("at_ms", account.exhausted_at_ms),
        ("grace_ends_ms", account.grace_ends_ms),
    ];
    ctx.emit(
        "tenure.escrow.v1.EventExhausted",
        parts.map(|(name, value)| (name, value.to_string())),
    );
}

/// An account closed for good.
pub(crate) fn closed(ctx: &mut Ctx, account: &Account) {
    ctx.emit(
        "tenure.escrow.v1.EventAccountClosed",
        [("account", account.id.to_string())],
    );
}

/// The owner set, replaced or stopped its standing order; 0 is none.
pub(crate) fn auto_top_up_set(ctx: &mut Ctx, account: &Account) {
    let order = account.auto_top_up.clone().unwrap_or_default();
    let amount = |text: String| if text.is_empty() { "0".to_owned() } else { text };
    let parts = [
        ("account", account.id.to_string()),
        ("maximum", amount(order.maximum)),
        ("part", amount(order.amount)),
        ("denom", account.denom.clone()),
    ];
    ctx.emit("tenure.escrow.v1.EventAutoTopUpSet", parts);
}

/// The standing order was drawn on: the deposit has an event of its own, this one says what may still be drawn.
pub(crate) fn auto_topped_up(ctx: &mut Ctx, account: &Account) {
    let remaining = account.auto_top_up.clone().unwrap_or_default().remaining;
    let parts = [
        ("account", account.id.to_string()),
        ("remaining", remaining),
        ("denom", account.denom.clone()),
        ("funded_until_ms", account.funded_until_ms.to_string()),
    ];
    ctx.emit("tenure.escrow.v1.EventAutoToppedUp", parts);
}

/// The standing order could not be drawn on for `missing`.
pub(crate) fn top_up_failed(ctx: &mut Ctx, account: &Account, missing: Amount, why: &str) -> Result<()> {
    let parts = [
        ("account", account.id.to_string()),
        ("missing", missing.to_string()),
        ("denom", account.denom.clone()),
        ("why", why.to_owned()),
        ("funded_until_ms", account.funded_until_ms.to_string()),
    ];
    ctx.emit("tenure.escrow.v1.EventTopUpFailed", parts);
    Ok(())
}

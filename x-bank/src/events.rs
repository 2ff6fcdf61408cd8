//! Cosmos' own events, which explorers and wallets read.

use tenure_sdk::Ctx;
use tenure_types::{Address, Coins};

/// Coins left an account.
pub(crate) fn coin_spent(ctx: &mut Ctx, spender: &Address, amount: &Coins) {
    ctx.emit(
        "coin_spent",
        [("spender", spender.to_string()), ("amount", amount.to_string())],
    );
}

/// Coins reached an account.
pub(crate) fn coin_received(ctx: &mut Ctx, receiver: &Address, amount: &Coins) {
    ctx.emit(
        "coin_received",
        [("receiver", receiver.to_string()), ("amount", amount.to_string())],
    );
}

/// Coins left one account for another: all that wallets and explorers look for, each text made once.
pub(crate) fn moved(ctx: &mut Ctx, sender: &Address, recipient: &Address, amount: &Coins) {
    if ctx.is_silent() {
        return;
    }
    let (from, to, coins) = (sender.to_string(), recipient.to_string(), amount.to_string());
    ctx.emit("coin_spent", [("spender", from.clone()), ("amount", coins.clone())]);
    ctx.emit("coin_received", [("receiver", to.clone()), ("amount", coins.clone())]);
    ctx.emit(
        "transfer",
        [("recipient", to), ("sender", from.clone()), ("amount", coins)],
    );
    ctx.emit("message", [("sender", from)]);
}

/// Coins moved from one account to another; `message.sender` lets clients find the transactions of a sender.
pub(crate) fn transfer(ctx: &mut Ctx, sender: &Address, recipient: &Address, amount: &Coins) {
    let parts = [
        ("recipient", recipient.to_string()),
        ("sender", sender.to_string()),
        ("amount", amount.to_string()),
    ];
    ctx.emit("transfer", parts);
    ctx.emit("message", [("sender", sender.to_string())]);
}

/// Coins came into being.
pub(crate) fn coinbase(ctx: &mut Ctx, minter: &Address, amount: &Coins) {
    ctx.emit(
        "coinbase",
        [("minter", minter.to_string()), ("amount", amount.to_string())],
    );
}

/// Coins ceased to be.
pub(crate) fn burn(ctx: &mut Ctx, burner: &Address, amount: &Coins) {
    ctx.emit("burn", [("burner", burner.to_string()), ("amount", amount.to_string())]);
}

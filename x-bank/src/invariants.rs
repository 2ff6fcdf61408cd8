//! What always holds of balances.

use tenure_sdk::{derived::prefix_end, Ctx, Error, Result};
use tenure_types::{Address, Coin, Coins};
use tenure_x_auth as auth;

use crate::{keys, state, NAME};

/// Supply = Σ balances for each denom; no record is zero; every holder has an account.
pub(crate) fn check(ctx: &mut Ctx) -> Result<()> {
    let mut sum = Coins::default();
    let mut last = None;
    for (address, coin) in all_balances(ctx)? {
        if coin.amount.is_zero() {
            return Err(Error::internal(format!(
                "the stored balance of {address} in {} is zero",
                coin.denom
            )));
        }
        if last != Some(address) && auth::account(ctx, &address)?.is_none() {
            return Err(Error::internal(format!("{address} holds {coin} but has no account")));
        }
        last = Some(address);
        sum.add(&coin).map_err(|e| Error::internal(e.message))?;
    }
    let supply = supplies(ctx)?;
    if supply != sum {
        return Err(Error::internal(format!("supply is {supply}, balances add up to {sum}")));
    }
    Ok(())
}

/// Every balance in order of address and denom.
pub(crate) fn all_balances(ctx: &mut Ctx) -> Result<Vec<(Address, Coin)>> {
    let entries = ctx.range(
        NAME,
        keys::BALANCES,
        prefix_end(keys::BALANCES).as_deref(),
        false,
        usize::MAX,
    )?;
    let holder = |key: &[u8]| key.get(1..21).and_then(Address::from_slice);
    entries
        .iter()
        .map(|(key, value)| {
            let address = holder(key)
                .ok_or_else(|| Error::internal(format!("key bank/{} holds no address", hex::encode(key))))?;
            Ok((address, state::coin_of(key, 21, value)?))
        })
        .collect()
}

/// Every supply. Error (internal): one is stored as zero.
pub(crate) fn supplies(ctx: &mut Ctx) -> Result<Coins> {
    let mut coins = Coins::default();
    for (key, value) in ctx.range(
        NAME,
        keys::SUPPLY,
        prefix_end(keys::SUPPLY).as_deref(),
        false,
        usize::MAX,
    )? {
        let coin = state::coin_of(&key, keys::SUPPLY.len(), &value)?;
        if coin.amount.is_zero() {
            return Err(Error::internal(format!("the stored supply of {} is zero", coin.denom)));
        }
        coins.add(&coin)?;
    }
    Ok(coins)
}

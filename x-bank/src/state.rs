//! Balances and supply, and the ways in which they change.

use tenure_proto::cosmos::bank::v1beta1::Params;
use tenure_sdk::{derived::prefix_end, Ctx, Error, Result};
use tenure_types::{sdk, Address, Amount, Coin, Coins};
use tenure_x_auth as auth;

use crate::{
    events,
    keys::{self, NAME, PARAMS},
};

/// What an account has of a denom.
pub fn balance(ctx: &mut Ctx, address: &Address, denom: &str) -> Result<Amount> {
    amount_at(ctx, &keys::balance(address, denom))
}

/// All that an account has.
pub fn balances(ctx: &mut Ctx, address: &Address) -> Result<Coins> {
    let prefix = keys::balances_of(address);
    let mut coins = Coins::default();
    for (key, value) in ctx.range(NAME, &prefix, prefix_end(&prefix).as_deref(), false, usize::MAX)? {
        coins.add(&coin_of(&key, prefix.len(), &value)?)?;
    }
    Ok(coins)
}

/// How much of a denom there is.
pub fn supply(ctx: &mut Ctx, denom: &str) -> Result<Amount> {
    amount_at(ctx, &keys::supply(denom))
}

/// Moves one coin; a coin of zero moves nothing and emits nothing. Creates the recipient's account if need be. Error (insufficient funds):
/// the sender has less.
pub fn transfer(ctx: &mut Ctx, from: &Address, to: &Address, coin: &Coin) -> Result<()> {
    transfer_coins(ctx, from, to, &Coins::from(coin.clone()))
}

/// Moves coins, all or none: on an error the caller's transaction or [`Ctx::atomically`] takes back what was moved. No coins move nothing.
/// Error (insufficient funds): the sender has less of one.
pub fn transfer_coins(ctx: &mut Ctx, from: &Address, to: &Address, coins: &Coins) -> Result<()> {
    if coins.is_empty() {
        return Ok(());
    }
    subtract_all(ctx, from, coins)?;
    add_all(ctx, to, coins)?;
    events::moved(ctx, from, to, coins);
    Ok(())
}

/// Takes coins from an account; they must be given to others in the same message, or the supply no longer adds up.
pub(crate) fn spend(ctx: &mut Ctx, from: &Address, coins: &Coins) -> Result<()> {
    subtract_all(ctx, from, coins)?;
    events::coin_spent(ctx, from, coins);
    Ok(())
}

/// Gives an account coins that [`spend`] or [`mint`] took from somewhere.
pub(crate) fn receive(ctx: &mut Ctx, to: &Address, coins: &Coins) -> Result<()> {
    add_all(ctx, to, coins)?;
    events::coin_received(ctx, to, coins);
    Ok(())
}

/// Makes coins out of nothing: for genesis. Error: the supply would exceed 2^128 - 1.
pub fn mint(ctx: &mut Ctx, to: &Address, coins: &Coins) -> Result<()> {
    for coin in coins.iter() {
        let key = keys::supply(&coin.denom);
        let supply = amount_at(ctx, &key)?.plus(coin.amount)?;
        set_amount(ctx, &key, supply)?;
    }
    receive(ctx, to, coins)?;
    events::coinbase(ctx, to, coins);
    Ok(())
}

/// Destroys coins. Error (insufficient funds): the account has less.
pub fn burn(ctx: &mut Ctx, from: &Address, coins: &Coins) -> Result<()> {
    spend(ctx, from, coins)?;
    for coin in coins.iter() {
        let key = keys::supply(&coin.denom);
        let supply = amount_at(ctx, &key)?;
        let left = supply.minus(coin.amount).map_err(|_| {
            Error::internal(format!(
                "supply of {} is {supply}, less than the balance of {}",
                coin.denom, coin.amount
            ))
        })?;
        set_amount(ctx, &key, left)?;
    }
    events::burn(ctx, from, coins);
    Ok(())
}

/// The parameters in force. A record of defaults alone would have no bytes, so it is not stored.
pub(crate) fn params(ctx: &mut Ctx) -> Result<Params> {
    Ok(ctx.load(NAME, PARAMS)?.unwrap_or_default())
}

/// The coin of a stored amount whose key ends with the denom.
pub(crate) fn coin_of(key: &[u8], prefix_len: usize, value: &[u8]) -> Result<Coin> {
    let denom = key.get(prefix_len..).and_then(|denom| std::str::from_utf8(denom).ok());
    let denom = denom.ok_or_else(|| Error::internal(format!("key bank/{} holds no denom", hex::encode(key))))?;
    Ok(Coin {
        denom: denom.to_owned(),
        amount: amount_of(key, value)?,
    })
}

/// A stored amount.
pub(crate) fn amount_of(key: &[u8], value: &[u8]) -> Result<Amount> {
    let bytes = value.try_into().map_err(|_| {
        Error::internal(format!(
            "amount bank/{} has {} bytes, not 16",
            hex::encode(key),
            value.len()
        ))
    })?;
    Ok(Amount::new(u128::from_be_bytes(bytes)))
}

fn amount_at(ctx: &mut Ctx, key: &[u8]) -> Result<Amount> {
    match ctx.peek(NAME, key)? {
        Some(value) => amount_of(key, value),
        None => Ok(Amount::ZERO),
    }
}

fn set_amount(ctx: &mut Ctx, key: &[u8], amount: Amount) -> Result<()> {
    if amount.is_zero() {
        return ctx.delete(NAME, key);
    }
    ctx.set(NAME, key, amount.get().to_be_bytes().to_vec())
}

fn subtract_all(ctx: &mut Ctx, from: &Address, coins: &Coins) -> Result<()> {
    coins.iter().try_for_each(|coin| subtract(ctx, from, coin))
}

fn add_all(ctx: &mut Ctx, to: &Address, coins: &Coins) -> Result<()> {
    auth::ensure_exists(ctx, to)?;
    coins.iter().try_for_each(|coin| add(ctx, to, coin))
}

fn subtract(ctx: &mut Ctx, from: &Address, coin: &Coin) -> Result<()> {
    let key = keys::balance(from, &coin.denom);
    let has = amount_at(ctx, &key)?;
    let left = has.minus(coin.amount).map_err(|_| {
        let denom = &coin.denom;
        let message = format!("spendable balance {has}{denom} is smaller than {coin}: insufficient funds");
        Error::sdk(sdk::INSUFFICIENT_FUNDS, message)
    })?;
    set_amount(ctx, &key, left)
}

fn add(ctx: &mut Ctx, to: &Address, coin: &Coin) -> Result<()> {
    let key = keys::balance(to, &coin.denom);
    let sum = amount_at(ctx, &key)?.plus(coin.amount)?;
    set_amount(ctx, &key, sum)
}

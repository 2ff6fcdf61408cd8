//! Automatic top-up: the owner's standing order to pay into the account before its money runs out.
//!
//! A draw is whole times the order's amount, as many as fund the account for another review's lead, at most what is left of the order and what the
//! owner's bank balance holds. It is a deposit of the owner like any other: a lot, a least size, a refund of what is not spent.

use tenure_proto::tenure::escrow::v1::{Account, AutoTopUp, TopUpOrder};
use tenure_sdk::{codes, Ctx, Result};
use tenure_types::{Address, Amount};
use tenure_x_bank as bank;

use crate::{
    accounts::{add, check_open, check_owner},
    accrual::MAX_BALANCE,
    errors::EscrowError,
    events,
    params::{min_deposit, params},
    state::{self, pool, save_account, stored_amount, take_from},
};

/// Checks an order for itself: both amounts are given and in proportion. Error: names the field.
pub fn check_order(order: &TopUpOrder) -> Result<()> {
    let (maximum, amount) = amounts(order)?;
    if amount.is_zero() {
        return Err(refusal("amount", &order.amount, "above 0".to_owned()));
    }
    if maximum < amount || maximum.get() > MAX_BALANCE {
        let limit = format!("from the amount, {amount}, to {MAX_BALANCE}");
        return Err(refusal("maximum", &order.maximum, limit));
    }
    Ok(())
}

/// Sets, replaces or (without one) stops an account's order. The next review follows it, at once if its instant has passed. Error: the account is
/// not open or not the owner's; the order is malformed or its amount below the least deposit.
pub fn set_auto_top_up(ctx: &mut Ctx, id: u64, owner: &Address, order: Option<&TopUpOrder>) -> Result<()> {
    let mut account = state::account(ctx, id)?;
    check_open(&account)?;
    check_owner(&account, &owner.to_string())?;
    account.auto_top_up = match order {
        None => None,
        Some(order) => {
            check_order(order)?;
            let min = min_deposit(&params(ctx)?)?;
            if amounts(order)?.1 < min {
                return Err(refusal("amount", &order.amount, format!("at least {min}")));
            }
            Some(AutoTopUp {
                maximum: order.maximum.clone(),
                amount: order.amount.clone(),
                remaining: order.maximum.clone(),
            })
        }
    };
    account.reviewed_until_ms = 0;
    events::auto_top_up_set(ctx, &account);
    save_account(ctx, &account)
}

/// Draws what funds the account until an instant, as far as order and owner can. Too little money is an event.
pub(crate) fn draw(ctx: &mut Ctx, account: &mut Account, until_ms: u64) -> Result<()> {
    let Some(order) = account.auto_top_up.clone() else {
        return Ok(());
    };
    let owner: Address = account.owner.parse().map_err(tenure_sdk::Error::from)?;
    let (amount, remaining) = (stored_amount(&order.amount)?, stored_amount(&order.remaining)?);
    let pool = pool(account)?;
    let times = |sum: u128| sum.checked_div(amount.get()).unwrap_or(0);
    let allowed = remaining.get().min(MAX_BALANCE.saturating_sub(pool.balance));
    let wanted = pool
        .shortfall(until_ms)?
        .div_ceil(amount.get().max(1))
        .min(times(allowed));
    let held = bank::balance(ctx, &owner, &account.denom)?;
    let possible = wanted.min(times(held.get()));
    if possible > 0 {
        let drawn = Amount::new(amount.get().saturating_mul(possible));
        let mut topped = account.clone();
        match ctx.atomically(|ctx| add(ctx, &mut topped, &owner, drawn)) {
            Ok(()) => {
                if let Some(order) = topped.auto_top_up.as_mut() {
                    take_from(&mut order.remaining, drawn)?;
                }
                *account = topped;
                events::auto_topped_up(ctx, account);
            }
            Err(error) if error.is_internal() || is_out_of_gas(&error) => return Err(error),
            Err(error) => return events::top_up_failed(ctx, account, drawn, &error.message),
        }
    }
    if possible < wanted {
        let missing = Amount::new(amount.get().saturating_mul(wanted.saturating_sub(possible)));
        let why = format!("the owner has {held} {}", account.denom);
        return events::top_up_failed(ctx, account, missing, &why);
    }
    Ok(())
}

fn is_out_of_gas(error: &tenure_sdk::Error) -> bool {
    error.codespace == "sdk" && error.code == codes::OUT_OF_GAS
}

/// Maximum and amount of an order.
fn amounts(order: &TopUpOrder) -> Result<(Amount, Amount)> {
    let parse = |field, text: &str| -> Result<Amount> {
        text.parse()
            .map_err(|_| refusal(field, text, "an integer, decimal".to_owned()))
    };
    Ok((parse("maximum", &order.maximum)?, parse("amount", &order.amount)?))
}

fn refusal(field: &'static str, value: &str, limit: String) -> tenure_sdk::Error {
    EscrowError::TopUpOrder {
        field,
        value: value.to_owned(),
        limit,
    }
    .into()
}

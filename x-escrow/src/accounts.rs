//! Accounts: opening, deposits, withdrawals, the end.

use tenure_proto::tenure::escrow::v1::{Account, AccountState};
use tenure_sdk::{Ctx, Result};
use tenure_types::{coin::check_denom, Address, Amount, Coin};
use tenure_x_bank as bank;

use crate::{
    accrual::{FOREVER, MAX_BALANCE},
    errors::EscrowError,
    events,
    lots::{self, MAX_LOTS},
    params::{min_deposit, params},
    payments,
    state::{self, add_to, pool, save_account, set_pool},
    NAME,
};

/// Opens an account with its owner's first deposit. Error: the id is taken; the deposit is too small or too large; the owner has less.
pub fn open_account(ctx: &mut Ctx, id: u64, owner: &Address, denom: &str, amount: Amount) -> Result<()> {
    check_denom(denom)?;
    if state::find_account(ctx, id)?.is_some() {
        return Err(EscrowError::Exists {
            what: "escrow account",
            id,
        }
        .into());
    }
    let zero = || "0".to_owned();
    let mut account = Account {
        id,
        owner: owner.to_string(),
        denom: denom.to_owned(),
        state: AccountState::Open.into(),
        balance: zero(),
        k_sum: zero(),
        funded_until_ms: FOREVER,
        deposited_total: zero(),
        paid_total: zero(),
        refunded_total: zero(),
        ..Default::default()
    };
    add(ctx, &mut account, owner, amount)?;
    save_account(ctx, &account)
}

/// Adds money to an account; anyone may. It resumes nothing by itself. Error: the account is not open; another denom; too small, too large, or
/// too many depositors; the depositor has less.
pub fn deposit(ctx: &mut Ctx, id: u64, depositor: &Address, coin: &Coin) -> Result<()> {
    let (mut account, _) = payments::caught_up(ctx, id)?;
    check_open(&account)?;
    if account.close_requested {
        return Err(EscrowError::AccountClosed(id).into());
    }
    check_coin(&account, coin)?;
    add(ctx, &mut account, depositor, coin.amount)?;
    save_account(ctx, &account)
}

/// Gives the owner unspent money of its own lots back, newest first. What runs must stay funded for the least runway from `now_ms`, what has
/// stopped for all that it may be owed. Error: the account is not open or not the owner's; another denom; the owner's lots hold less; the rest
/// would not suffice.
pub fn withdraw_deposit(ctx: &mut Ctx, id: u64, owner: &Address, coin: &Coin, now_ms: u64) -> Result<()> {
    let (mut account, _) = payments::caught_up(ctx, id)?;
    check_open(&account)?;
    let found = owner.to_string();
    check_owner(&account, &found)?;
    check_coin(&account, coin)?;
    let taken = lots::take_newest(&mut account.lots, coin.amount, |depositor| depositor == found)?;
    let mut sum = Amount::ZERO;
    for (_, part) in &taken {
        sum = sum.plus(*part)?;
    }
    if sum < coin.amount || sum.is_zero() {
        let (wanted, found) = (coin.amount.get(), sum.get());
        return Err(EscrowError::LotsTooSmall {
            account: id,
            wanted,
            found,
        }
        .into());
    }
    give_back(ctx, &mut account, &taken)?;
    check_runway(ctx, &account, now_ms)?;
    save_account(ctx, &account)
}

/// Closes an account: everything unspent returns to its depositors. While payments await their last outcome, it closes by itself with the last
/// of them. Error: it is closed already, or a payment has not ended.
pub fn close_account(ctx: &mut Ctx, id: u64) -> Result<()> {
    let (mut account, _) = payments::caught_up(ctx, id)?;
    check_open(&account)?;
    let open = state::open_payments(ctx, &account)?;
    if let Some(running) = open.iter().find(|payment| !payment.closing) {
        return Err(EscrowError::PaymentOpen {
            account: id,
            lease: running.lease_id,
        }
        .into());
    }
    account.close_requested = true;
    if open.is_empty() {
        close_now(ctx, &mut account)?;
    }
    save_account(ctx, &account)
}

/// Returns everything and closes. The account has no open payment.
pub(crate) fn close_now(ctx: &mut Ctx, account: &mut Account) -> Result<Amount> {
    let refunded = refund_above(ctx, account, Amount::ZERO)?;
    account.set_state(AccountState::Closed);
    account.close_requested = false;
    (account.exhausted, account.exhausted_at_ms, account.grace_ends_ms) = (false, 0, 0);
    account.auto_top_up = None;
    events::closed(ctx, account);
    Ok(refunded)
}

/// Returns everything above `keep`, newest lots first: the oldest money is spent first.
pub(crate) fn refund_above(ctx: &mut Ctx, account: &mut Account, keep: Amount) -> Result<Amount> {
    let balance = state::stored_amount(&account.balance)?;
    if balance <= keep {
        return Ok(Amount::ZERO);
    }
    let excess = balance.minus(keep)?;
    let taken = lots::take_newest(&mut account.lots, excess, |_| true)?;
    give_back(ctx, account, &taken)?;
    Ok(excess)
}

/// Refuses what leaves an account with less than the least runway.
pub(crate) fn check_runway(ctx: &mut Ctx, account: &Account, now_ms: u64) -> Result<()> {
    let needed_ms = now_ms.saturating_add(params(ctx)?.min_runway_ms);
    let pool = pool(account)?;
    if pool.covers(needed_ms)? {
        return Ok(());
    }
    // With nothing running X is without end, and what fails is what stopped payments may still be owed.
    let funded_until_ms = if pool.rate_sum == 0 { 0 } else { pool.funded_until()? };
    Err(EscrowError::Underfunded {
        account: account.id,
        funded_until_ms,
        needed_ms,
    }
    .into())
}

/// Refuses closed accounts.
pub(crate) fn check_open(account: &Account) -> Result<()> {
    if account.state() == AccountState::Open {
        return Ok(());
    }
    Err(EscrowError::AccountClosed(account.id).into())
}

/// Refuses who does not own the account.
pub(crate) fn check_owner(account: &Account, signer: &str) -> Result<()> {
    if account.owner == signer {
        return Ok(());
    }
    Err(EscrowError::NotOwner {
        account: account.id,
        owner: account.owner.clone(),
        found: signer.to_owned(),
    }
    .into())
}

fn check_coin(account: &Account, coin: &Coin) -> Result<()> {
    if account.denom == coin.denom {
        return Ok(());
    }
    let (denom, found) = (account.denom.clone(), coin.denom.clone());
    Err(EscrowError::Denom {
        account: account.id,
        denom,
        found,
    }
    .into())
}

/// Pays a deposit into an account; the caller saves it.
pub(crate) fn add(ctx: &mut Ctx, account: &mut Account, depositor: &Address, amount: Amount) -> Result<()> {
    let min = min_deposit(&params(ctx)?)?;
    if amount < min {
        return Err(EscrowError::DepositTooSmall {
            amount: amount.get(),
            min: min.get(),
        }
        .into());
    }
    let mut pool = pool(account)?;
    pool.balance = pool.balance.saturating_add(amount.get());
    if pool.balance > MAX_BALANCE {
        let (balance, max) = (pool.balance, MAX_BALANCE);
        return Err(EscrowError::BalanceTooLarge {
            account: account.id,
            balance,
            max,
        }
        .into());
    }
    let who = depositor.to_string();
    if !lots::add(&mut account.lots, &who, who == account.owner, amount)? {
        return Err(EscrowError::TooManyLots {
            account: account.id,
            max: MAX_LOTS,
        }
        .into());
    }
    bank::transfer(
        ctx,
        depositor,
        &Address::of_module(NAME),
        &Coin::new(&account.denom, amount)?,
    )?;
    set_pool(account, &pool)?;
    add_to(&mut account.deposited_total, amount)?;
    events::deposited(ctx, account, &who, amount);
    Ok(())
}

/// Pays out what was taken from lots.
fn give_back(ctx: &mut Ctx, account: &mut Account, taken: &[(String, Amount)]) -> Result<()> {
    let mut pool = pool(account)?;
    for (depositor, amount) in taken {
        let to: Address = depositor.parse().map_err(tenure_sdk::Error::from)?;
        bank::transfer(
            ctx,
            &Address::of_module(NAME),
            &to,
            &Coin::new(&account.denom, *amount)?,
        )?;
        pool.balance = Amount::new(pool.balance).minus(*amount)?.get();
        add_to(&mut account.refunded_total, *amount)?;
        events::refunded(ctx, account, depositor, *amount);
    }
    set_pool(account, &pool)
}

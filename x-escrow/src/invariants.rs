//! What always holds of escrow: see the crate's documentation.

use std::collections::{BTreeMap, BTreeSet};

use tenure_proto::tenure::escrow::v1::{Account, AccountState, Payment};
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::{Address, Amount, Coin, Coins, MS_PER_HOUR};
use tenure_x_bank as bank;

use crate::{
    accrual::{Contribution, Pool, MAX_SEGMENTS},
    lots::MAX_LOTS,
    params::BPS,
    payments::MAX_PAYMENTS,
    state::{self, stored_amount, stream},
    NAME,
};

pub(crate) fn check(ctx: &mut Ctx) -> Result<()> {
    let mut held = Coins::default();
    let mut denoms: BTreeMap<u64, String> = BTreeMap::new();
    let mut open: BTreeSet<u64> = BTreeSet::new();
    for account in state::all_accounts(ctx)? {
        check_account(ctx, &account).map_err(|e| Error::internal(format!("escrow account {}: {e}", account.id)))?;
        held.add(&Coin::new(&account.denom, stored_amount(&account.balance)?)?)?;
        open.extend(&account.open_payments);
        denoms.insert(account.id, account.denom);
    }
    for payment in state::all_payments(ctx)? {
        let lease = payment.lease_id;
        check_address("provider", &payment.provider).map_err(|e| e.context(format!("payment of lease {lease}")))?;
        check_payment(&payment).map_err(|what| Error::internal(format!("payment of lease {lease}: {what}")))?;
        if !open.contains(&lease) && !payment.closing {
            return Err(Error::internal(format!(
                "payment of lease {lease} has not ended and is in no account's list"
            )));
        }
        let denom = denoms.get(&payment.account_id);
        let denom = denom.ok_or_else(|| Error::internal(format!("payment of lease {lease} has no account")))?;
        held.add(&Coin::new(denom, stored_amount(&payment.earned)?)?)?;
    }
    let balances = bank::balances(ctx, &Address::of_module(NAME))?;
    if balances != held {
        return Err(Error::internal(format!(
            "the escrow module holds {balances}, accounts and earnings are {held}"
        )));
    }
    Ok(())
}

/// Money goes to this address one day: that must not fail then.
fn check_address(what: &str, text: &str) -> Result<()> {
    let address: Result<Address, _> = text.parse();
    address.map(drop).map_err(|e| Error::internal(format!("{what}: {e}")))
}

fn check_account(ctx: &mut Ctx, account: &Account) -> Result<()> {
    let broken = |what: String| Err(Error::internal(what));
    check_address("owner", &account.owner)?;
    let mut lots = Amount::ZERO;
    for lot in &account.lots {
        check_address("depositor", &lot.depositor)?;
        let remaining = stored_amount(&lot.remaining)?;
        if remaining.is_zero() {
            return broken(format!("an empty lot of {}", lot.depositor));
        }
        lots = lots.plus(remaining)?;
    }
    let balance = stored_amount(&account.balance)?;
    if lots != balance || account.lots.len() > MAX_LOTS {
        return broken(format!("balance {balance}, {} lots of {lots}", account.lots.len()));
    }
    let spent = stored_amount(&account.paid_total)?.plus(stored_amount(&account.refunded_total)?)?;
    if stored_amount(&account.deposited_total)? != spent.plus(balance)? {
        return broken(format!(
            "deposited {}, paid and refunded {spent}, left {balance}",
            account.deposited_total
        ));
    }
    if !account.open_payments.is_sorted_by(|a, b| a < b) || account.open_payments.len() > MAX_PAYMENTS {
        return broken(format!("open payments {:?}", account.open_payments));
    }
    // Before what is derived from it is relied on.
    if account.payees.len() != account.open_payments.len() {
        let (payees, open) = (&account.payees, &account.open_payments);
        return broken(format!("payees {payees:?} of open payments {open:?}"));
    }
    let mut sums = Pool {
        balance: balance.get(),
        ..Default::default()
    };
    let mut waiting = false;
    for (payment, payee) in state::open_payments(ctx, account)?.into_iter().zip(&account.payees) {
        check_address("provider", &payment.provider)?;
        if payment.provider != *payee {
            return broken(format!("payment of lease {} is said to be {payee}'s", payment.lease_id));
        }
        if payment.account_id != account.id {
            return broken(format!(
                "payment of lease {} is of account {}",
                payment.lease_id, payment.account_id
            ));
        }
        let stream = stream(&payment);
        waiting |= stream.last()?.rate == 0 && !payment.closing && !payment.paused_by_owner;
        sums.replace(Contribution::default(), stream.contribution()?)?;
    }
    if sums != state::pool(account)? || account.funded_until_ms != sums.funded_until()? {
        let (r, k, x) = (account.rate_sum, &account.k_sum, account.funded_until_ms);
        return broken(format!(
            "R {r}, K {k}, X {x}; payments give {sums:?}, X {}",
            sums.funded_until()?
        ));
    }
    // What has stopped, and what ran until now or until the money ran out, is covered.
    if !sums.covers(ctx.now().min(account.funded_until_ms))? {
        return broken(format!("{sums:?} does not cover what can be owed"));
    }
    if account.exhausted != waiting || account.exhausted != (account.grace_ends_ms > 0) {
        return broken(format!(
            "exhausted is {}, payments wait for money: {waiting}",
            account.exhausted
        ));
    }
    if account.state() == AccountState::Closed && !(balance.is_zero() && account.open_payments.is_empty()) {
        return broken(format!(
            "closed with {balance} and open payments {:?}",
            account.open_payments
        ));
    }
    Ok(())
}

fn check_payment(payment: &Payment) -> Result<(), String> {
    let amount = |text: &str| stored_amount(text).map(Amount::get).map_err(|e| e.message);
    let (paid, take) = (amount(&payment.paid_total)?, amount(&payment.take_total)?);
    let net = amount(&payment.earned)?.checked_add(amount(&payment.withdrawn_total)?);
    if net.and_then(|net| net.checked_add(take)) != Some(paid) {
        return Err(format!(
            "paid {paid} is not take {take}, earnings and withdrawals {net:?}"
        ));
    }
    if paid
        .checked_mul(payment.take_bps.into())
        .and_then(|t| t.checked_div(BPS.into()))
        != Some(take)
    {
        return Err(format!("take {take} is not {} bps of {paid}", payment.take_bps));
    }
    let segments = &payment.segments;
    let ordered = segments.is_sorted_by(|a, b| a.from_ms < b.from_ms);
    let begun = segments
        .iter()
        .filter(|segment| segment.from_ms <= payment.settled_to_ms)
        .count();
    if segments.is_empty() || segments.len() > MAX_SEGMENTS || !ordered || begun > 1 {
        return Err(format!("settled to {}, segments {segments:?}", payment.settled_to_ms));
    }
    if payment.acc >= MS_PER_HOUR {
        return Err(format!("remainder {} is a whole unit", payment.acc));
    }
    if payment.settle_by_ms == 0 && !payment.closing {
        return Err("has not ended and is never settled by itself".to_owned());
    }
    if payment.closing && segments.last().is_some_and(|last| last.rate > 0) {
        return Err(format!("has ended and accrues: {segments:?}"));
    }
    Ok(())
}

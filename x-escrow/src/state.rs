//! Typed reads and writes of accounts and payments, and their core values.

use tenure_proto::tenure::escrow::v1::{Account, Payment, Segment as ProtoSegment};
use tenure_sdk::{derived::prefix_end, records, Ctx, Error, Result};
use tenure_types::{Address, Amount};

use crate::{
    accrual::{Pool, Segment, Stream},
    errors::EscrowError,
    keys::{self, NAME},
};

/// An account as it was last written. Error: it does not exist.
pub fn account(ctx: &mut Ctx, id: u64) -> Result<Account> {
    find_account(ctx, id)?.ok_or_else(|| EscrowError::AccountNotFound(id).into())
}

/// A lease's payment as it was last written. Error: it does not exist.
pub fn payment(ctx: &mut Ctx, lease: u64) -> Result<Payment> {
    find_payment(ctx, lease)?.ok_or_else(|| EscrowError::PaymentNotFound(lease).into())
}

pub(crate) fn find_account(ctx: &mut Ctx, id: u64) -> Result<Option<Account>> {
    ctx.load(NAME, &keys::account(id))
}

pub(crate) fn find_payment(ctx: &mut Ctx, lease: u64) -> Result<Option<Payment>> {
    ctx.load(NAME, &keys::payment(lease))
}

pub(crate) fn save_account(ctx: &mut Ctx, account: &Account) -> Result<()> {
    ctx.save(NAME, &keys::account(account.id), account)
}

pub(crate) fn save_payment(ctx: &mut Ctx, payment: &Payment) -> Result<()> {
    ctx.save(NAME, &keys::payment(payment.lease_id), payment)
}

/// An account's payments that are not final, in order of lease.
pub(crate) fn open_payments(ctx: &mut Ctx, account: &Account) -> Result<Vec<Payment>> {
    account.open_payments.iter().map(|lease| payment(ctx, *lease)).collect()
}

/// The first (instant, account), after a given one, at which time alone changes an account with an open payment to `payee`: its money runs out or
/// its grace ends. None if there is none up to `until_ms`.
pub fn next_change(
    ctx: &mut Ctx,
    payee: &Address,
    after: Option<(u64, u64)>,
    until_ms: u64,
) -> Result<Option<(u64, u64)>> {
    let prefix = keys::changes_of(payee);
    let from = match after {
        None => prefix.clone(),
        Some((ms, id)) => [prefix.as_slice(), &ms.to_be_bytes(), &id.to_be_bytes(), &[0]].concat(),
    };
    let to = [prefix.as_slice(), &until_ms.saturating_add(1).to_be_bytes()].concat();
    let Some((key, _)) = ctx.derived_range(&from, Some(&to), false, 1)?.pop() else {
        return Ok(None);
    };
    let entry = key.strip_prefix(prefix.as_slice()).and_then(|rest| {
        let (ms, id) = rest.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*ms), u64::from_be_bytes(id.try_into().ok()?)))
    });
    entry
        .map(Some)
        .ok_or_else(|| Error::internal(format!("derived entry {} is not of an account", hex::encode(&key))))
}

/// The earliest instant before which every payment to `payee` that is not final is settled: nothing before it is asked for any more. None if
/// nobody owes it anything.
pub fn oldest_unsettled(ctx: &mut Ctx, payee: &Address) -> Result<Option<u64>> {
    let prefix = keys::unsettled_of(payee);
    let first = ctx
        .derived_range(&prefix, prefix_end(&prefix).as_deref(), false, 1)?
        .pop();
    let Some((key, _)) = first else { return Ok(None) };
    let settled_to = key
        .strip_prefix(prefix.as_slice())
        .and_then(|rest| rest.first_chunk::<8>());
    settled_to
        .map(|ms| Some(u64::from_be_bytes(*ms)))
        .ok_or_else(|| Error::internal(format!("derived entry {} is not of a payment", hex::encode(&key))))
}

/// All accounts in order of id: for checks, not for blocks.
pub fn all_accounts(ctx: &mut Ctx) -> Result<Vec<Account>> {
    let entries = ctx.range(
        NAME,
        keys::ACCOUNTS,
        prefix_end(keys::ACCOUNTS).as_deref(),
        false,
        usize::MAX,
    )?;
    entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect()
}

/// All payments in order of lease.
pub(crate) fn all_payments(ctx: &mut Ctx) -> Result<Vec<Payment>> {
    let entries = ctx.range(
        NAME,
        keys::PAYMENTS,
        prefix_end(keys::PAYMENTS).as_deref(),
        false,
        usize::MAX,
    )?;
    entries
        .iter()
        .map(|(key, value)| records::decode(NAME, key, value))
        .collect()
}

/// A stored amount. Error (internal): it is not one.
pub(crate) fn stored_amount(text: &str) -> Result<Amount> {
    text.parse().map_err(|e: Error| Error::internal(format!("stored {e}")))
}

/// Adds to a stored amount.
pub(crate) fn add_to(text: &mut String, amount: Amount) -> Result<()> {
    let sum = stored_amount(text)?
        .plus(amount)
        .map_err(|e| Error::internal(e.message))?;
    *text = sum.to_string();
    Ok(())
}

/// Takes from a stored amount. Error (internal): it is smaller.
pub(crate) fn take_from(text: &mut String, amount: Amount) -> Result<()> {
    let left = stored_amount(text)?
        .minus(amount)
        .map_err(|e| Error::internal(e.message))?;
    *text = left.to_string();
    Ok(())
}

/// An account's money as the core sees it.
pub(crate) fn pool(account: &Account) -> Result<Pool> {
    let k_sum = account.k_sum.parse();
    let k_sum = k_sum.map_err(|e| Error::internal(format!("stored k_sum {:?}: {e}", account.k_sum)))?;
    Ok(Pool {
        balance: stored_amount(&account.balance)?.get(),
        rate_sum: account.rate_sum,
        k_sum,
    })
}

/// Writes the core's view back, and with it X.
pub(crate) fn set_pool(account: &mut Account, pool: &Pool) -> Result<()> {
    account.balance = pool.balance.to_string();
    account.rate_sum = pool.rate_sum;
    account.k_sum = pool.k_sum.to_string();
    account.funded_until_ms = pool.funded_until()?;
    Ok(())
}

/// A payment's accrual as the core sees it.
pub(crate) fn stream(payment: &Payment) -> Stream {
    let segments = payment
        .segments
        .iter()
        .map(|s| Segment {
            from_ms: s.from_ms,
            rate: s.rate,
        })
        .collect();
    Stream {
        settled_to_ms: payment.settled_to_ms,
        acc: payment.acc,
        segments,
    }
}

/// Writes the core's view back.
pub(crate) fn set_stream(payment: &mut Payment, stream: &Stream) {
    payment.settled_to_ms = stream.settled_to_ms;
    payment.acc = stream.acc;
    payment.segments = stream
        .segments
        .iter()
        .map(|s| ProtoSegment {
            from_ms: s.from_ms,
            rate: s.rate,
        })
        .collect();
}

/// Changes a payment's accrual and the account's sums with it.
pub(crate) fn change<T>(
    account: &mut Account,
    payment: &mut Payment,
    f: impl FnOnce(&mut Stream) -> Result<T>,
) -> Result<T> {
    let (mut stream, mut pool) = (stream(payment), pool(account)?);
    let before = stream.contribution()?;
    let result = f(&mut stream)?;
    pool.replace(before, stream.contribution()?)?;
    set_stream(payment, &stream);
    set_pool(account, &pool)?;
    Ok(result)
}

//! What must always hold: see the crate's documentation.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tenure_proto::tenure::{
    escrow::v1::AccountState,
    market::v1::{Bid, BidState, Claim, Lease, LeaseState},
};
use tenure_sdk::{derived::prefix_end, records::decode, Ctx, Derived, Error, Result, Timer, TimerClass};
use tenure_types::{Address, Resources};

use crate::{
    derive::{self, derive},
    keys, queries,
    state::{counters, resources, stored_address},
    NAME,
};

/// Checks everything. Whatever is caught up on the way is taken back: checking changes nothing.
pub(crate) fn check(ctx: &mut Ctx) -> Result<()> {
    ctx.state.checkpoint();
    let result = check_all(ctx);
    ctx.state.revert()?;
    result
}

fn check_all(ctx: &mut Ctx) -> Result<()> {
    check_derived(ctx)?;
    let bids: Vec<Bid> = all(ctx, keys::BID)?;
    let claims: Vec<Claim> = all(ctx, keys::CLAIM)?;
    let leases: Vec<Lease> = all(ctx, keys::LEASE)?;
    check_counters(ctx, &bids, &leases)?;
    check_bids(&bids, &claims, &leases)?;
    check_leases(&leases)?;
    check_accounts(ctx, &bids, &leases)?;
    check_providers(ctx, &leases)
}

fn broken(what: impl std::fmt::Display) -> Error {
    Error::internal(format!("market: {what}"))
}

fn all<M: Message + Default>(ctx: &mut Ctx, kind: u8) -> Result<Vec<M>> {
    let entries = ctx.range(NAME, &[kind], prefix_end(&[kind]).as_deref(), false, usize::MAX)?;
    entries.iter().map(|(key, value)| decode(NAME, key, value)).collect()
}

/// Indexes and timers are those that a rebuild gives.
fn check_derived(ctx: &mut Ctx) -> Result<()> {
    let mut rebuilt = Derived::default();
    for (key, value) in ctx.range(NAME, &[], None, false, usize::MAX)? {
        derive(&key, &value, &mut rebuilt)?;
    }
    let want: BTreeMap<Vec<u8>, Vec<u8>> = rebuilt.into_entries().collect();
    let spaces = b"market.".as_slice();
    let mut have: BTreeMap<Vec<u8>, Vec<u8>> = ctx
        .derived_range(spaces, prefix_end(spaces).as_deref(), false, usize::MAX)?
        .into_iter()
        .collect();
    for class in TimerClass::ALL {
        let (from, to) = Timer::due_range(class, u64::MAX);
        for (key, value) in ctx.derived_range(&from, Some(&to), false, usize::MAX)? {
            let timer = Timer::decode(&key, &value)?;
            if timer.module == NAME && timer.kind >= derive::BID_EXPIRY_TIMER_KIND {
                have.insert(key, value);
            }
        }
    }
    if want == have {
        return Ok(());
    }
    let odd = want
        .iter()
        .find(|(k, v)| have.get(*k) != Some(v))
        .or_else(|| have.iter().find(|(k, _)| !want.contains_key(*k)));
    Err(broken(format!(
        "derived entry {:?} is not what a rebuild gives",
        odd.map(|(k, _)| hex::encode(k))
    )))
}

fn check_counters(ctx: &mut Ctx, bids: &[Bid], leases: &[Lease]) -> Result<()> {
    let counters = counters(ctx)?;
    let last_bid = bids.iter().map(|b| b.id).max().unwrap_or(0);
    let last_lease = leases.iter().map(|l| l.id).max().unwrap_or(0);
    if last_bid > counters.last_bid_id || last_lease > counters.last_lease_id {
        return Err(broken(format!(
            "bid {last_bid} or lease {last_lease} is beyond {counters:?}"
        )));
    }
    Ok(())
}

fn check_bids(bids: &[Bid], claims: &[Claim], leases: &[Lease]) -> Result<()> {
    let mut on: BTreeMap<u64, u32> = BTreeMap::new();
    for claim in claims {
        let count = on.entry(claim.bid_id).or_default();
        *count = count.saturating_add(1);
    }
    let of_bid: BTreeMap<u64, &Lease> = leases.iter().map(|lease| (lease.bid_id, lease)).collect();
    if of_bid.len() != leases.len() {
        return Err(broken("two leases have one bid"));
    }
    for bid in bids {
        let count = on.remove(&bid.id).unwrap_or(0);
        if count != bid.open_claims || (count > 0 && bid.state() != BidState::Open) {
            return Err(broken(format!(
                "bid {} is {:?}, counts {} claims and has {count}",
                bid.id,
                bid.state(),
                bid.open_claims
            )));
        }
        let lease = of_bid.get(&bid.id).map_or(0, |lease| lease.id);
        if lease != bid.lease_id || (lease > 0) != (bid.state() == BidState::Leased) {
            return Err(broken(format!(
                "bid {} is {:?} with lease {}, and lease {lease} has it",
                bid.id,
                bid.state(),
                bid.lease_id
            )));
        }
    }
    match on.first_key_value() {
        None if of_bid.keys().all(|id| bids.iter().any(|bid| bid.id == *id)) => Ok(()),
        orphan => Err(broken(format!("a claim or lease has no bid: {orphan:?}"))),
    }
}

fn check_accounts(ctx: &mut Ctx, bids: &[Bid], leases: &[Lease]) -> Result<()> {
    let of_bid: BTreeMap<u64, &Lease> = leases.iter().map(|lease| (lease.bid_id, lease)).collect();
    let known: BTreeSet<u64> = bids.iter().map(|bid| bid.id).collect();
    for account in tenure_x_escrow::all_accounts(ctx)? {
        let lease = of_bid.get(&account.id).map(|lease| lease.id);
        if !known.contains(&account.id) || account.open_payments.iter().any(|paid| Some(*paid) != lease) {
            return Err(broken(format!(
                "account {} pays {:?}, its bid's lease is {lease:?}",
                account.id, account.open_payments
            )));
        }
    }
    for bid in bids {
        let lease = of_bid.get(&bid.id);
        let account = tenure_x_escrow::account(ctx, bid.id)?;
        let open = bid.state() == BidState::Open || lease.is_some_and(|lease| lease.state() != LeaseState::Closed);
        if open != (account.state() == AccountState::Open) {
            return Err(broken(format!(
                "account {} is {:?} under bid {:?} and {lease:?}",
                bid.id,
                account.state(),
                bid.state()
            )));
        }
        if !open && account.balance != "0" {
            return Err(broken(format!("closed account {} holds {}", bid.id, account.balance)));
        }
        let payment = match lease {
            Some(lease) if lease.ready_ms > 0 => {
                let payment = tenure_x_escrow::payment(ctx, lease.id)?;
                let over = matches!(lease.state(), LeaseState::Closing | LeaseState::Closed);
                if payment.closing != over {
                    return Err(broken(format!(
                        "lease {} is {:?} with {payment:?}",
                        lease.id,
                        lease.state()
                    )));
                }
                Some(payment)
            }
            _ => None,
        };
        queries::balance(&account, payment.as_ref())?;
    }
    Ok(())
}

/// A lease has a state, and one that ran became ready.
fn check_leases(leases: &[Lease]) -> Result<()> {
    let odd = leases.iter().find(|lease| match lease.state() {
        LeaseState::Unspecified => true,
        LeaseState::Starting => lease.ready_ms > 0,
        LeaseState::Active | LeaseState::Paused | LeaseState::Closing => lease.ready_ms == 0,
        LeaseState::Closed => false,
    });
    match odd {
        None => Ok(()),
        Some(lease) => Err(broken(format!(
            "lease {} is {:?}, ready at {} ms",
            lease.id,
            lease.state(),
            lease.ready_ms
        ))),
    }
}

fn check_providers(ctx: &mut Ctx, leases: &[Lease]) -> Result<()> {
    let mut held: BTreeMap<Address, (Resources, u32)> = BTreeMap::new();
    for lease in leases {
        let entry = held.entry(stored_address(&lease.provider)?).or_default();
        if lease.state() != LeaseState::Closed {
            entry.0 = entry.0.plus(resources(lease.resources.as_ref()))?;
            entry.1 = entry.1.saturating_add(1);
        }
    }
    for (owner, (reserved, open)) in held {
        // One that left is gone, which it can only be without open leases.
        let provider = match tenure_x_provider::load(ctx, &owner) {
            Ok(provider) => provider,
            Err(error) if open > 0 || error.is_internal() => return Err(error),
            Err(_) => continue,
        };
        if resources(provider.reserved.as_ref()) != reserved || provider.open_leases != open {
            let has = (provider.reserved, provider.open_leases);
            return Err(broken(format!(
                "provider {owner} has {has:?}, its leases make {reserved:?} and {open}"
            )));
        }
    }
    Ok(())
}

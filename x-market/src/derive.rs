//! Indexes and timers that follow from the market's records.

use tenure_proto::tenure::market::v1::{Bid, BidState, Lease, LeaseState};
use tenure_sdk::{
    derived::index_key,
    records::{decode, required},
    Derived, Result, Timer, TimerClass,
};
use tenure_types::{Address, Deadline};

use crate::{keys, NAME};

/// An open bid without claims expires.
pub const BID_EXPIRY_TIMER_KIND: u8 = 10;
/// A lease that has not become ready ends.
pub const START_TIMER_KIND: u8 = 11;
/// A lease's duration passes.
pub const LEASE_EXPIRY_TIMER_KIND: u8 = 12;

pub(crate) const BIDS_BY_STATE: &str = "market.bid.state";
pub(crate) const BIDS_BY_TENANT: &str = "market.bid.tenant";
pub(crate) const READY_BIDS: &str = "market.ready";
pub(crate) const LEASES_BY_STATE: &str = "market.lease.state";
pub(crate) const OPEN_LEASES: &str = "market.lease.open";
pub(crate) const LEASES_OF: &str = "market.lease.of";
pub(crate) const OPEN_LEASES_OF: &str = "market.lease.opof";
pub(crate) const CLOSING_LEASES: &str = "market.closing";
pub(crate) const RUNNING_LEASES_OF: &str = "market.ends";
pub(crate) const DUE_LEASES_OF: &str = "market.due";

/// What one record of the store implies.
pub(crate) fn derive(key: &[u8], value: &[u8], out: &mut Derived) -> Result<()> {
    match key.first() {
        Some(&keys::BID) => bid(&decode(NAME, key, value)?, out),
        Some(&keys::LEASE) => lease(&decode(NAME, key, value)?, out),
        _ => Ok(()),
    }
}

fn bid(bid: &Bid, out: &mut Derived) -> Result<()> {
    let id = bid.id.to_be_bytes();
    let tenant: Address = bid.tenant.parse()?;
    if !catching_up_makes_bids(bid.state()) {
        out.index(BIDS_BY_STATE, &[&[state_byte(bid.state)], id.as_slice()].concat(), &[]);
    }
    out.index(BIDS_BY_TENANT, &[tenant.as_bytes(), id.as_slice()].concat(), &[]);
    if bid.state() != BidState::Open {
        return Ok(());
    }
    if bid.open_claims > 0 {
        // A bid with claims does not expire: the match decides about it when its window has closed, which is not after its expiry.
        let closes = required(bid.claims_close.as_ref(), "claims_close")?;
        let order = [closes.ms, bid.posted_height, bid.priority, bid.id]
            .map(u64::to_be_bytes)
            .concat();
        out.index(READY_BIDS, &order, &closes.height.to_be_bytes());
    } else {
        let expires = required(bid.expires.as_ref(), "expires")?;
        let due = Deadline {
            height: expires.height,
            ms: expires.ms,
        };
        out.timer(&timer(BID_EXPIRY_TIMER_KIND, due, &id));
    }
    Ok(())
}

fn lease(lease: &Lease, out: &mut Derived) -> Result<()> {
    let id = lease.id.to_be_bytes();
    let tenant: Address = lease.tenant.parse()?;
    let provider: Address = lease.provider.parse()?;
    let state = lease.state();
    if !catching_up_makes_leases(state) {
        out.index(
            LEASES_BY_STATE,
            &[&[state_byte(lease.state)], id.as_slice()].concat(),
            &[],
        );
    }
    if state != LeaseState::Closed {
        out.index(OPEN_LEASES, &id, &[]);
    }
    for who in [&tenant, &provider] {
        let key = [who.as_bytes(), id.as_slice()].concat();
        out.index(LEASES_OF, &key, &[]);
        if state != LeaseState::Closed {
            out.index(OPEN_LEASES_OF, &key, &[]);
        }
    }
    let due_at = |ms: u64| [provider.as_bytes(), ms.to_be_bytes().as_slice(), &id].concat();
    match state {
        LeaseState::Starting => {
            let start_by = required(lease.start_by.as_ref(), "start_by")?;
            let due = Deadline {
                height: start_by.height,
                ms: start_by.ms,
            };
            out.timer(&timer(START_TIMER_KIND, due, &id));
            out.index(DUE_LEASES_OF, &due_at(due.ms), &due.height.to_be_bytes());
        }
        LeaseState::Active | LeaseState::Paused => {
            out.timer(&timer(
                LEASE_EXPIRY_TIMER_KIND,
                Deadline {
                    height: 0,
                    ms: lease.expires_ms,
                },
                &id,
            ));
            out.index(DUE_LEASES_OF, &due_at(lease.expires_ms), &0_u64.to_be_bytes());
        }
        LeaseState::Closing => {
            out.index(CLOSING_LEASES, &due_at(lease.ended_ms), &[]);
        }
        LeaseState::Closed | LeaseState::Unspecified => {}
    }
    if matches!(state, LeaseState::Starting | LeaseState::Active | LeaseState::Paused) {
        out.index(RUNNING_LEASES_OF, &[provider.as_bytes(), id.as_slice()].concat(), &[]);
    }
    Ok(())
}

fn timer(kind: u8, due: Deadline, id: &[u8]) -> Timer {
    Timer {
        class: TimerClass::Market,
        due,
        module: NAME.to_owned(),
        kind,
        id: id.to_vec(),
    }
}

/// Whether a bid comes into this state by time alone. Those that are in it but not yet caught up are stored in another state, so an index of
/// stored states would miss them: there is none, and lists of such a state look at all bids that may be in it.
pub(crate) fn catching_up_makes_bids(state: BidState) -> bool {
    state == BidState::Expired
}

/// Whether a lease comes into this state by time alone; see [`catching_up_makes_bids`].
pub(crate) fn catching_up_makes_leases(state: LeaseState) -> bool {
    matches!(state, LeaseState::Paused | LeaseState::Closing | LeaseState::Closed)
}

/// States are small enumerations; one byte holds them.
pub(crate) fn state_byte(state: i32) -> u8 {
    u8::try_from(state).unwrap_or(0)
}

/// The prefix of an index's entries that begin with `key`.
pub(crate) fn prefix(space: &str, key: &[u8]) -> Vec<u8> {
    index_key(space, key)
}

//! What follows from this store's records: the market's timers and the index of payments.

use std::collections::BTreeSet;

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{records, Derived, Error, Result, Timer, TimerClass};
use tenure_types::{Address, Deadline};

use crate::{
    accrual::FOREVER,
    keys::{ACCOUNTS, BY_ACCOUNT, CHANGES, NAME, PAYMENTS, UNSETTLED},
    review::{review_at, settlement_at},
};

/// Kind of the market's timer at the instant at which an account's money runs out: it calls [`crate::catch_up`].
pub const EXHAUSTION_TIMER_KIND: u8 = 2;
/// Kind of the market's timer at the end of an exhausted account's grace: it ends the leases that wait for money.
pub const EXHAUSTION_GRACE_TIMER_KIND: u8 = 3;
/// Kind of the market's timer before an account's money runs out.
pub const REVIEW_TIMER_KIND: u8 = 4;
/// Kind of the market's timer by which a lease's payment must be settled.
pub const SETTLEMENT_TIMER_KIND: u8 = 5;
/// Module that handles them.
const MARKET: &str = "market";

fn address(what: &str, text: &str) -> Result<Address> {
    text.parse().map_err(|e| Error::from(e).context(what))
}

pub(crate) fn derive(key: &[u8], value: &[u8], out: &mut Derived) -> Result<()> {
    if let Some(id) = key.strip_prefix(ACCOUNTS) {
        let account: Account = records::decode(NAME, key, value)?;
        let mut timer = |kind, ms| {
            let due = Deadline { height: 0, ms };
            out.timer(&Timer {
                class: TimerClass::Safety,
                due,
                module: MARKET.to_owned(),
                kind,
                id: id.to_vec(),
            });
        };
        if let Some(at_ms) = review_at(&account) {
            timer(REVIEW_TIMER_KIND, at_ms);
        }
        let mut changes = Vec::new();
        if account.rate_sum > 0 && account.funded_until_ms < FOREVER {
            timer(EXHAUSTION_TIMER_KIND, account.funded_until_ms);
            changes.push(account.funded_until_ms);
        }
        if account.exhausted {
            timer(EXHAUSTION_GRACE_TIMER_KIND, account.grace_ends_ms);
            changes.push(account.grace_ends_ms);
        }
        let payees: BTreeSet<&String> = account.payees.iter().collect();
        for payee in payees {
            let payee = address("payee", payee)?;
            for at_ms in &changes {
                let entry = [payee.as_bytes().as_slice(), &at_ms.to_be_bytes(), id].concat();
                out.index(CHANGES, &entry, &[]);
            }
        }
    } else if let Some(lease) = key.strip_prefix(PAYMENTS) {
        let payment: Payment = records::decode(NAME, key, value)?;
        out.index(BY_ACCOUNT, &[&payment.account_id.to_be_bytes(), lease].concat(), &[]);
        if let Some(ms) = settlement_at(&payment) {
            out.timer(&Timer {
                class: TimerClass::Market,
                due: Deadline { height: 0, ms },
                module: MARKET.to_owned(),
                kind: SETTLEMENT_TIMER_KIND,
                id: lease.to_vec(),
            });
        }
        if payment.settle_by_ms > 0 {
            let payee = address("provider", &payment.provider)?;
            let settled = payment.settled_to_ms.to_be_bytes();
            out.index(UNSETTLED, &[payee.as_bytes().as_slice(), &settled, lease].concat(), &[]);
        }
    }
    Ok(())
}

//! What follows from this store's records: the market's timers and the index of payments.

use tenure_proto::tenure::escrow::v1::{Account, Payment};
use tenure_sdk::{records, Derived, Result, Timer, TimerClass};
use tenure_types::Deadline;

use crate::{
    accrual::FOREVER,
    keys::{ACCOUNTS, BY_ACCOUNT, NAME, PAYMENTS},
};

/// Kind of the market's timer at the instant at which an account's money runs out: it calls [`crate::catch_up`].
pub const EXHAUSTION_TIMER_KIND: u8 = 2;
/// Kind of the market's timer at the end of an exhausted account's grace: it ends the leases that wait for money.
pub const EXHAUSTION_GRACE_TIMER_KIND: u8 = 3;
/// Module that handles both.
const MARKET: &str = "market";

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
        if account.rate_sum > 0 && account.funded_until_ms < FOREVER {
            timer(EXHAUSTION_TIMER_KIND, account.funded_until_ms);
        }
        if account.exhausted {
            timer(EXHAUSTION_GRACE_TIMER_KIND, account.grace_ends_ms);
        }
    } else if let Some(lease) = key.strip_prefix(PAYMENTS) {
        let payment: Payment = records::decode(NAME, key, value)?;
        out.index(BY_ACCOUNT, &[&payment.account_id.to_be_bytes(), lease].concat(), &[]);
    }
    Ok(())
}

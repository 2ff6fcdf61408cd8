//! Escrow accounts that pay exactly for attested time.
//!
//! An account holds a tenant's money for one bid; its payments, one for each lease, draw on it. What is paid for is decided elsewhere: attested
//! time comes in as a value, [`AttestedTime`]. The arithmetic is [`accrual`], a pure core; this crate loads, calls it, moves the coins and
//! saves. It knows no leases, only their ids.
//!
//! **Order of calls.** Money that has run out takes effect at the instant X at which it did. Every function here therefore begins with
//! [`catch_up`]; a caller that must know which leases that pauses calls it first itself, because it reports each lease once.
//!
//! Timers that follow from an account are the market's to handle (class safety, module `market`, id = account id, 8 bytes, big-endian):
//! [`REVIEW_TIMER_KIND`] before X (answer: [`fn@review`]), [`EXHAUSTION_TIMER_KIND`] at X while anything runs (answer: [`settle_as_of`], then
//! [`catch_up`]) and [`EXHAUSTION_GRACE_TIMER_KIND`] at the end of the grace while exhausted (answer: [`begin_close`] of the leases that wait for
//! money). So is [`SETTLEMENT_TIMER_KIND`] of a payment (class market, id = lease; answer: [`settle_due`]). The order in which they must take effect
//! is that of [`next_due`].
//!
//! Invariants: for each denom the module's account holds Σ balances + Σ earnings not withdrawn; an account's balance is the sum of its lots;
//! R, K and X are those of its open payments; deposited = paid + refunded + balance; the balance covers what can be owed by now; a closed
//! account holds nothing and pays nothing.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod accounts;
pub mod accrual;
mod closing;
mod errors;
mod events;
mod genesis;
mod invariants;
mod keys;
mod lots;
mod params;
mod payments;
mod queries;
mod review;
mod settlement;
mod state;
mod timers;
mod top_up;

use serde_json::Value;
use tenure_sdk::{Ctx, DeriveFn, Module, QueryRoute, Result};

pub use accounts::{close_account, deposit, open_account, withdraw_deposit};
pub use closing::{begin_close, finish_close, Closed};
pub use errors::EscrowError;
pub use keys::NAME;
pub use lots::MAX_LOTS;
pub use params::{default_params, params};
pub use payments::{amend, catch_up, is_running, pause, resume, start_payment, MAX_PAYMENTS};
pub use review::{next_due, review, settle_as_of, settle_due, Due};
pub use settlement::{except, instants, pay_out, settle, Settled};
pub use state::{account, all_accounts, next_change, oldest_unsettled, payment};
pub use tenure_proto::tenure::escrow::v1::{
    Account, AccountState, AutoTopUp, Lot, Params, Payment, Segment, TopUpOrder,
};
pub use tenure_types::{AttestedTime, GapSpan};
pub use timers::{EXHAUSTION_GRACE_TIMER_KIND, EXHAUSTION_TIMER_KIND, REVIEW_TIMER_KIND, SETTLEMENT_TIMER_KIND};
pub use top_up::{check_order, set_auto_top_up};

/// Keeps the accounts and their payments.
pub struct EscrowModule;

impl Module for EscrowModule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn queries(&self) -> Vec<QueryRoute> {
        queries::routes()
    }

    fn derive(&self) -> DeriveFn {
        timers::derive
    }

    fn init_genesis(&self, ctx: &mut Ctx, section: &Value) -> Result<()> {
        genesis::init(ctx, section)
    }

    fn export_genesis(&self, ctx: &mut Ctx) -> Result<Value> {
        genesis::export(ctx)
    }

    fn invariants(&self, ctx: &mut Ctx) -> Result<()> {
        invariants::check(ctx)
    }
}

#[cfg(test)]
mod tests;

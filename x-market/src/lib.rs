//! Bids, claims, matching and leases.
//!
//! A tenant posts a *bid* and funds it; providers make *claims* on it; the *match* at the end of a block turns it into a *lease*, which runs
//! on attested time (`tenure_x_provider`) and is paid from the bid's escrow account (`tenure_x_escrow`).
//!
//! ```text
//! bid    OPEN -> LEASED | CANCELLED | EXPIRED
//! lease  STARTING -> ACTIVE <-> PAUSED -> CLOSING -> CLOSED
//!           `--------------------------------------^   (never ready: over at once and unpaid)
//! ```
//!
//! Everything that ends ends at the instant it was due, whenever that is noticed: see [`lifecycle`]. Closing takes two steps: at CLOSING
//! accrual stops and what can no longer be owed returns; CLOSED comes when the last epoch's outcome is final.
//!
//! What always holds ([`Module::invariants`]): a provider's reservation and its count of open leases are the sums over its leases that are
//! not CLOSED; a LEASED bid has its lease and the lease its bid; a bid counts its claims and only an OPEN one has any; an escrow account is
//! open exactly while its bid is OPEN or its lease not CLOSED; deposited = paid + refunded + held; indexes and timers are those that a
//! rebuild from the records gives.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

mod capacity;
pub mod derive;
pub mod end_block;
pub mod errors;
mod events;
mod genesis;
mod invariants;
pub mod keys;
pub mod lifecycle;
pub mod matching;
mod msgs;
pub mod params;
mod queries;
pub mod state;

use serde_json::Value;
use tenure_sdk::{Ctx, DeriveFn, Error, Module, MsgRoute, QueryRoute, Result, Timer};
use tenure_types::Address;

pub use errors::MarketError;
pub use lifecycle::{bid, lease};
pub use params::{default_params, params};

/// Store, genesis section and codespace.
pub const NAME: &str = "market";

/// The market.
pub struct MarketModule;

impl Module for MarketModule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn messages(&self) -> Vec<MsgRoute> {
        msgs::routes()
    }

    fn queries(&self) -> Vec<QueryRoute> {
        queries::routes()
    }

    fn derive(&self) -> DeriveFn {
        derive::derive
    }

    fn init_genesis(&self, ctx: &mut Ctx, section: &Value) -> Result<()> {
        genesis::init(ctx, section)
    }

    fn export_genesis(&self, ctx: &mut Ctx) -> Result<Value> {
        genesis::export(ctx)
    }

    fn due(&self, ctx: &mut Ctx, timer: &Timer) -> Result<()> {
        match timer.kind {
            derive::BID_EXPIRY_TIMER_KIND => bid(ctx, keys::id_of(&timer.id)?).map(drop),
            derive::START_TIMER_KIND | derive::LEASE_EXPIRY_TIMER_KIND | tenure_x_escrow::SETTLEMENT_TIMER_KIND => {
                lease(ctx, keys::id_of(&timer.id)?).map(drop)
            }
            // Accounts are numbered like the bids they belong to, and only one that pays a lease can run out.
            tenure_x_escrow::REVIEW_TIMER_KIND
            | tenure_x_escrow::EXHAUSTION_TIMER_KIND
            | tenure_x_escrow::EXHAUSTION_GRACE_TIMER_KIND => {
                let bid = bid(ctx, keys::id_of(&timer.id)?)?;
                lease(ctx, bid.lease_id).map(drop)
            }
            tenure_x_provider::DEFAULT_TIMER_KIND => {
                let owner = Address::from_slice(&timer.id)
                    .ok_or_else(|| Error::internal(format!("market: {timer:?} names no provider")))?;
                end_block::begin_default(ctx, &owner)
            }
            _ => Err(Error::internal(format!("market has no such timer: {timer:?}"))),
        }
    }

    fn end_block(&self, ctx: &mut Ctx) -> Result<()> {
        end_block::end_block(ctx)
    }

    fn invariants(&self, ctx: &mut Ctx) -> Result<()> {
        invariants::check(ctx)
    }
}

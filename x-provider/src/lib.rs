//! Providers: their bonds, their capacity and their attested time.
//!
//! Attested time is the record that money follows. A provider's time is cut into epochs on its own grid; `W` (`final_until_ms`) is the instant
//! up to which each epoch's outcome is final, and only missed stretches are stored ([`state`] gaps). `MsgAttest` and the passing of an epoch's
//! deadline both move W in O(1), whatever the number of leases. Escrow receives the result as a plain value, [`AttestedTime`].
//!
//! While a provider has no open lease no timer runs and its time passes as missed, recorded at once when the next lease opens. A provider that
//! misses `default_after_misses` epochs in a row defaults: the instant is noted in `default_at_ms`, from which a timer for the market is derived
//! ([`DEFAULT_TIMER_KIND`]), the count restarts, and the market takes the instant over ([`take_defaults`]) and ends the leases made before it.
//!
//! Invariants: the module's account holds the sum of the bonds; what is reserved fits the capacity; W is on the grid; gaps are ordered,
//! disjoint, not adjacent, end by W, and each knows the missed time before it (old ones that nobody asks for are dropped); the next deadline is known exactly while leases are open.

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

mod capacity;
mod epochs;
mod errors;
mod events;
mod genesis;
mod invariants;
mod keys;
mod msgs;
mod params;
mod queries;
mod state;
mod timers;

use serde_json::Value;
use tenure_sdk::{Ctx, DeriveFn, Module, MsgRoute, QueryRoute, Result, Timer};

pub use capacity::{may_take_leases, release, reserve};
pub use epochs::{
    attested, attested_as_of, catch_up, close_lease, epoch_of, epoch_range, needed_from, open_lease, take_defaults,
};
pub use errors::ProviderError;
pub use keys::NAME;
pub use msgs::{attestable, MAX_EPOCHS_PER_ATTEST};
pub use params::{default_params, params};
pub use state::load;
pub use tenure_proto::tenure::provider::v1::{Gap, Params, Provider, ProviderStatus};
pub use tenure_types::{AttestedTime, GapSpan};
pub use timers::DEFAULT_TIMER_KIND;

/// Keeps the providers.
pub struct ProviderModule;

impl Module for ProviderModule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn messages(&self) -> Vec<MsgRoute> {
        vec![
            MsgRoute::of::<msgs::Register>(),
            MsgRoute::of::<msgs::Update>(),
            MsgRoute::of::<msgs::Attest>(),
            MsgRoute::of::<msgs::Drain>(),
            MsgRoute::of::<msgs::Leave>(),
        ]
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

    fn due(&self, ctx: &mut Ctx, timer: &Timer) -> Result<()> {
        timers::due(ctx, timer)
    }

    fn invariants(&self, ctx: &mut Ctx) -> Result<()> {
        invariants::check(ctx)
    }
}

#[cfg(test)]
mod tests;

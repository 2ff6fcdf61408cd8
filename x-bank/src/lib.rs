//! Balances, supply and transfers.
//!
//! Other modules move money with [`transfer`], [`transfer_coins`] and read it with [`balance`]; whoever receives a coin gets an account. Every
//! movement emits Cosmos' own events: `coin_spent`, `coin_received`, `transfer`, `message`.
//!
//! Invariants: the supply of a denom is the sum of its balances; no stored balance or supply is zero; whoever has a balance has an account.

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
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod errors;
mod events;
mod genesis;
mod invariants;
mod keys;
mod msgs;
mod queries;
mod state;

use serde_json::Value;
use tenure_sdk::{Ctx, Module, MsgRoute, QueryRoute, Result};

pub use errors::BankError;
pub use keys::NAME;
pub use state::{balance, balances, burn, mint, supply, transfer, transfer_coins};

/// Keeps the balances.
pub struct BankModule;

impl Module for BankModule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn messages(&self) -> Vec<MsgRoute> {
        vec![MsgRoute::of::<msgs::Send>(), MsgRoute::of::<msgs::MultiSend>()]
    }

    fn queries(&self) -> Vec<QueryRoute> {
        queries::routes()
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

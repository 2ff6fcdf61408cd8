//! Accounts: numbers, sequences, public keys, and the accounts of modules.
//!
//! An account exists from the first coin it receives (`tenure_x_bank` creates it). Its number is part of what its owner signs, so a signature
//! for an account that was never created is void. Nobody holds a key of a module's account, and users may not send to it.
//!
//! Invariants: account numbers are `0..next`, each once; a record's address is that of its key; a stored public key hashes to its address.

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

mod genesis;
mod invariants;
mod keys;
mod params;
mod queries;
mod state;

use serde_json::Value;
use tenure_sdk::{Ctx, Module, QueryRoute, Result};

pub use keys::NAME;
pub use params::{default_params, params, set_params};
pub use state::{
    account, ensure_exists, ensure_module_account, exists, fee_collector, is_module_account, module_address,
    pub_key_of, save, set_pub_key, show_key, take_sequence, PUB_KEY_TYPE_URL,
};

/// The account that collects fees.
pub const FEE_COLLECTOR: &str = "fee_collector";

/// Keeps the accounts.
pub struct AuthModule;

impl Module for AuthModule {
    fn name(&self) -> &'static str {
        NAME
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

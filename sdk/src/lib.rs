//! What a module of the chain is.
//!
//! A module is a value of the trait [`Module`]: it names its store, its messages ([`Handler`]), its queries, what follows from its records
//! ([`Derived`]: indexes and timers) and what it does at the end of a block. Modules call each other's plain functions, downwards only
//! (`docs/layout.md`); they reach state through [`Ctx`] and nothing else. [`testing`] gives a `Ctx` in memory.

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
        clippy::cast_sign_loss,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing
    )
)]

pub mod clock;
pub mod ctx;
pub mod derived;
pub mod gas;
pub mod json;
pub mod module;
pub mod page;
pub mod recent;
pub mod records;
pub mod state;
pub mod testing;
pub mod unknown;

pub use ctx::{Block, Ctx, Event, Mode};
pub use derived::{DeriveFn, DeriveTable, Derived, Timer, TimerClass};
pub use gas::GasMeter;
pub use module::{ErasedMsg, Handler, Module, MsgRoute, QueryRoute};
pub use recent::{Changed, Recent, RecordCache};
pub use state::{Base, Committed, DerivedMap, State, Writes};
pub use tenure_types::{sdk as codes, Error, Result};

//! The one workload that every store is measured with, and how a store takes part.
//!
//! A store is measured in a process of its own ([`contest::serve`]): its compactions are then charged to it and to nobody else, and a store
//! that cannot link beside ours takes part like any other. The driver lets all of them commit in turn, a few blocks each, so that
//! whatever else the machine does falls on all alike.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

pub mod contest;
pub mod cost;
mod workload;

pub use workload::{key, Update, Workload, KEY_BYTES, VALUE_BYTES};

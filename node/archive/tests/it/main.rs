//! The archive from outside: what readers see, searches, pruning, gaps, and death at any instant.

#![allow(clippy::disallowed_methods)] // Tests measure wall time.

mod cost;
mod crash;
mod damage;
mod model;
mod reads;
mod toy;

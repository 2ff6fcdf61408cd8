//! Tests of the RocksDB backend: it behaves like the one in memory, and survives kills, lost power and full disks.

#![allow(clippy::disallowed_methods, reason = "the tests print how long they took")]

mod backend;
mod chain;
mod crash;
mod disk_full;
mod power_loss;

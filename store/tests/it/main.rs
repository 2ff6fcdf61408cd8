//! Tests of the store's public interface on the memory backend. The RocksDB backend has its own, in `store/rocks/tests`.

mod differential;
mod faults;
mod lifecycle;
mod proofs;
mod snapshots;
mod support;

//! The RocksDB backend of the store.

//! Tests of the store's public interface.

//! Providers, their bonds, their capacity and their attested time.

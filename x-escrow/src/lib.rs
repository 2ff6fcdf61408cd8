//! Escrow accounts that pay exactly for attested time.

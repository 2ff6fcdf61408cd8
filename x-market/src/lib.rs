//! Bids, claims, matching and leases.

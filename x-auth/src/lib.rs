//! Accounts, sequences, public keys and module accounts.

//! Layout of the store `escrow`. Ids are 8 bytes, big-endian.
//!
//! ```text
//! a · account    Account    61 00 00 00 00 00 00 00 05
//! l · lease      Payment    6C 00 00 00 00 00 00 00 05
//! p              Params     70
//! ```
//!
//! Derived: index `escrow_payments` · account · lease, for an account's payments, final ones included; and `escrow_changes` · payee (20) · instant ·
//! account, for what the passing of time alone does to an account with an open payment to that payee: the instant its money runs out, and the end
//! of its grace; and `escrow_unsettled` · payee (20) · settled_to_ms · lease, for payments that are not final.

use tenure_sdk::derived::index_key;
use tenure_types::Address;

/// Store, genesis section, codespace and module account.
pub const NAME: &str = "escrow";
/// Prefix of accounts.
pub(crate) const ACCOUNTS: &[u8] = b"a";
/// Prefix of payments.
pub(crate) const PAYMENTS: &[u8] = b"l";
/// The parameters.
pub(crate) const PARAMS: &[u8] = b"p";
/// Index of payments by account.
pub(crate) const BY_ACCOUNT: &str = "escrow_payments";

/// Index of accounts by payee and the instants at which time alone changes them.
pub(crate) const CHANGES: &str = "escrow_changes";

/// An account.
pub(crate) fn account(id: u64) -> Vec<u8> {
    [ACCOUNTS, &id.to_be_bytes()].concat()
}

/// A lease's payment.
pub(crate) fn payment(lease: u64) -> Vec<u8> {
    [PAYMENTS, &lease.to_be_bytes()].concat()
}

/// Prefix of an account's entries in the index of payments.
pub(crate) fn payments_of(account: u64) -> Vec<u8> {
    index_key(BY_ACCOUNT, &account.to_be_bytes())
}

/// Prefix of a payee's entries in the index of changes.
pub(crate) fn changes_of(payee: &Address) -> Vec<u8> {
    index_key(CHANGES, payee.as_bytes())
}

/// Index of payments that are not final by payee and the instant up to which they are settled.
pub(crate) const UNSETTLED: &str = "escrow_unsettled";

/// Prefix of a payee's entries in the index of unsettled payments.
pub(crate) fn unsettled_of(payee: &Address) -> Vec<u8> {
    index_key(UNSETTLED, payee.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_change() {
        assert_eq!(hex::encode(account(5)), "610000000000000005");
        assert_eq!(hex::encode(payment(5)), "6c0000000000000005");
        assert_eq!((PARAMS, NAME), (b"p".as_slice(), "escrow"));
        assert_eq!(payments_of(5), b"escrow_payments/\0\0\0\0\0\0\0\x05");
    }
}

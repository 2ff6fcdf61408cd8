//! Layout of the store `auth`:
//!
//! ```text
//! a · address (20)   BaseAccount            61 07 07 … 07      of persons and modules
//! m · address (20)   ModuleAccount          6D 07 07 … 07      name and permissions only; the account itself is under `a`
//! n                  next account number    6E                 8 bytes, big-endian
//! p                  Params                 70
//! ```

use tenure_types::Address;

/// Store, genesis section and codespace.
pub const NAME: &str = "auth";
/// Prefix of accounts.
pub(crate) const ACCOUNTS: &[u8] = b"a";
/// Prefix of modules' accounts.
pub(crate) const MODULES: &[u8] = b"m";
/// The next account number.
pub(crate) const NEXT_NUMBER: &[u8] = b"n";
/// The parameters.
pub(crate) const PARAMS: &[u8] = b"p";

/// An account.
pub(crate) fn account(address: &Address) -> [u8; 21] {
    of(b'a', address)
}

/// A module's account.
pub(crate) fn module(address: &Address) -> [u8; 21] {
    of(b'm', address)
}

fn of(prefix: u8, address: &Address) -> [u8; 21] {
    let mut key = [prefix; 21];
    key[1..].copy_from_slice(address.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_change() {
        let address = Address::new([7; 20]);
        assert_eq!(hex::encode(account(&address)), format!("61{}", "07".repeat(20)));
        assert_eq!(hex::encode(module(&address)), format!("6d{}", "07".repeat(20)));
        assert_eq!((NEXT_NUMBER, PARAMS, NAME), (b"n".as_slice(), b"p".as_slice(), "auth"));
    }
}

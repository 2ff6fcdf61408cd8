//! Layout of the store `bank`. Amounts are 16 bytes, big-endian; a zero amount has no record.
//!
//! ```text
//! b · address (20) · denom   balance    62 07 07 … 07 75 74 65 6E    uten of 0707…07
//! d · denom                  Metadata   64 75 74 65 6E
//! p                          Params     70
//! s · denom                  supply     73 75 74 65 6E
//! ```

use tenure_types::Address;

/// Store, genesis section and codespace.
pub const NAME: &str = "bank";
/// Prefix of balances.
pub(crate) const BALANCES: &[u8] = b"b";
/// Prefix of what is known of denoms.
pub(crate) const METADATA: &[u8] = b"d";
/// The parameters.
pub(crate) const PARAMS: &[u8] = b"p";
/// Prefix of supplies.
pub(crate) const SUPPLY: &[u8] = b"s";

/// Prefix of an account's balances.
pub(crate) fn balances_of(address: &Address) -> Vec<u8> {
    [BALANCES, address.as_bytes().as_slice()].concat()
}

/// A balance.
pub(crate) fn balance(address: &Address, denom: &str) -> Vec<u8> {
    [BALANCES, address.as_bytes().as_slice(), denom.as_bytes()].concat()
}

/// What is known of a denom.
pub(crate) fn metadata(denom: &str) -> Vec<u8> {
    [METADATA, denom.as_bytes()].concat()
}

/// A denom's supply.
pub(crate) fn supply(denom: &str) -> Vec<u8> {
    [SUPPLY, denom.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_change() {
        let address = Address::new([7; 20]);
        assert_eq!(
            hex::encode(balance(&address, "uten")),
            format!("62{}7574656e", "07".repeat(20))
        );
        assert_eq!(hex::encode(balances_of(&address)), format!("62{}", "07".repeat(20)));
        assert_eq!(hex::encode(metadata("uten")), "647574656e");
        assert_eq!(hex::encode(supply("uten")), "737574656e");
        assert_eq!((PARAMS, NAME), (b"p".as_slice(), "bank"));
    }
}

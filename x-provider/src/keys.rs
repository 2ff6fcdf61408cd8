//! Layout of the store `provider`. Instants are 8 bytes, big-endian.
//!
//! ```text
//! a                                  Params      61
//! g · owner (20) · start             Gap         67 07 07 … 07 00 00 00 00 00 00 00 05    the gap of 0707…07 that begins at 5 ms
//! r · owner (20)                     Provider    72 07 07 … 07
//! ```

use tenure_types::Address;

/// Store, genesis section, codespace and module account.
pub const NAME: &str = "provider";
/// The parameters.
pub(crate) const PARAMS: &[u8] = b"a";
/// Prefix of gaps.
pub(crate) const GAPS: &[u8] = b"g";
/// Prefix of providers.
pub(crate) const PROVIDERS: &[u8] = b"r";

/// A provider.
pub(crate) fn provider(owner: &Address) -> Vec<u8> {
    [PROVIDERS, owner.as_bytes().as_slice()].concat()
}

/// Prefix of a provider's gaps.
pub(crate) fn gaps_of(owner: &Address) -> Vec<u8> {
    [GAPS, owner.as_bytes().as_slice()].concat()
}

/// A gap.
pub(crate) fn gap(owner: &Address, start_ms: u64) -> Vec<u8> {
    [GAPS, owner.as_bytes().as_slice(), &start_ms.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_change() {
        let owner = Address::new([7; 20]);
        let bytes = "07".repeat(20);
        assert_eq!((PARAMS, NAME), (b"a".as_slice(), "provider"));
        assert_eq!(hex::encode(provider(&owner)), format!("72{bytes}"));
        assert_eq!(hex::encode(gaps_of(&owner)), format!("67{bytes}"));
        assert_eq!(hex::encode(gap(&owner, 5)), format!("67{bytes}0000000000000005"));
    }
}

//! Account addresses: 20 bytes, written in bech32.

mod text;

use std::{fmt, str::FromStr};

use bech32::{Bech32, Hrp};
use ripemd::Ripemd160;
use sha2::{Digest, Sha256};

/// Human-readable part of account addresses.
pub const ACCOUNT_PREFIX: &str = "tenure";
/// Human-readable part of validator operator addresses.
pub const VALOPER_PREFIX: &str = "tenurevaloper";
/// Human-readable part of consensus addresses.
pub const VALCONS_PREFIX: &str = "tenurevalcons";

/// An account: of a person, an agent or a module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 20]);

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not bech32 at all.
    #[error("address {0:?} is not bech32: {1}")]
    Encoding(String, String),
    /// Bech32 with another prefix.
    #[error("address {text:?} has the prefix {found:?}, expected {ACCOUNT_PREFIX:?}")]
    Prefix {
        /// The text.
        text: String,
        /// Its prefix.
        found: String,
    },
    /// Bech32 of another length.
    #[error("address {text:?} holds {found} bytes, expected 20")]
    Length {
        /// The text.
        text: String,
        /// Its length, bytes.
        found: usize,
    },
}

impl Address {
    /// The address with these bytes.
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The address of a compressed secp256k1 key (33 bytes): RIPEMD-160 of SHA-256, as every Cosmos chain has it.
    pub fn of_secp256k1(compressed: &[u8]) -> Self {
        Self(Ripemd160::digest(Sha256::digest(compressed)).into())
    }

    /// The address of a module's account: the first 20 bytes of SHA-256 of its name. Nobody holds a key for it.
    pub fn of_module(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&digest[..20]);
        Self(bytes)
    }

    /// Its 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The address in these bytes, if there are 20.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Bech32 with another prefix, for example [`VALOPER_PREFIX`].
    pub fn to_bech32(&self, prefix: &str) -> String {
        Hrp::parse(prefix)
            .ok()
            .and_then(|hrp| bech32::encode::<Bech32>(hrp, &self.0).ok())
            .unwrap_or_else(|| hex::encode(self.0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = text::encode(&self.0);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(bytes) = text::decode(text) {
            return Ok(Self(bytes));
        }
        // Bech32m has another checksum constant: CheckedHrpstring::<Bech32> refuses it, as other Cosmos software does.
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<Bech32>(text)
            .map_err(|e| AddressError::Encoding(text.to_owned(), e.to_string()))?;
        let found = parsed.hrp();
        if found.as_str() != ACCOUNT_PREFIX {
            return Err(AddressError::Prefix {
                text: text.to_owned(),
                found: found.to_string(),
            });
        }
        let (mut bytes, mut found) = ([0; 20], 0);
        for byte in parsed.byte_iter() {
            if let Some(place) = bytes.get_mut(found) {
                *place = byte;
            }
            found += 1;
        }
        if found != bytes.len() {
            return Err(AddressError::Length {
                text: text.to_owned(),
                found,
            });
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let address = Address::new([7; 20]);
        let text = address.to_string();
        assert!(text.starts_with("tenure1"), "{text}");
        assert_eq!(text.parse::<Address>(), Ok(address));
    }

    #[test]
    fn other_prefixes_and_damage_are_refused_with_a_reason() {
        let valoper = Address::new([7; 20]).to_bech32(VALOPER_PREFIX);
        assert!(matches!(valoper.parse::<Address>(), Err(AddressError::Prefix { .. })));
        let mut text = Address::new([7; 20]).to_string();
        text.pop();
        assert!(matches!(text.parse::<Address>(), Err(AddressError::Encoding(..))));
        assert!(matches!("".parse::<Address>(), Err(AddressError::Encoding(..))));
    }

    #[test]
    fn the_address_of_a_key_is_the_one_other_cosmos_software_computes() {
        // Test vector of the Cosmos SDK's documentation of BIP-44 paths: the generator point's compressed encoding.
        let key = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").expect("hex");
        assert_eq!(
            hex::encode(Address::of_secp256k1(&key).as_bytes()),
            "751e76e8199196d454941c45d1b3a323f1433bd6"
        );
    }
}

//! Errors as clients see them: a codespace, a stable number and a sentence.

use std::fmt;

/// What every fallible function of the chain returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that a client can tell apart by codespace and code. The message names the field, the value and the limit it broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Namespace of the code: a module's name or `sdk`.
    pub codespace: &'static str,
    /// Stable number, never 0.
    pub code: u32,
    /// A sentence for people.
    pub message: String,
}

/// Codespace of errors that mean the node itself is broken (a read failed, a stored record does not decode, an invariant does not hold).
/// Such an error inside a block aborts the process; it never becomes a transaction's result.
pub const INTERNAL: &str = "internal";

/// About the most bytes of a message.
pub const MAX_MESSAGE_BYTES: usize = 1_024;

impl Error {
    /// An error of some codespace. Of a message beyond [`MAX_MESSAGE_BYTES`] the middle is left out: it names what somebody sent, which may be
    /// long, and every node answers, logs and keeps it.
    pub fn new(codespace: &'static str, code: u32, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            let half = MAX_MESSAGE_BYTES / 2;
            let (first, last) = (
                message.floor_char_boundary(half),
                message.ceil_char_boundary(message.len().saturating_sub(half)),
            );
            message.replace_range(first..last, " … ");
        }
        Self {
            codespace,
            code,
            message,
        }
    }

    /// An error of the codespace `sdk`, which every Cosmos client knows; `code` is one of [`sdk`].
    pub fn sdk(code: u32, message: impl Into<String>) -> Self {
        Self::new("sdk", code, message)
    }

    /// The node is broken: see [`INTERNAL`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, 1, message)
    }

    /// Whether the node is broken: see [`INTERNAL`].
    pub fn is_internal(&self) -> bool {
        self.codespace == INTERNAL
    }

    /// The same error with words before its message that say where it happened.
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<crate::AddressError> for Error {
    fn from(error: crate::AddressError) -> Self {
        Self::sdk(sdk::INVALID_ADDRESS, error.to_string())
    }
}

/// Numbers of the codespace `sdk`. They are the Cosmos SDK's, because wallets and relayers act on them.
pub mod sdk {
    /// The transaction does not decode.
    pub const TX_DECODE: u32 = 2;
    /// A signature is missing or wrong.
    pub const UNAUTHORIZED: u32 = 4;
    /// An account has less than it should pay.
    pub const INSUFFICIENT_FUNDS: u32 = 5;
    /// A message type that the chain does not know.
    pub const UNKNOWN_REQUEST: u32 = 6;
    /// An address does not parse.
    pub const INVALID_ADDRESS: u32 = 7;
    /// A public key is malformed or not the account's.
    pub const INVALID_PUBKEY: u32 = 8;
    /// An account does not exist.
    pub const UNKNOWN_ADDRESS: u32 = 9;
    /// A coin is malformed.
    pub const INVALID_COINS: u32 = 10;
    /// The gas limit does not suffice.
    pub const OUT_OF_GAS: u32 = 11;
    /// The memo is too long.
    pub const MEMO_TOO_LARGE: u32 = 12;
    /// The fee is below the minimum.
    pub const INSUFFICIENT_FEE: u32 = 13;
    /// More signatures than allowed.
    pub const TOO_MANY_SIGNATURES: u32 = 14;
    /// No signature.
    pub const NO_SIGNATURES: u32 = 15;
    /// A message's field is out of bounds.
    pub const INVALID_REQUEST: u32 = 18;
    /// The transaction waits already.
    pub const TX_IN_MEMPOOL: u32 = 19;
    /// The node's mempool has no room.
    pub const MEMPOOL_IS_FULL: u32 = 20;
    /// The transaction is too long.
    pub const TX_TOO_LARGE: u32 = 21;
    /// The signer may not do this.
    pub const INVALID_SIGNER: u32 = 24;
    /// The gas limit exceeds a block's.
    pub const INVALID_GAS_LIMIT: u32 = 41;
    /// The transaction's timeout height has passed.
    pub const TX_TIMEOUT_HEIGHT: u32 = 30;
    /// An extension option that the chain does not know.
    pub const UNKNOWN_EXTENSION_OPTIONS: u32 = 31;
    /// The sequence is not the account's.
    pub const WRONG_SEQUENCE: u32 = 32;
    /// Something that should exist does not.
    pub const NOT_FOUND: u32 = 38;
    /// Something that the chain does not support.
    pub const NOT_SUPPORTED: u32 = 37;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_their_beginning_and_their_end() {
        let short = "é".repeat(MAX_MESSAGE_BYTES / 2);
        assert_eq!(Error::internal(short.clone()).message, short);
        let error = Error::sdk(2, format!("memo {}: memo too large", "é".repeat(50_000)));
        assert!(error.message.len() < MAX_MESSAGE_BYTES + 10, "{}", error.message.len());
        assert!(error.message.starts_with("memo éé") && error.message.ends_with("éé: memo too large"));
        assert!(error.message.contains(" … "));
    }
}

//! The chain's errors as gRPC statuses.

use tenure_types::{sdk, Error};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata key of the error's codespace.
pub const CODESPACE: &str = "tenure-codespace";
/// Metadata key of the error's number.
pub const CODE: &str = "tenure-code";

/// The status of an error: the gRPC code nearest to it, its sentence followed by codespace and number, and both again as metadata for
/// programs.
pub fn status(error: &Error) -> Status {
    let mut status = Status::new(
        code(error),
        format!("{} ({}/{})", error.message, error.codespace, error.code),
    );
    let metadata = status.metadata_mut();
    if let Ok(codespace) = error.codespace.parse() {
        metadata.insert(CODESPACE, codespace);
    }
    metadata.insert(CODE, MetadataValue::from(error.code));
    if error.is_internal() {
        tracing::error!(%error, "a query found the node broken");
    }
    status
}

fn code(error: &Error) -> Code {
    if error.is_internal() {
        return Code::Internal;
    }
    match (error.codespace, error.code) {
        ("sdk", sdk::NOT_FOUND | sdk::UNKNOWN_ADDRESS) => Code::NotFound,
        ("sdk", sdk::UNKNOWN_REQUEST | sdk::NOT_SUPPORTED) => Code::Unimplemented,
        ("sdk", sdk::UNAUTHORIZED | sdk::INVALID_SIGNER) => Code::PermissionDenied,
        ("sdk", sdk::OUT_OF_GAS) => Code::ResourceExhausted,
        ("sdk", sdk::TX_IN_MEMPOOL) => Code::AlreadyExists,
        (
            "sdk",
            sdk::TX_DECODE
            | sdk::INVALID_ADDRESS
            | sdk::INVALID_PUBKEY
            | sdk::INVALID_COINS
            | sdk::MEMO_TOO_LARGE
            | sdk::INVALID_REQUEST
            | sdk::TX_TOO_LARGE
            | sdk::NO_SIGNATURES
            | sdk::TOO_MANY_SIGNATURES
            | sdk::UNKNOWN_EXTENSION_OPTIONS,
        ) => Code::InvalidArgument,
        // What the modules call "does not exist", by their stable numbers (docs/errors.md).
        ("provider", 1) | ("escrow", 1 | 2) | ("market", 2 | 3) => Code::NotFound,
        // A module's own rule, or a rule of transactions that state decides: the request is well formed, the state does not allow it.
        _ => Code::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_carry_codespace_and_number() {
        let status = status(&Error::new("market", 7, "bid 3 is closed"));
        assert_eq!(
            (status.code(), status.message()),
            (Code::FailedPrecondition, "bid 3 is closed (market/7)")
        );
        assert_eq!(
            status.metadata().get(CODESPACE).and_then(|v| v.to_str().ok()),
            Some("market")
        );
        assert_eq!(status.metadata().get(CODE).and_then(|v| v.to_str().ok()), Some("7"));
        assert_eq!(super::status(&Error::sdk(sdk::NOT_FOUND, "x")).code(), Code::NotFound);
        assert_eq!(super::status(&Error::internal("x")).code(), Code::Internal);
    }
}

//! What a tenant's key signs outside transactions: tokens for a provider's gateway and receipts of a hand-over. The provider's agent checks
//! both with the functions here, and the chain checks the receipt.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use prost::Message;
use sha2::{Digest, Sha256};
use tenure_proto::tenure::{
    gateway::v1::{Token, TokenClaims},
    market::v1::{HandoverReceipt, Manifest, OutputList},
};
use tenure_types::Address;

use crate::keys::{verify, Key};

/// How long a token is valid from its making, milliseconds.
pub const TOKEN_LIFE_MS: u64 = 10 * 60 * 1000;
/// How far before its making a token is valid already: two clocks may differ by this much, milliseconds.
pub const CLOCK_SKEW_MS: u64 = 60 * 1000;
/// Longest validity that a gateway accepts, milliseconds.
pub const MAX_TOKEN_LIFE_MS: u64 = 15 * 60 * 1000;
/// What stands before the token in the metadata `authorization`.
pub const BEARER: &str = "Bearer ";

/// Why a gateway does not accept a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not `Bearer <base64 of a Token>`.
    #[error("the metadata `authorization` must be `Bearer <base64 of the encoded Token>`: {0}")]
    Encoding(String),
    /// The signature is not the tenant's.
    #[error("the token is signed by {found}, and the lease's tenant is {expected}")]
    Signer {
        /// Who signed.
        found: Address,
        /// Whose lease it is.
        expected: Address,
    },
    /// The signature does not verify.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is not what it must be.
    #[error("the token's {field} is {found}, expected {expected}")]
    Claim {
        /// Which.
        field: &'static str,
        /// The value.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// Wall-clock milliseconds since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "tokens are about two machines' clocks; the chain never sees them"
)]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A token for one lease and one provider, valid for [`TOKEN_LIFE_MS`] from `now_ms` (wall clock).
pub fn token(key: &Key, chain_id: &str, lease_id: u64, provider: &str, now_ms: u64) -> Token {
    let claims = TokenClaims {
        chain_id: chain_id.to_owned(),
        lease_id,
        provider: provider.to_owned(),
        not_before_ms: now_ms.saturating_sub(CLOCK_SKEW_MS),
        expires_ms: now_ms.saturating_add(TOKEN_LIFE_MS),
    }
    .encode_to_vec();
    Token {
        signature: key.sign(&claims).to_vec(),
        public_key: key.public_key().to_vec(),
        claims,
    }
}

/// The value of the metadata `authorization` for a token.
pub fn bearer(token: &Token) -> String {
    format!("{BEARER}{}", BASE64.encode(token.encode_to_vec()))
}

/// Reads and checks the value of the metadata `authorization` for a lease of `tenant` at `provider`.
pub fn check_bearer(
    header: &str,
    chain_id: &str,
    lease_id: u64,
    provider: &str,
    tenant: &Address,
    now_ms: u64,
) -> Result<(), TokenError> {
    let (token, claims) = parse_bearer(header)?;
    let claim = |field, found: &dyn ToString, expected: &dyn ToString| {
        let (found, expected) = (found.to_string(), expected.to_string());
        if found == expected {
            return Ok(());
        }
        Err(TokenError::Claim { field, found, expected })
    };
    claim("chain_id", &claims.chain_id, &chain_id)?;
    claim("lease_id", &claims.lease_id, &lease_id)?;
    claim("provider", &claims.provider, &provider)?;
    if now_ms < claims.not_before_ms {
        let expected = format!("at most {now_ms}, this machine's clock");
        return Err(TokenError::Claim {
            field: "not_before_ms",
            found: claims.not_before_ms.to_string(),
            expected,
        });
    }
    if now_ms >= claims.expires_ms {
        let expected = format!("more than {now_ms}, this machine's clock");
        return Err(TokenError::Claim {
            field: "expires_ms",
            found: claims.expires_ms.to_string(),
            expected,
        });
    }
    let life = claims.expires_ms.saturating_sub(claims.not_before_ms);
    if life > MAX_TOKEN_LIFE_MS {
        let expected = format!("at most {MAX_TOKEN_LIFE_MS} ms");
        return Err(TokenError::Claim {
            field: "validity",
            found: format!("{life} ms"),
            expected,
        });
    }
    let found = Address::of_secp256k1(&token.public_key);
    if found != *tenant {
        return Err(TokenError::Signer {
            found,
            expected: *tenant,
        });
    }
    if !verify(&token.public_key, &token.claims, &token.signature) {
        return Err(TokenError::Signature);
    }
    Ok(())
}

/// The token in the metadata `authorization` and what it claims. Nothing is checked but the encoding.
pub fn parse_bearer(header: &str) -> Result<(Token, TokenClaims), TokenError> {
    let malformed = |e: &dyn ToString| TokenError::Encoding(e.to_string());
    let text = header
        .strip_prefix(BEARER)
        .ok_or_else(|| malformed(&"it does not begin with `Bearer `"))?;
    let bytes = BASE64.decode(text).map_err(|e| malformed(&e))?;
    let token = Token::decode(bytes.as_slice()).map_err(|e| malformed(&e))?;
    let claims = TokenClaims::decode(token.claims.as_slice()).map_err(|e| malformed(&e))?;
    Ok((token, claims))
}

/// The hash that goes on chain for a manifest.
pub fn manifest_hash(manifest: &Manifest) -> [u8; 32] {
    Sha256::digest(manifest.encode_to_vec()).into()
}

/// The root that goes on chain for a workload's outputs.
pub fn output_root(outputs: &OutputList) -> [u8; 32] {
    Sha256::digest(outputs.encode_to_vec()).into()
}

/// The tenant's signature, 64 bytes, that a lease's workload was handed over.
pub fn sign_receipt(key: &Key, chain_id: &str, lease_id: u64, manifest_hash: &[u8]) -> [u8; 64] {
    key.sign(&receipt_bytes(chain_id, lease_id, manifest_hash))
}

/// The bytes that a receipt's signature is over (by SHA-256).
pub fn receipt_bytes(chain_id: &str, lease_id: u64, manifest_hash: &[u8]) -> Vec<u8> {
    HandoverReceipt {
        chain_id: chain_id.to_owned(),
        lease_id,
        manifest_hash: manifest_hash.to_vec(),
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    #[test]
    fn a_token_opens_its_lease_at_its_provider_for_its_time() {
        let (tenant, stranger) = (Key::random(), Key::random());
        let header = bearer(&token(&tenant, "tenure-1", 7, "tenure1p", NOW));
        let check = |chain, lease, provider, address: &Address, now| {
            check_bearer(&header, chain, lease, provider, address, now)
        };
        let owner = tenant.address();
        assert_eq!(check("tenure-1", 7, "tenure1p", &owner, NOW), Ok(()));
        assert_eq!(check("tenure-1", 7, "tenure1p", &owner, NOW - CLOCK_SKEW_MS), Ok(()));
        assert_eq!(
            check("tenure-1", 7, "tenure1p", &owner, NOW + TOKEN_LIFE_MS - 1),
            Ok(())
        );
        let field = |result| match result {
            Err(TokenError::Claim { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(check("tenure-2", 7, "tenure1p", &owner, NOW)), "chain_id");
        assert_eq!(field(check("tenure-1", 8, "tenure1p", &owner, NOW)), "lease_id");
        assert_eq!(field(check("tenure-1", 7, "tenure1q", &owner, NOW)), "provider");
        assert_eq!(
            field(check("tenure-1", 7, "tenure1p", &owner, NOW + TOKEN_LIFE_MS)),
            "expires_ms"
        );
        assert_eq!(
            field(check("tenure-1", 7, "tenure1p", &owner, NOW - CLOCK_SKEW_MS - 1)),
            "not_before_ms"
        );
        assert!(matches!(
            check("tenure-1", 7, "tenure1p", &stranger.address(), NOW),
            Err(TokenError::Signer { .. })
        ));
    }

    #[test]
    fn altered_and_endless_tokens_are_refused() {
        let key = Key::random();
        let check = |token: &Token| check_bearer(&bearer(token), "tenure-1", 7, "p", &key.address(), NOW);
        let mut altered = token(&key, "tenure-1", 7, "p", NOW);
        altered.signature[40] ^= 1;
        assert_eq!(check(&altered), Err(TokenError::Signature));
        let claims = TokenClaims {
            chain_id: "tenure-1".to_owned(),
            lease_id: 7,
            provider: "p".to_owned(),
            not_before_ms: NOW,
            expires_ms: NOW + MAX_TOKEN_LIFE_MS + 1,
        }
        .encode_to_vec();
        let endless = Token {
            signature: key.sign(&claims).to_vec(),
            public_key: key.public_key().to_vec(),
            claims,
        };
        assert!(matches!(
            check(&endless),
            Err(TokenError::Claim { field: "validity", .. })
        ));
        for header in ["", "Bearer", "Bearer ?", "Basic AAAA", "Bearer AAAA"] {
            assert!(
                matches!(parse_bearer(header), Err(TokenError::Encoding(_))),
                "{header:?}"
            );
        }
    }

    #[test]
    fn receipt_bytes_do_not_change() {
        // Field 1 (chain id), 2 (lease) and 3 (hash) in order, as in market.proto: the chain recomputes exactly these.
        let bytes = receipt_bytes("tenure-1", 7, &[0xab; 32]);
        assert_eq!(
            hex::encode(&bytes),
            format!("0a0874656e7572652d3110071a20{}", "ab".repeat(32))
        );
        let key = Key::random();
        assert!(verify(
            key.public_key(),
            &bytes,
            &sign_receipt(&key, "tenure-1", 7, &[0xab; 32])
        ));
    }
}

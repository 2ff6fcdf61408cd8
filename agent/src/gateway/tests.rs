//! The token table: what is let in and what is not, before the chain is asked.

use prost::Message;
use tenure_client::{
    auth::{bearer, token, MAX_TOKEN_LIFE_MS, TOKEN_LIFE_MS},
    keys::Key,
};
use tenure_proto::tenure::gateway::v1::{Token, TokenClaims};
use tonic::Code;

use super::*;

const NOW: u64 = 1_790_000_000_000;

fn judge(header: &str, now_ms: u64) -> Result<Caller, Status> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", header.parse().expect("ascii"));
    authorise(&metadata, "tenure-1", 7, "tenure1p", now_ms)
}

fn signed(key: &Key, claims: &TokenClaims) -> String {
    let claims = claims.encode_to_vec();
    bearer(&Token {
        signature: key.sign(&claims).to_vec(),
        public_key: key.public_key().to_vec(),
        claims,
    })
}

#[test]
fn a_token_is_judged_claim_by_claim() {
    let key = Key::random();
    let good = TokenClaims {
        chain_id: "tenure-1".into(),
        lease_id: 7,
        provider: "tenure1p".into(),
        not_before_ms: NOW,
        expires_ms: NOW + TOKEN_LIFE_MS,
    };
    let table: [(&str, TokenClaims, u64, Option<&str>); 10] = [
        ("as it should be", good.clone(), NOW, None),
        (
            "a clock behind within the skew",
            good.clone(),
            NOW - CLOCK_SKEW_MS,
            None,
        ),
        (
            "a clock ahead within the skew",
            good.clone(),
            good.expires_ms + CLOCK_SKEW_MS - 1,
            None,
        ),
        (
            "too early",
            good.clone(),
            NOW - CLOCK_SKEW_MS - 1,
            Some("not_before_ms"),
        ),
        (
            "expired",
            good.clone(),
            good.expires_ms + CLOCK_SKEW_MS,
            Some("expires_ms"),
        ),
        (
            "another lease",
            TokenClaims {
                lease_id: 8,
                ..good.clone()
            },
            NOW,
            Some("lease_id"),
        ),
        (
            "another provider",
            TokenClaims {
                provider: "tenure1q".into(),
                ..good.clone()
            },
            NOW,
            Some("provider"),
        ),
        (
            "another chain",
            TokenClaims {
                chain_id: "tenure-2".into(),
                ..good.clone()
            },
            NOW,
            Some("chain_id"),
        ),
        (
            "too long",
            TokenClaims {
                expires_ms: NOW + MAX_TOKEN_LIFE_MS + 1,
                ..good.clone()
            },
            NOW,
            Some("validity"),
        ),
        (
            "backwards",
            TokenClaims {
                expires_ms: NOW - 1,
                ..good.clone()
            },
            NOW,
            Some("not_before_ms"),
        ),
    ];
    for (name, claims, now, refused) in table {
        match (judge(&signed(&key, &claims), now), refused) {
            (Ok(caller), None) => assert_eq!(caller.address, key.address(), "{name}"),
            (Err(status), Some(field)) => {
                assert_eq!(status.code(), Code::Unauthenticated, "{name}");
                assert!(status.message().contains(field), "{name}: {status}");
            }
            (Ok(_), Some(_)) => panic!("{name}: let in"),
            (Err(status), None) => panic!("{name}: {status}"),
        }
    }
}

#[test]
fn a_token_with_another_key_or_damage_is_refused() {
    let (tenant, thief) = (Key::random(), Key::random());
    let mut stolen = token(&tenant, "tenure-1", 7, "tenure1p", NOW);
    stolen.public_key = thief.public_key().to_vec();
    assert_eq!(
        judge(&bearer(&stolen), NOW).err().map(|s| s.code()),
        Some(Code::Unauthenticated)
    );
    stolen.public_key = vec![2; 33];
    assert_eq!(
        judge(&bearer(&stolen), NOW).err().map(|s| s.code()),
        Some(Code::Unauthenticated)
    );
    for header in ["", "Bearer", "Bearer !", "Bearer AAAA", "Basic AAAA"] {
        assert_eq!(
            judge(header, NOW).err().map(|s| s.code()),
            Some(Code::Unauthenticated),
            "{header:?}"
        );
    }
    let none = authorise(&MetadataMap::new(), "tenure-1", 7, "tenure1p", NOW);
    assert_eq!(none.err().map(|s| s.code()), Some(Code::Unauthenticated));
    // A thief's own valid token is a valid token, of the thief: whose lease it is the chain says.
    let own = judge(&bearer(&token(&thief, "tenure-1", 7, "tenure1p", NOW)), NOW).expect("judged");
    assert_eq!(
        is_tenant(&own, &tenant.address().to_string(), 7)
            .err()
            .map(|s| s.code()),
        Some(Code::PermissionDenied)
    );
}

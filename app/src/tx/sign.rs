//! What is signed, and whether a signature is good.

use std::sync::LazyLock;

use prost::Message as _;
use secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, VerifyOnly};
use tenure_proto::cosmos::tx::v1beta1::SignDoc;

/// The bytes that SIGN_MODE_DIRECT signs (their SHA-256 goes into ECDSA), made from the transaction's bytes as they were received.
pub fn sign_bytes(body_bytes: &[u8], auth_info_bytes: &[u8], chain_id: &str, account_number: u64) -> Vec<u8> {
    SignDoc {
        body_bytes: body_bytes.to_vec(),
        auth_info_bytes: auth_info_bytes.to_vec(),
        chain_id: chain_id.to_owned(),
        account_number,
    }
    .encode_to_vec()
}

/// Whether `signature` (r and s, 64 bytes, s in the lower half of the order) is `compressed`'s (33 bytes) over a SHA-256 digest.
pub fn verify(digest: [u8; 32], compressed: &[u8; 33], signature: &[u8]) -> bool {
    static CONTEXT: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);
    // libsecp256k1 refuses an s in the upper half: a signature could otherwise be turned into another one by whoever relays it.
    match (
        PublicKey::from_byte_array_compressed(*compressed),
        Signature::from_compact(signature),
    ) {
        (Ok(key), Ok(signature)) => CONTEXT
            .verify_ecdsa(Message::from_digest(digest), &signature, &key)
            .is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k256::{
        ecdsa::{signature::hazmat::PrehashVerifier, Signature as Theirs, SigningKey, VerifyingKey},
        elliptic_curve::{ops::Reduce, PrimeField},
        FieldBytes, Scalar, U256,
    };
    use proptest::prelude::*;

    use super::*;

    /// The order of the group, big-endian.
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    fn theirs(digest: &[u8; 32], compressed: &[u8; 33], signature: &[u8]) -> bool {
        match (VerifyingKey::from_sec1_bytes(compressed), Theirs::from_slice(signature)) {
            (Ok(key), Ok(signature)) => key.verify_prehash(digest, &signature).is_ok(),
            _ => false,
        }
    }

    fn key(seed: u8) -> (SigningKey, [u8; 33]) {
        let key = SigningKey::from_slice(&[seed.max(1); 32]).unwrap();
        let compressed = key.verifying_key().to_sec1_bytes().as_ref().try_into().unwrap();
        (key, compressed)
    }

    fn signed(key: &SigningKey, digest: &[u8; 32]) -> Vec<u8> {
        let (signature, _) = key.sign_prehash_recoverable(digest).unwrap();
        signature.to_bytes().to_vec()
    }

    fn high_s(signature: &[u8]) -> Vec<u8> {
        let s = Scalar::from_repr(*FieldBytes::from_slice(&signature[32..])).unwrap();
        [&signature[..32], (-s).to_bytes().as_slice()].concat()
    }

    #[test]
    fn both_libraries_accept_the_valid_and_refuse_the_same_edge_cases() {
        let (signer, compressed) = key(7);
        let digest = [0x5a; 32];
        let good = signed(&signer, &digest);
        assert!(verify(digest, &compressed, &good) && theirs(&digest, &compressed, &good));
        let order = hex::decode(ORDER).unwrap();
        let with = |r: &[u8], s: &[u8]| [r, s].concat();
        let (r, s) = good.split_at(32);
        let zero = [0; 32];
        let mut compact_form = compressed;
        compact_form[0] = 5;
        for (name, bad) in [
            ("high s", high_s(&good)),
            ("zero r", with(&zero, s)),
            ("zero s", with(r, &zero)),
            ("both zero", with(&zero, &zero)),
            ("r = n", with(&order, s)),
            ("s = n", with(r, &order)),
            ("r > n", with(&[0xff; 32], s)),
            ("63 bytes", good[..63].to_vec()),
            ("65 bytes", [good.as_slice(), &[0]].concat()),
            ("empty", Vec::new()),
            ("DER", Theirs::from_slice(&good).unwrap().to_der().as_bytes().to_vec()),
        ] {
            assert!(!verify(digest, &compressed, &bad), "{name}");
            assert!(!theirs(&digest, &compressed, &bad), "{name}: k256");
        }
        // The one difference: k256 also reads SEC1's compact form (tag 5). No wallet writes it, and such a key hashes to another address.
        assert!(!verify(digest, &compact_form, &good));
        assert!(!verify([0x5b; 32], &compressed, &good));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn k256_and_libsecp256k1_accept_exactly_the_same_signatures(
            seed in 1_u8..200, digest in any::<[u8; 32]>(), flip in proptest::option::of((0_usize..64, 0_u8..8)),
            flip_key in proptest::option::of((0_usize..33, 0_u8..8)), high in any::<bool>(), random in proptest::option::weighted(0.1, any::<[u8; 32]>()),
        ) {
            let (signer, mut compressed) = key(seed);
            let mut signature = signed(&signer, &digest);
            if high { signature = high_s(&signature); }
            if let Some(random) = random {
                let s = <Scalar as Reduce<U256>>::reduce_bytes(&random.into());
                signature[32..].copy_from_slice(&s.to_bytes());
            }
            if let Some((byte, bit)) = flip { signature[byte] ^= 1 << bit; }
            if let Some((byte, bit)) = flip_key { compressed[byte] ^= 1 << bit; }
            let ours = verify(digest, &compressed, &signature);
            prop_assert_eq!(ours, theirs(&digest, &compressed, &signature));
            if flip.is_none() && flip_key.is_none() && !high && random.is_none() { prop_assert!(ours); }
            if high && random.is_none() && flip.is_none() { prop_assert!(!ours); }
        }
    }
}

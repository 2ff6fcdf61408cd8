//! What is signed, and whether a signature is good.

use std::sync::LazyLock;

use prost::Message as _;
use secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, VerifyOnly};
use sha2::{Digest, Sha256};
use tenure_proto::{
    amino,
    cosmos::{
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info::Sum, SignDoc, SignerInfo},
        },
    },
};
use tenure_sdk::{Error, Result};
use tenure_types::sdk;

use super::{cache::Signer, Signatures, Tx};

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

/// SHA-256 of what a signer of a transaction signs, by the mode that its `info` names: SIGN_MODE_LEGACY_AMINO_JSON, or else SIGN_MODE_DIRECT.
/// Error: the transaction has no amino JSON document, see [`amino_sign_bytes`].
fn digest(tx: &Tx, info: &SignerInfo, chain_id: &str, account_number: u64) -> Result<[u8; 32]> {
    let bytes = match info.mode_info.as_ref().and_then(|mode| mode.sum.as_ref()) {
        Some(Sum::Single(single)) if single.mode == i32::from(SignMode::LegacyAminoJson) => {
            amino_sign_bytes(tx, info, chain_id, account_number)?
        }
        _ => sign_bytes(&tx.raw.body_bytes, &tx.raw.auth_info_bytes, chain_id, account_number),
    };
    Ok(Sha256::digest(bytes).into())
}

/// Whether the signature of a transaction with this index and `info` is its signer's. Error: as [`digest`].
pub(crate) fn check(
    signatures: &Signatures,
    tx: &Tx,
    (i, info): (usize, &SignerInfo),
    signer: &Signer<'_>,
) -> Result<bool> {
    signatures.check((tx.hash, i), signer, || {
        let digest = digest(tx, info, signer.chain_id, signer.account_number)?;
        let signature = tx.raw.signatures.get(i).map_or(&[][..], Vec::as_slice);
        let key = signatures.key(&signer.compressed);
        Ok(key.is_some_and(|key| verify_by(digest, &key, signature)))
    })
}

/// The bytes that SIGN_MODE_LEGACY_AMINO_JSON signs.
///
/// The document speaks of what the bytes mean, not of the bytes. So that a relayer cannot write the same transaction differently, under another
/// hash, everything that the document is made from must be in its one canonical encoding, and the public key must be there. All wallets do so.
/// Errors: it is not (2); a message that amino JSON cannot represent without loss (2, 37).
fn amino_sign_bytes(tx: &Tx, info: &SignerInfo, chain_id: &str, account_number: u64) -> Result<Vec<u8>> {
    let key = info.public_key.as_ref();
    let key = key.is_some_and(|any| PubKey::decode(any.value.as_slice()).is_ok_and(|k| k.encode_to_vec() == any.value));
    let same = |what: bool, name: &str| {
        if what {
            return Ok(());
        }
        let message =
            format!("SIGN_MODE_LEGACY_AMINO_JSON: {name} is absent or not in canonical encoding: tx parse error");
        Err(Error::sdk(sdk::TX_DECODE, message))
    };
    same(key, "public_key")?;
    same(tx.auth_info.fee.is_some(), "fee")?;
    same(tx.body.encode_to_vec() == tx.raw.body_bytes, "TxBody")?;
    same(tx.auth_info.encode_to_vec() == tx.raw.auth_info_bytes, "AuthInfo")?;
    let document = amino::SignDoc {
        chain_id,
        account_number,
        sequence: info.sequence,
        timeout_height: tx.body.timeout_height,
        fee: tx.fee(),
        memo: &tx.body.memo,
        messages: &tx.body.messages,
    };
    document.bytes().map_err(|error| {
        let (code, meaning) = match &error {
            amino::AminoError::NoName(_) | amino::AminoError::Absent { .. } => {
                (sdk::NOT_SUPPORTED, "feature not supported")
            }
            amino::AminoError::Decode { .. } | amino::AminoError::NotCanonical(_) => (sdk::TX_DECODE, "tx parse error"),
        };
        Error::sdk(code, format!("SIGN_MODE_LEGACY_AMINO_JSON: {error}: {meaning}"))
    })
}

/// Whether `signature` (r and s, 64 bytes, s in the lower half of the order) is `compressed`'s (33 bytes) over a SHA-256 digest.
pub fn verify(digest: [u8; 32], compressed: &[u8; 33], signature: &[u8]) -> bool {
    let key = PublicKey::from_byte_array_compressed(*compressed);
    key.is_ok_and(|key| verify_by(digest, &key, signature))
}

/// As [`verify`], with a key that was parsed before.
fn verify_by(digest: [u8; 32], key: &PublicKey, signature: &[u8]) -> bool {
    static CONTEXT: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);
    // libsecp256k1 refuses an s in the upper half: a signature could otherwise be turned into another one by whoever relays it.
    Signature::from_compact(signature).is_ok_and(|signature| {
        let message = Message::from_digest(digest);
        CONTEXT.verify_ecdsa(message, &signature, key).is_ok()
    })
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

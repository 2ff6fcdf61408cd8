//! Signatures known to be good, so that a block does not verify again what CheckTx has verified.
//!
//! Outcomes never depend on it: what is not remembered is verified. Only good signatures are remembered, under a key that covers everything
//! the verdict depends on.

use std::collections::BTreeSet;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::sign;

type Key = [u8; 32];

/// A bounded set of verified signatures.
pub(crate) struct Signatures {
    half: usize,
    generations: RwLock<Generations>,
}

/// When the young generation is full it becomes the old one, and the old one is forgotten: every entry stays for at least `half` insertions.
#[derive(Default)]
struct Generations {
    young: BTreeSet<Key>,
    old: BTreeSet<Key>,
}

impl Signatures {
    /// Remembers at most `capacity` signatures; 0 remembers none.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            half: capacity / 2,
            generations: RwLock::default(),
        }
    }

    /// Whether it remembers anything: if not, verifying ahead of time is of no use.
    pub(crate) fn remembers(&self) -> bool {
        self.half > 0
    }

    /// Whether the signature over sign bytes with this SHA-256 is good.
    pub(crate) fn check(&self, digest: [u8; 32], compressed: &[u8; 33], signature: &[u8]) -> bool {
        let key: Key = Sha256::new()
            .chain_update(digest)
            .chain_update(compressed)
            .chain_update(signature)
            .finalize()
            .into();
        let known = {
            let generations = self.generations.read();
            generations.young.contains(&key) || generations.old.contains(&key)
        };
        if known {
            return true;
        }
        let good = sign::verify(digest, compressed, signature);
        if good && self.half > 0 {
            let mut generations = self.generations.write();
            if generations.young.len() >= self.half {
                generations.old = std::mem::take(&mut generations.young);
            }
            generations.young.insert(key);
        }
        good
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.read();
        generations.young.len().saturating_add(generations.old.len())
    }
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::SigningKey;

    use super::*;

    #[test]
    fn it_is_bounded_keeps_only_good_ones_and_never_changes_a_verdict() {
        let signer = SigningKey::from_slice(&[3; 32]).unwrap();
        let compressed: [u8; 33] = signer.verifying_key().to_sec1_bytes().as_ref().try_into().unwrap();
        let cache = Signatures::new(8);
        for i in 0..30_u8 {
            let digest = [i; 32];
            let (signature, _) = signer.sign_prehash_recoverable(&digest).unwrap();
            let mut bytes = signature.to_bytes().to_vec();
            for _ in 0..2 {
                assert!(cache.check(digest, &compressed, &bytes));
                assert!(!cache.check([i ^ 1; 32], &compressed, &bytes));
            }
            bytes[40] ^= 1;
            assert!(!cache.check(digest, &compressed, &bytes));
            assert!(!cache.check(digest, &compressed, &bytes));
            assert!(cache.len() <= 8);
        }
        assert_eq!(Signatures::new(0).len(), 0);
    }
}

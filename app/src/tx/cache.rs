//! Signatures known to be good, so that a block does not verify again what CheckTx has verified.
//!
//! Outcomes never depend on it: what is not remembered is verified. Only good signatures are remembered, under a key that covers everything
//! the verdict depends on.

use std::collections::BTreeSet;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::sign;

type Key = [u8; 32];

/// What was verified lately.
pub(crate) struct Signatures {
    /// Good signatures. What is in here decides.
    good: Recent,
    /// Transactions all of whose signatures were good when they were looked at: only a hint that looking at them ahead of time is of no use.
    /// Apart from the signatures, so that no transaction's bytes can be made to pass for a signature's.
    seen: Recent,
}

impl Signatures {
    /// Remembers at most `capacity` signatures and as many transactions; 0 remembers none.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            good: Recent::new(capacity),
            seen: Recent::new(capacity),
        }
    }

    /// Whether it remembers anything: if not, verifying ahead of time is of no use.
    pub(crate) fn remembers(&self) -> bool {
        self.good.half > 0
    }

    /// Whether the signature over sign bytes with this SHA-256 is good.
    pub(crate) fn check(&self, digest: [u8; 32], compressed: &[u8; 33], signature: &[u8]) -> bool {
        let key: Key = Sha256::new()
            .chain_update(digest)
            .chain_update(compressed)
            .chain_update(signature)
            .finalize()
            .into();
        if self.good.contains(&key) {
            return true;
        }
        let good = sign::verify(digest, compressed, signature);
        if good {
            self.good.insert(key);
        }
        good
    }

    /// Notes that all signatures of the transaction with this hash were good.
    pub(crate) fn note(&self, hash: Key) {
        self.seen.insert(hash);
    }

    /// Whether all signatures of the transaction with this hash were good when it was looked at last.
    pub(crate) fn noted(&self, hash: &Key) -> bool {
        self.seen.contains(hash)
    }
}

/// A bounded set that forgets what was inserted long ago.
struct Recent {
    half: usize,
    generations: RwLock<Generations>,
}

/// When the young generation is full it becomes the old one, and the old one is forgotten: every entry stays for at least `half` insertions.
#[derive(Default)]
struct Generations {
    young: BTreeSet<Key>,
    old: BTreeSet<Key>,
}

impl Recent {
    fn new(capacity: usize) -> Self {
        Self {
            half: capacity / 2,
            generations: RwLock::default(),
        }
    }

    fn contains(&self, key: &Key) -> bool {
        let generations = self.generations.read();
        generations.young.contains(key) || generations.old.contains(key)
    }

    fn insert(&self, key: Key) {
        if self.half == 0 {
            return;
        }
        let mut generations = self.generations.write();
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key);
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
            cache.note([i; 32]);
            assert!(cache.noted(&[i; 32]) && !cache.noted(&digest.map(|byte| !byte)));
            assert!(cache.good.len() <= 8 && cache.seen.len() <= 8);
        }
        let none = Signatures::new(0);
        none.note([1; 32]);
        assert!(!none.remembers() && !none.noted(&[1; 32]));
    }
}

//! What CheckTx has found out about transactions, so that rechecks, proposals and blocks need not find it out again.
//!
//! Outcomes never depend on it: what is not remembered is decoded and verified. A transaction is what its bytes say, so that their hash names it;
//! only good signatures are remembered, with everything that the verdict depends on.

use std::sync::Arc;

use parking_lot::RwLock;
use secp256k1::PublicKey;
use tenure_sdk::{Recent, Result};

use super::Tx;

/// Decoded transactions that wait in the mempool, by the SHA-256 of their bytes.
pub(crate) struct Transactions(RwLock<Recent<[u8; 32], Arc<Tx>>>);

impl Transactions {
    /// Remembers at most so many bytes of transactions, which decoded take some five times as many; 0 for none.
    pub(crate) fn new(capacity: usize) -> Self {
        Self(RwLock::new(Recent::new(capacity)))
    }

    /// One that is remembered.
    pub(crate) fn get(&self, hash: &[u8; 32]) -> Option<Arc<Tx>> {
        self.0.read().get(hash).cloned()
    }

    /// Remembers one.
    pub(crate) fn put(&self, tx: &Arc<Tx>) {
        self.0.write().put_weighing(tx.len, tx.hash, tx.clone());
    }

    /// Forgets those that nobody will ask for again: they are in a committed block, or the mempool drops them because a check failed.
    pub(crate) fn forget<'a>(&self, hashes: impl IntoIterator<Item = &'a [u8; 32]>) {
        let mut held = self.0.write();
        hashes.into_iter().for_each(|hash| held.forget(hash));
    }
}

/// One signature of a transaction: the SHA-256 of its bytes, which hold what was signed and the signature, and which of its signatures.
type Name = ([u8; 32], usize);

/// Whose signature it is, and on which chain: what else a verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signer<'a> {
    pub(crate) chain_id: &'a str,
    pub(crate) account_number: u64,
    pub(crate) compressed: [u8; 33],
}

/// What was verified lately.
pub(crate) struct Signatures {
    capacity: usize,
    good: RwLock<Good>,
    /// Public keys as curve points: to find the point of a compressed key is an eighth of a verification.
    keys: RwLock<Recent<[u8; 33], PublicKey>>,
}

struct Good {
    /// The chain of all of them.
    chain_id: String,
    /// Account numbers and keys.
    signers: Recent<Name, (u64, [u8; 33])>,
}

impl Good {
    fn holds(&self, name: &Name, signer: &Signer<'_>) -> bool {
        self.signers.get(name) == Some(&(signer.account_number, signer.compressed)) && self.chain_id == signer.chain_id
    }
}

impl Signatures {
    /// Remembers at most `capacity` signatures; 0 for none.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            good: RwLock::new(Good {
                chain_id: String::new(),
                signers: Recent::new(capacity),
            }),
            keys: RwLock::new(Recent::new(capacity / 2)),
        }
    }

    /// The point of a compressed key, if it is one.
    pub(crate) fn key(&self, compressed: &[u8; 33]) -> Option<PublicKey> {
        let known = self.keys.read().get(compressed).copied();
        known.or_else(|| {
            let key = PublicKey::from_byte_array_compressed(*compressed).ok()?;
            self.keys.write().put(*compressed, key);
            Some(key)
        })
    }

    /// Whether it remembers anything: if not, verifying ahead of time is of no use.
    pub(crate) fn remembers(&self) -> bool {
        self.capacity > 0
    }

    /// Whether a signature of a transaction is its signer's, as `verify` says if it is not remembered. Error: that of `verify`.
    pub(crate) fn check(&self, name: Name, signer: &Signer<'_>, verify: impl FnOnce() -> Result<bool>) -> Result<bool> {
        if self.good.read().holds(&name, signer) {
            return Ok(true);
        }
        let good = verify()?;
        if good {
            let mut held = self.good.write();
            if held.chain_id != signer.chain_id {
                held.signers.clear();
                held.chain_id = signer.chain_id.to_owned();
            }
            held.signers.put(name, (signer.account_number, signer.compressed));
        }
        Ok(good)
    }

    /// Whether the first `count` signatures of a transaction were good when they were looked at last: only a hint that looking at them ahead of
    /// time is of no use.
    pub(crate) fn met(&self, hash: [u8; 32], count: usize) -> bool {
        let held = self.good.read();
        (0..count).all(|index| held.signers.get(&(hash, index)).is_some())
    }
}

#[cfg(test)]
mod tests {
    use tenure_sdk::Error;

    use super::*;

    #[test]
    fn it_is_bounded_keeps_only_good_ones_and_never_changes_a_verdict() -> Result<()> {
        let signer = Signer {
            chain_id: "a",
            account_number: 1,
            compressed: [2; 33],
        };
        let others = [
            Signer {
                chain_id: "b",
                ..signer
            },
            Signer {
                account_number: 2,
                ..signer
            },
            Signer {
                compressed: [3; 33],
                ..signer
            },
        ];
        let cache = Signatures::new(8);
        let asked = || -> Result<bool> { panic!("it is remembered") };
        for i in 0..30_u8 {
            let (hash, name) = ([i; 32], ([i; 32], 0));
            for _ in 0..2 {
                assert!(!cache.check(name, &signer, || Ok(false))?);
                assert!(cache
                    .check(name, &signer, || Err(Error::internal("no verdict")))
                    .is_err());
                assert!(!cache.met(hash, 1));
            }
            assert!(cache.check(name, &signer, || Ok(true))?);
            assert!(cache.check(name, &signer, asked)?);
            assert!(cache.met(hash, 1) && !cache.met(hash, 2));
            assert!(!cache.check((hash, 1), &signer, || Ok(false))?, "of another index");
            assert!(
                !cache.check((hash.map(|byte| !byte), 0), &signer, || Ok(false))?,
                "of another transaction"
            );
            for other in &others {
                assert!(!cache.check(name, other, || Ok(false))?, "{other:?}");
            }
            assert!(cache.check(name, &signer, asked)?);
            assert!(cache.good.read().signers.len() <= 8);
        }
        assert!(cache.check(([29; 32], 0), &others[0], || Ok(true))?);
        assert!(
            !cache.check(([29; 32], 0), &signer, || Ok(false))?,
            "only one chain at a time"
        );
        let none = Signatures::new(0);
        assert!(none.check(([1; 32], 0), &signer, || Ok(true))?);
        assert!(!none.remembers() && !none.met([1; 32], 1));
        Ok(())
    }
}

//! RFC 6962 Merkle trees as CometBFT builds them (`crypto/merkle`): roots and inclusion proofs.

use sha2::{Digest, Sha256};
use tendermint_proto::v0_38::crypto::Proof;

/// A SHA-256 digest.
pub(crate) type Hash32 = [u8; 32];

/// SHA-256 of `bytes`; the hash of a transaction.
pub(crate) fn sha256(bytes: &[u8]) -> Hash32 {
    Sha256::digest(bytes).into()
}

fn leaf(bytes: &[u8]) -> Hash32 {
    Sha256::new_with_prefix([0u8]).chain_update(bytes).finalize().into()
}

fn inner(left: &Hash32, right: &Hash32) -> Hash32 {
    Sha256::new_with_prefix([1u8])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The largest power of two strictly below `n` (`n >= 2`): where RFC 6962 splits a list.
fn split(n: usize) -> usize {
    let half = n.next_power_of_two() / 2;
    half.max(1)
}

fn root_of_hashes(hashes: &[Hash32]) -> Hash32 {
    match hashes {
        [] => sha256(&[]),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            inner(&root_of_hashes(left), &root_of_hashes(right))
        }
    }
}

/// Root over byte strings; SHA-256 of nothing for an empty list.
pub(crate) fn root<T: AsRef<[u8]>>(items: &[T]) -> Hash32 {
    let hashes: Vec<Hash32> = items.iter().map(|i| leaf(i.as_ref())).collect();
    root_of_hashes(&hashes)
}

fn aunts(hashes: &[Hash32], index: usize, out: &mut Vec<Vec<u8>>) {
    if hashes.len() < 2 {
        return;
    }
    let at = split(hashes.len());
    let (left, right) = hashes.split_at(at);
    // Aunts go from the leaf's sibling up to a child of the root, so the deeper ones come first.
    if index < at {
        aunts(left, index, out);
        out.push(root_of_hashes(right).to_vec());
    } else {
        aunts(right, index - at, out);
        out.push(root_of_hashes(left).to_vec());
    }
}

/// Root and inclusion proof of `items[index]`; `None` if there is no such item.
pub(crate) fn proof<T: AsRef<[u8]>>(items: &[T], index: usize) -> Option<(Hash32, Proof)> {
    let hashes: Vec<Hash32> = items.iter().map(|i| leaf(i.as_ref())).collect();
    let leaf_hash = hashes.get(index)?.to_vec();
    let mut path = Vec::new();
    aunts(&hashes, index, &mut path);
    let total = i64::try_from(items.len()).ok()?;
    let index = i64::try_from(index).ok()?;
    Some((
        root_of_hashes(&hashes),
        Proof {
            total,
            index,
            leaf_hash,
            aunts: path,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The verifier of RFC 6962 §2.1.1, written from the leaf upwards and so independent of the prover's recursion.
    fn verify(root: &Hash32, item: &[u8], proof: &Proof) -> bool {
        fn climb(index: usize, total: usize, leaf_hash: Hash32, aunts: &[Vec<u8>]) -> Option<Hash32> {
            if total == 1 {
                return aunts.is_empty().then_some(leaf_hash);
            }
            let (last, rest) = aunts.split_last()?;
            let last: Hash32 = last.as_slice().try_into().ok()?;
            let at = split(total);
            if index < at {
                Some(inner(&climb(index, at, leaf_hash, rest)?, &last))
            } else {
                Some(inner(&last, &climb(index - at, total - at, leaf_hash, rest)?))
            }
        }
        let hash = leaf(item);
        proof.leaf_hash == hash
            && climb(proof.index as usize, proof.total as usize, hash, &proof.aunts).as_ref() == Some(root)
    }

    proptest! {
        #[test]
        fn roots_equal_tendermints_and_proofs_verify(items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..40)) {
            let expected = tendermint::merkle::simple_hash_from_byte_vectors::<Sha256>(&items);
            prop_assert_eq!(root(&items), expected);
            for (i, item) in items.iter().enumerate() {
                let (r, p) = proof(&items, i).expect("index is in range");
                prop_assert_eq!(r, expected);
                prop_assert!(verify(&r, item, &p));
                let mut other = item.clone();
                other.push(0);
                prop_assert!(!verify(&r, &other, &p));
            }
            prop_assert!(proof(&items, items.len()).is_none());
        }
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        let none: [&[u8]; 0] = [];
        assert_eq!(
            hex::encode_upper(root(&none)),
            "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
        );
    }
}

//! ICS23 proofs: what a light client needs to believe one key of the state, and how it checks it.
//!
//! A proof has two levels, as IBC's Merkle paths want them: the key in its store's trie, and the store's root, under the store's name,
//! in the main trie, whose root is the app hash. Both are checked under one published spec, that of the `jmt` crate.
//! Specification: ICS-023 "Vector Commitments", <https://github.com/cosmos/ics23>.

use ics23::commitment_proof::Proof;
use ics23::{
    CommitmentProof, ExistenceProof, HashOp, HostFunctionsManager, InnerOp, InnerSpec, LeafOp, LengthOp,
    NonExistenceProof, ProofSpec,
};

use crate::sha256::{sha256, Hash};
use crate::trie::{Step, Trie, INNER_DOMAIN, LEAF_DOMAIN, PLACEHOLDER};

/// The most inner nodes a path can have: one for each bit of a key's hash.
const MAX_PATH: usize = 256;

/// A key of the state, present or absent, with the two proofs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateProof {
    /// Height of the view it was made from. Its app hash is in the header of the next height.
    pub height: u64,
    /// The value, or `None` if the key is proven absent.
    pub value: Option<Vec<u8>>,
    /// First level: the key in its store.
    pub inner: CommitmentProof,
    /// Second level: the store's root in the main trie.
    pub outer: CommitmentProof,
}

impl StateProof {
    /// Checks that under `app_hash` the store has this proof's value (or absence) at `key`.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&self, app_hash: &[u8; 32], store: &str, key: &[u8]) -> Result<(), ProofError> {
        verify(app_hash, store, key, self.value.as_deref(), &self.inner, &self.outer)
    }
}

/// Why a proof was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the form that the spec prescribes.
    #[error("malformed proof at the {level} level: {detail}")]
    Malformed {
        /// "store" or "main".
        level: &'static str,
        /// What is wrong.
        detail: &'static str,
    },
    /// The proof is of another statement, or its hashes do not lead to the root.
    #[error("the proof at the {level} level does not show what is claimed")]
    Invalid {
        /// "store" or "main".
        level: &'static str,
    },
}

/// The ICS23 spec of both levels: that of the Jellyfish Merkle tree in crate `jmt`.
pub fn ics23_spec() -> ProofSpec {
    ProofSpec {
        leaf_spec: Some(leaf_op()),
        inner_spec: Some(InnerSpec {
            child_order: vec![0, 1],
            child_size: 32,
            min_prefix_length: INNER_DOMAIN.len() as i32,
            max_prefix_length: INNER_DOMAIN.len() as i32,
            empty_child: PLACEHOLDER.to_vec(),
            hash: HashOp::Sha256.into(),
        }),
        min_depth: 0,
        max_depth: 64,
        prehash_key_before_comparison: true,
    }
}

/// Checks that under `app_hash` the store `store` holds `value` at `key`, or nothing if `value` is `None`.
///
/// Pure, for light clients: no database. Proofs come from strangers, so their form is checked strictly before the `ics23` crate sees
/// them. (It unwraps when two neighbours' paths never part; that needs one leaf to be both neighbours, which it has excluded by then,
/// because it has checked both paths to one root and the key to lie strictly between the two.)
///
/// # Errors
/// [`ProofError`] names the level at which the proof fails.
pub fn verify(
    app_hash: &[u8; 32],
    store: &str,
    key: &[u8],
    value: Option<&[u8]>,
    inner: &CommitmentProof,
    outer: &CommitmentProof,
) -> Result<(), ProofError> {
    let root = match (&inner.proof, value) {
        (Some(Proof::Exist(proof)), Some(_)) => root_of("store", proof)?,
        (Some(Proof::Nonexist(proof)), None) => {
            for neighbour in [&proof.left, &proof.right].into_iter().flatten() {
                check_form("store", neighbour)?;
            }
            // `ics23` does not look at this field; a proof should still say what it proves.
            if proof.key != key {
                return Err(ProofError::Invalid { level: "store" });
            }
            let neighbour = proof.left.as_ref().or(proof.right.as_ref());
            let neighbour = neighbour.ok_or(ProofError::Malformed {
                level: "store",
                detail: "no neighbour",
            })?;
            root_of("store", neighbour)?
        }
        _ => return Err(ProofError::Invalid { level: "store" }),
    };
    let spec = ics23_spec();
    let root = root.to_vec();
    let shown = match value {
        Some(value) => ics23::verify_membership::<HostFunctionsManager>(inner, &spec, &root, key, value),
        None => ics23::verify_non_membership::<HostFunctionsManager>(inner, &spec, &root, key),
    };
    if !shown {
        return Err(ProofError::Invalid { level: "store" });
    }
    let Some(Proof::Exist(proof)) = &outer.proof else {
        return Err(ProofError::Malformed {
            level: "main",
            detail: "not an existence proof",
        });
    };
    check_form("main", proof)?;
    let app_hash = app_hash.to_vec();
    if ics23::verify_membership::<HostFunctionsManager>(outer, &spec, &app_hash, store.as_bytes(), &root) {
        Ok(())
    } else {
        Err(ProofError::Invalid { level: "main" })
    }
}

fn leaf_op() -> LeafOp {
    LeafOp {
        hash: HashOp::Sha256.into(),
        prehash_key: HashOp::Sha256.into(),
        prehash_value: HashOp::Sha256.into(),
        length: LengthOp::NoPrefix.into(),
        prefix: LEAF_DOMAIN.to_vec(),
    }
}

/// The root a well-formed existence proof leads to.
fn root_of(level: &'static str, proof: &ExistenceProof) -> Result<Hash, ProofError> {
    check_form(level, proof)?;
    let root = ics23::calculate_existence_root::<HostFunctionsManager>(proof);
    root.ok()
        .and_then(|root| root.try_into().ok())
        .ok_or(ProofError::Invalid { level })
}

fn check_form(level: &'static str, proof: &ExistenceProof) -> Result<(), ProofError> {
    let refuse = |detail| Err(ProofError::Malformed { level, detail });
    if proof.leaf.as_ref() != Some(&leaf_op()) {
        return refuse("the leaf operation is not the spec's");
    }
    if proof.path.len() > MAX_PATH {
        return refuse("the path is longer than 256 nodes");
    }
    for op in &proof.path {
        let from_left = op.prefix.len() == INNER_DOMAIN.len() && op.suffix.len() == 32;
        let from_right = op.prefix.len() == INNER_DOMAIN.len() + 32 && op.suffix.is_empty();
        if op.hash != i32::from(HashOp::Sha256) || !op.prefix.starts_with(INNER_DOMAIN) || !(from_left || from_right) {
            return refuse("an inner operation is not the spec's");
        }
    }
    Ok(())
}

/// Proof that `key`, which is in the trie with this value, is there.
pub(crate) fn existence(trie: &Trie, key: &[u8], value: Vec<u8>) -> ExistenceProof {
    let up = trie.path(&sha256(key)).into_iter().rev();
    let path = up.map(|Step { right, sibling, .. }| {
        let (prefix, suffix) = if right {
            ([INNER_DOMAIN.as_slice(), &sibling].concat(), Vec::new())
        } else {
            (INNER_DOMAIN.to_vec(), sibling.to_vec())
        };
        InnerOp {
            hash: HashOp::Sha256.into(),
            prefix,
            suffix,
        }
    });
    ExistenceProof {
        key: key.to_vec(),
        value,
        leaf: Some(leaf_op()),
        path: path.collect(),
    }
}

pub(crate) fn exist(proof: ExistenceProof) -> CommitmentProof {
    CommitmentProof {
        proof: Some(Proof::Exist(proof)),
    }
}

pub(crate) fn nonexist(key: &[u8], left: Option<ExistenceProof>, right: Option<ExistenceProof>) -> CommitmentProof {
    CommitmentProof {
        proof: Some(Proof::Nonexist(NonExistenceProof {
            key: key.to_vec(),
            left,
            right,
        })),
    }
}

//! One committed state: values, lists and proofs, unchanged for as long as somebody holds it.

use std::fmt;
use std::sync::Arc;

use ics23::ExistenceProof;

use crate::backend::{BackendView, Entries};
use crate::error::HexBytes;
use crate::proof::{self, Found, StateProof};
use crate::trie::{Before, Hash, KeyedLeaf, Leaf, Mismatch, Trie, Update};
use crate::{keys, StoreError};

/// The tries of one state: one per store, in the order of the store names, and the main trie over their roots. An empty store has no
/// leaf in the main trie, so that the app hash is a function of the state alone and not of which stores a build knows.
#[derive(Clone)]
pub(crate) struct Tries {
    pub(crate) stores: Vec<Trie>,
    pub(crate) main: Trie,
}

impl Tries {
    pub(crate) fn new(names: &[&'static str], stores: Vec<Trie>) -> Tries {
        let full = names.iter().zip(&stores).filter(|(_, trie)| !trie.is_empty());
        let main = Trie::build(
            full.map(|(name, trie)| KeyedLeaf::new(name.as_bytes(), &trie.root()))
                .collect(),
        );
        Tries { stores, main }
    }

    /// The tries with some stores' replaced.
    pub(crate) fn with(&self, names: &[&'static str], changed: Vec<(usize, Trie)>) -> Tries {
        let mut stores = self.stores.clone();
        let roots: Vec<(usize, Option<Hash>)> = changed
            .into_iter()
            .map(|(index, trie)| {
                let root = (!trie.is_empty()).then(|| trie.root());
                stores[index] = trie;
                (index, root)
            })
            .collect();
        let update = |(index, root): &(usize, Option<Hash>)| {
            Update::new(
                names[*index].as_bytes(),
                Before::Unknown,
                root.as_ref().map(Hash::as_slice),
            )
        };
        let main = self.main.updated(roots.iter().map(update).collect());
        Tries {
            stores,
            main: main.unwrap_or_else(|Mismatch { detail, .. }| unreachable!("nothing was assumed: {detail}")),
        }
    }

    pub(crate) fn app_hash(&self) -> Hash {
        self.main.root()
    }
}

/// The committed state of one height. Immutable: commits and rollbacks that follow do not show in it, and reading it never waits for one.
pub struct View {
    pub(crate) height: u64,
    pub(crate) names: Arc<[&'static str]>,
    pub(crate) tries: Tries,
    pub(crate) data: Arc<dyn BackendView>,
}

impl View {
    /// The height this state was committed at; 0 before the first commit.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Root of the main trie. Before the first commit, the Jellyfish trie's placeholder `SPARSE_MERKLE_PLACEHOLDER_HASH__`.
    pub fn app_hash(&self) -> [u8; 32] {
        self.tries.app_hash()
    }

    /// The names of the stores, sorted.
    pub fn stores(&self) -> &[&'static str] {
        &self.names
    }

    /// The value at `key`, if any: one point lookup.
    ///
    /// # Errors
    /// [`StoreError::UnknownStore`]; [`StoreError::Backend`] when the database cannot be read.
    pub fn get(&self, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.index(store)?;
        self.data.get(&keys::value(store, key))
    }

    /// Keys and values of the store with `from <= key < to` (to the store's end for `None`) in byte order, or in reverse.
    /// An unknown store yields one error.
    pub fn range<'a>(&'a self, store: &str, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries<'a> {
        if let Err(unknown) = self.index(store) {
            return Box::new(std::iter::once(Err(unknown)));
        }
        let prefix = keys::store_prefix(store);
        let start = [&prefix, from].concat();
        let end = match to {
            Some(to) => Some([&prefix, to].concat()),
            None => keys::prefix_end(&prefix),
        };
        let skip = prefix.len();
        Box::new(self.data.range(&start, end.as_deref(), reverse).map(move |entry| {
            let (mut key, value) = entry?;
            key.drain(..skip);
            Ok((key, value))
        }))
    }

    /// Proves the value or the absence of `key` at this height, by ICS23 under [`proof::ics23_spec`](crate::proof::ics23_spec).
    ///
    /// # Errors
    /// [`StoreError::Unprovable`] where ICS23 has no proof: in an empty store, for an empty value, and for the absence of a key next to
    /// an empty value. [`StoreError::UnknownStore`], [`StoreError::EmptyKey`], [`StoreError::Backend`].
    pub fn prove(&self, store: &str, key: &[u8]) -> Result<StateProof, StoreError> {
        let trie = &self.tries.stores[self.index(store)?];
        if key.is_empty() {
            return Err(StoreError::EmptyKey {
                store: store.to_owned(),
            });
        }
        let unprovable = |reason| StoreError::Unprovable {
            store: store.to_owned(),
            key: key.into(),
            reason,
        };
        if trie.is_empty() {
            return Err(unprovable("the store is empty"));
        }
        let existence = |key: &[u8], reason| -> Result<ExistenceProof, StoreError> {
            let value = self
                .data
                .get(&keys::value(store, key))?
                .ok_or_else(|| StoreError::Malformed {
                    detail: format!(
                        "store \"{store}\" has key {} in its trie but not in the database",
                        HexBytes::from(key)
                    ),
                })?;
            if value.is_empty() {
                return Err(unprovable(reason));
            }
            Ok(proof::existence(trie, key, value))
        };
        let (value, inner) = match proof::find(trie, key) {
            Found::Present => {
                let proof = existence(key, "its value is empty")?;
                (Some(proof.value.clone()), proof::exist(proof))
            }
            Found::Absent { left, right } => {
                let neighbour = |leaf: Option<&Leaf>| {
                    leaf.map(|leaf| existence(leaf.key(), "the value of its neighbour in the trie is empty"))
                        .transpose()
                };
                (None, proof::nonexist(key, neighbour(left)?, neighbour(right)?))
            }
        };
        let outer = proof::exist(proof::existence(
            &self.tries.main,
            store.as_bytes(),
            trie.root().to_vec(),
        ));
        Ok(StateProof {
            height: self.height,
            value,
            inner,
            outer,
        })
    }

    pub(crate) fn index(&self, store: &str) -> Result<usize, StoreError> {
        self.names.binary_search(&store).map_err(|_| StoreError::UnknownStore {
            name: store.to_owned(),
            known: self.names.join(", "),
        })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let app_hash = HexBytes::from(self.app_hash());
        f.debug_struct("View")
            .field("height", &self.height)
            .field("app_hash", &app_hash)
            .finish_non_exhaustive()
    }
}

//! One committed state: values, lists and proofs, unchanged for as long as somebody holds it.

use std::fmt;
use std::sync::Arc;

use ics23::ExistenceProof;

use crate::backend::{BackendView, Entries};
use crate::error::HexBytes;
use crate::proof::{self, StateProof};
use crate::sha256::Hash;
use crate::trie::{Delta, Found, KeyedLeaf, Trie};
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
        let roots = stores.iter().map(|trie| (!trie.is_empty()).then(|| trie.root()));
        let main = main_trie(names, roots);
        Tries { stores, main }
    }

    /// What a block changes: for the stores named by index.
    pub(crate) fn changed(&self, names: &[&'static str], stores: Vec<(usize, Delta)>) -> TriesDelta {
        let mut roots: Vec<Option<Hash>> = self
            .stores
            .iter()
            .map(|trie| (!trie.is_empty()).then(|| trie.root()))
            .collect();
        for (index, delta) in &stores {
            roots[*index] = (!delta.is_empty()).then(|| delta.root());
        }
        TriesDelta {
            stores,
            main: main_trie(names, roots.into_iter()),
        }
    }

    /// The tries after a delta of these, which are the latest.
    pub(crate) fn commit(&self, delta: TriesDelta) -> Tries {
        let mut stores = self.stores.clone();
        for (index, delta) in delta.stores {
            stores[index] = stores[index].commit(delta);
        }
        Tries {
            stores,
            main: delta.main,
        }
    }

    pub(crate) fn app_hash(&self) -> Hash {
        self.main.root()
    }
}

/// What a block changes in the tries.
pub(crate) struct TriesDelta {
    stores: Vec<(usize, Delta)>,
    main: Trie,
}

impl TriesDelta {
    pub(crate) fn app_hash(&self) -> Hash {
        self.main.root()
    }
}

/// The trie over the roots of the stores that are not empty: a handful of keys, built anew for each state.
fn main_trie(names: &[&'static str], roots: impl Iterator<Item = Option<Hash>>) -> Trie {
    let full = names.iter().zip(roots).filter_map(|(name, root)| Some((name, root?)));
    Trie::build(
        full.map(|(name, root)| KeyedLeaf::new(name.as_bytes(), &root))
            .collect(),
    )
}

/// The committed state of one height. Immutable: commits and rollbacks that follow do not show in it. Values and lists never wait for a
/// commit; a proof waits at most while one puts its new nodes into the same shard of the trie, which takes microseconds.
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
        let (value, inner) = match trie.find(key) {
            Found::Present => {
                let proof = existence(key, "its value is empty")?;
                (Some(proof.value.clone()), proof::exist(proof))
            }
            Found::Absent { left, right } => {
                let neighbour = |key: Option<Vec<u8>>| {
                    key.map(|key| existence(&key, "the value of its neighbour in the trie is empty"))
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

//! The commitment: a binary Merkle trie over SHA-256 of the keys, held in memory, with cheap versions.
//!
//! Its root is, bit for bit, that of a Jellyfish Merkle tree (crate `jmt` 0.12, which is the oracle in the tests; Diem's paper
//! "Jellyfish Merkle Tree", 2021, §3 and §4), because that root is a function of the key set alone:
//!
//! ```text
//! root(∅)          = "SPARSE_MERKLE_PLACEHOLDER_HASH__"
//! root({(k, v)})   = sha256("JMT::LeafNode" ‖ sha256(k) ‖ sha256(v))
//! root(S), |S| ≥ 2 = sha256("JMT::IntrnalNode" ‖ root(S with next bit 0) ‖ root(S with next bit 1))
//! ```
//!
//! The first bits of a key's hash choose one of [`SHARDS`] shards; a shard's nodes lie in its [`arena`], and the levels above the shards
//! are a small array per version ([`top`]). A block's changes are computed beside the committed nodes, on the way down ([`update`]) and up
//! again ([`staging`]), and become a [`Delta`], which is dropped without a trace or committed as the next version. A commit exchanges the
//! staged nodes with those they take the place of: what was the delta is then what versions before this one read, for as long as one of
//! them is held. So an update writes where it has just read, and counting versions, not references, keeps it at the hashes it must compute.
//! A parent holds its children's hashes, so a walk reads the nodes on its path and no sibling; a leaf is its key. n keys need about 1.44 n
//! inner nodes of 72 bytes and n leaves of 32: some 136 bytes a key in all.

mod arena;
mod path;
mod staging;
mod top;
mod update;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use rayon::prelude::*;

use self::arena::{Arena, LeafKey};
pub(crate) use self::path::{Found, Step};
use self::staging::Staging;
use self::top::Top;
pub(crate) use self::update::{Before, Mismatch, Update};
use self::update::{Hashed, Sorted, Ways};
use crate::sha256::{self, sha256, Hash};

/// Root of the empty set.
pub(crate) const PLACEHOLDER: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";
/// Prefix of a leaf's preimage.
pub(crate) const LEAF_DOMAIN: &[u8; 13] = b"JMT::LeafNode";
/// Prefix of an inner node's preimage.
pub(crate) const INNER_DOMAIN: &[u8; 16] = b"JMT::IntrnalNode";

/// Levels above the shards.
const SHARD_BITS: usize = 6;
/// Shards of a trie: what is updated, locked and hashed apart.
const SHARDS: usize = 1 << SHARD_BITS;
/// Below this many updates or leaves all shards are done on one thread: a hand-over costs about as much as hashing fifty nodes.
const PARALLEL_ABOVE: usize = 512;
/// Updates whose keys and values one task hashes.
const HASHED_AT_A_TIME: usize = 512;
/// Shards that one task updates: their nodes of a level are hashed together, and what it holds of them fits into a core's cache.
const SHARDS_AT_A_TIME: usize = 4;

fn leaf_preimage(key_hash: &Hash, value_hash: &Hash) -> [u8; 13 + 32 + 32] {
    let mut preimage = [0; 13 + 32 + 32];
    preimage[..13].copy_from_slice(LEAF_DOMAIN);
    preimage[13..45].copy_from_slice(key_hash);
    preimage[45..].copy_from_slice(value_hash);
    preimage
}

fn inner_preimage([left, right]: &[Hash; 2]) -> [u8; 16 + 32 + 32] {
    let mut preimage = [0; 16 + 32 + 32];
    preimage[..16].copy_from_slice(INNER_DOMAIN);
    preimage[16..48].copy_from_slice(left);
    preimage[48..].copy_from_slice(right);
    preimage
}

/// The bit of `hash` that chooses the side at `depth`, most significant first; true is right.
fn bit(hash: &Hash, depth: usize) -> bool {
    hash[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// The shard of a key hash.
fn shard_of(hash: &Hash) -> usize {
    usize::from(hash[0] >> (8 - SHARD_BITS))
}

/// Where a node lies. Inner nodes and leaves of a shard are numbered apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// No key.
    Nowhere,
    /// An inner node of the shard's arena.
    Inner(u32),
    /// A leaf of the shard's arena.
    Leaf(u32),
    /// An inner node of a [`Staging`].
    StagedInner(u32),
    /// A leaf of a [`Staging`].
    StagedLeaf(u32),
    /// An inner node above the shards, of a [`Top`].
    Above,
}

impl At {
    fn is_leaf(self) -> bool {
        matches!(self, At::Leaf(_) | At::StagedLeaf(_))
    }
}

/// A subtree as its parent knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Child {
    at: At,
    hash: Hash,
}

impl Child {
    const EMPTY: Child = Child {
        at: At::Nowhere,
        hash: PLACEHOLDER,
    };

    fn is_empty(&self) -> bool {
        self.at == At::Nowhere
    }
}

/// What the node over two subtrees is.
enum Joined {
    /// Nothing, or a lone leaf, which stands for its whole subtree and so moves up.
    Up(Child),
    /// An inner node.
    Inner,
}

fn joined(left: &Child, right: &Child) -> Joined {
    match (left.at, right.at) {
        (At::Nowhere, At::Nowhere) => Joined::Up(Child::EMPTY),
        (At::Nowhere, at) if at.is_leaf() => Joined::Up(*right),
        (at, At::Nowhere) if at.is_leaf() => Joined::Up(*left),
        _ => Joined::Inner,
    }
}

/// A leaf on its way into a trie.
pub(crate) struct KeyedLeaf {
    key_hash: Hash,
    hash: Hash,
    key: LeafKey,
}

impl KeyedLeaf {
    pub(crate) fn new(key: &[u8], value: &[u8]) -> KeyedLeaf {
        let key_hash = sha256(key);
        KeyedLeaf {
            hash: sha256(&leaf_preimage(&key_hash, &sha256(value))),
            key_hash,
            key: LeafKey::new(key),
        }
    }

    /// The leaves of some entries.
    pub(crate) fn all<'a>(entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<KeyedLeaf> {
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = entries.unzip();
        let hashes: Vec<(Hash, Hash)> = sha256::digests(&keys)
            .into_iter()
            .zip(sha256::digests(&values))
            .collect();
        let mut leaves = Vec::with_capacity(keys.len());
        let indexes: Vec<usize> = (0..keys.len()).collect();
        sha256::for_each(
            &mut leaves,
            &indexes,
            |_, index| leaf_preimage(&hashes[*index].0, &hashes[*index].1),
            |leaves, index, hash| {
                leaves.push(KeyedLeaf {
                    key_hash: hashes[*index].0,
                    hash,
                    key: LeafKey::new(keys[*index]),
                });
            },
        );
        leaves
    }
}

/// What all versions of a trie share.
struct Forest {
    shards: Vec<RwLock<Arena>>,
    versions: Mutex<Versions>,
}

struct Versions {
    latest: u64,
    /// The versions that may still be held, ascending; each is held as long as its pin is.
    pins: VecDeque<(u64, Weak<()>)>,
}

impl Forest {
    /// The oldest version that somebody holds.
    fn oldest_held(versions: &mut Versions) -> u64 {
        while versions.pins.front().is_some_and(|(_, pin)| pin.strong_count() == 0) {
            versions.pins.pop_front();
        }
        versions.pins.front().map_or(versions.latest, |(version, _)| *version)
    }
}

/// One version of a trie. It can be read for as long as it is held, whatever is committed meanwhile. Cloning it is three reference counts.
#[derive(Clone)]
pub(crate) struct Trie {
    forest: Arc<Forest>,
    version: u64,
    top: Arc<Top>,
    /// Keeps the nodes of this version.
    _pin: Arc<()>,
}

impl Trie {
    /// The trie over these leaves, whose keys are distinct, in any order.
    pub(crate) fn build(mut leaves: Vec<KeyedLeaf>) -> Trie {
        if leaves.len() > PARALLEL_ABOVE {
            leaves.par_sort_unstable_by_key(|leaf| leaf.key_hash);
        } else {
            leaves.sort_unstable_by_key(|leaf| leaf.key_hash);
        }
        let parallel = leaves.len() > PARALLEL_ABOVE;
        let mut parts: Vec<Vec<KeyedLeaf>> = Vec::with_capacity(SHARDS);
        for shard in (0..SHARDS).rev() {
            parts.push(leaves.split_off(leaves.partition_point(|leaf| shard_of(&leaf.key_hash) < shard)));
        }
        parts.reverse();
        let one = |leaves: Vec<KeyedLeaf>| {
            let mut staging = update::build(leaves);
            staging::hash(std::slice::from_mut(&mut staging));
            let mut arena = Arena::default();
            let root = arena.absorb(staging, 0, 0);
            (arena, root)
        };
        let shards: Vec<(Arena, Child)> = if parallel {
            parts.into_par_iter().map(one).collect()
        } else {
            parts.into_iter().map(one).collect()
        };
        let top = Top::new(shards.iter().map(|(_, root)| *root));
        let pin = Arc::new(());
        Trie {
            forest: Arc::new(Forest {
                shards: shards.into_iter().map(|(arena, _)| RwLock::new(arena)).collect(),
                versions: Mutex::new(Versions {
                    latest: 0,
                    pins: [(0, Arc::downgrade(&pin))].into(),
                }),
            }),
            version: 0,
            top: Arc::new(top),
            _pin: pin,
        }
    }

    pub(crate) fn root(&self) -> Hash {
        self.top.root().hash
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.top.root().is_empty()
    }

    /// What these updates, whose keys are distinct, in any order, change. The trie is untouched.
    pub(crate) fn updated<'a>(&self, updates: &[Update<'a>]) -> Result<Delta, Mismatch<'a>> {
        let parallel = updates.len() > PARALLEL_ABOVE;
        let hashed: Vec<Vec<Hashed<'a>>> = if parallel {
            updates.par_chunks(HASHED_AT_A_TIME).map(update::hashed).collect()
        } else {
            vec![update::hashed(updates)]
        };
        let sorted = update::sorted(hashed.iter().flatten());
        let shard_of = |sorted: &Sorted<'_, '_>| shard_of(&sorted.update.key_hash);
        let by_shard: Vec<&[Sorted<'_, 'a>]> = sorted.chunk_by(|a, b| shard_of(a) == shard_of(b)).collect();
        let some = |by_shard: &[&[Sorted<'_, 'a>]]| {
            let mut ways = Ways::default();
            let stage = |updates: &&[Sorted<'_, 'a>]| {
                let shard = shard_of(&updates[0]);
                let arena = self.forest.shards[shard].read();
                update::stage(arena.at(self.version), self.top.shard(shard), updates, &mut ways)
            };
            let mut staged = by_shard.iter().map(stage).collect::<Result<Vec<Staging>, _>>()?;
            staging::hash(&mut staged);
            let changed = by_shard.iter().zip(staged).map(|(updates, staging)| ShardDelta {
                shard: shard_of(&updates[0]),
                staging,
            });
            Ok(changed
                .filter(|delta| delta.staging.root != self.top.shard(delta.shard))
                .collect())
        };
        let shards: Vec<Result<Vec<ShardDelta>, Mismatch<'a>>> = if parallel {
            by_shard.par_chunks(SHARDS_AT_A_TIME).map(some).collect()
        } else {
            vec![some(&by_shard)]
        };
        let shards: Vec<ShardDelta> = shards
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        let top = self
            .top
            .with(shards.iter().map(|delta| (delta.shard, delta.staging.root)));
        Ok(Delta {
            base: self.version,
            top,
            shards,
        })
    }

    /// The version after a delta of this one. The caller is the only one that commits, and `self` is the latest version.
    pub(crate) fn commit(&self, delta: Delta) -> Trie {
        let mut versions = self.forest.versions.lock();
        assert!(
            delta.base == self.version && versions.latest == self.version,
            "a delta is committed on the version it was made for"
        );
        if delta.shards.is_empty() {
            return self.clone();
        }
        let version = self.version + 1;
        let oldest = Forest::oldest_held(&mut versions);
        let Delta { mut top, shards, .. } = delta;
        for ShardDelta { shard, staging } in shards {
            let root = self.forest.shards[shard].write().absorb(staging, version, oldest);
            top.place(shard, root);
        }
        let pin = Arc::new(());
        versions.latest = version;
        versions.pins.push_back((version, Arc::downgrade(&pin)));
        Trie {
            forest: self.forest.clone(),
            version,
            top: Arc::new(top),
            _pin: pin,
        }
    }
}

/// What a block changes in a trie. Dropping it costs nothing and leaves no trace.
pub(crate) struct Delta {
    base: u64,
    /// The levels above the shards after the block; their leaves still lie in the staging.
    top: Top,
    shards: Vec<ShardDelta>,
}

struct ShardDelta {
    shard: usize,
    staging: Staging,
}

impl Delta {
    /// Root after the block.
    pub(crate) fn root(&self) -> Hash {
        self.top.root().hash
    }

    /// Whether no key is left after the block.
    pub(crate) fn is_empty(&self) -> bool {
        self.top.root().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u32) -> Vec<[u8; 4]> {
        (0..count).map(u32::to_be_bytes).collect()
    }

    fn build(count: u32) -> Trie {
        Trie::build(keys(count).iter().map(|key| KeyedLeaf::new(key, b"v")).collect())
    }

    /// Nodes in use and free of all shards.
    fn nodes(trie: &Trie) -> (usize, usize) {
        let counts = trie.forest.shards.iter().map(|shard| shard.read().counts());
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    #[test]
    fn nodes_have_the_size_their_budget_says() {
        assert_eq!((size_of::<arena::Links>(), size_of::<arena::Sides>()), (8, 64));
        assert_eq!(size_of::<LeafKey>(), 32);
    }

    #[test]
    fn an_update_without_effect_changes_nothing() {
        let keys = keys(1000);
        let trie = build(1000);
        for before in [Before::Unknown, Before::Known(Some(b"v".as_slice()))] {
            let updates: Vec<_> = keys
                .iter()
                .map(|key| Update {
                    key,
                    before,
                    new: Some(b"v"),
                })
                .collect();
            let delta = trie.updated(&updates).unwrap();
            assert!(delta.shards.is_empty());
            assert_eq!(delta.root(), trie.root());
        }
    }

    #[test]
    fn replaced_nodes_are_reused_when_no_older_version_is_held() {
        let keys = keys(2000);
        let mut trie = build(2000);
        let (used, _) = nodes(&trie);
        let mut grown = 0;
        for round in 0u32..50 {
            let value = round.to_be_bytes();
            let updates = keys.iter().map(|key| Update {
                key,
                before: Before::Unknown,
                new: Some(&value),
            });
            trie = trie.commit(trie.updated(&updates.collect::<Vec<_>>()).unwrap());
            let (now, _) = nodes(&trie);
            grown = grown.max(now);
        }
        // The version before is held while the next is made: two and what the one before that left.
        assert!(grown <= 3 * used, "{grown} nodes for tries of {used}");
    }

    #[test]
    fn a_candidate_of_an_older_version_is_computed_on_that_version() {
        let keys = keys(3000);
        let first = build(3000);
        let to = |trie: &Trie, old: &[u8], new: &[u8]| {
            let change = |key| Update {
                key,
                before: Before::Known(Some(old)),
                new: Some(new),
            };
            let updates: Vec<Update<'_>> = keys.iter().map(|key| change(key.as_slice())).collect();
            trie.updated(&updates).unwrap()
        };
        let second = first.commit(to(&first, b"v", b"w"));
        let third = second.commit(to(&second, b"w", b"x"));
        for (trie, value) in [(&first, b"v"), (&second, b"w"), (&third, b"x")] {
            assert_eq!(to(trie, value, b"v").root(), first.root());
        }
    }

    #[test]
    fn a_held_version_stays_readable() {
        let keys = keys(3000);
        let mut trie = build(3000);
        let held = trie.clone();
        let root = held.root();
        let path = |trie: &Trie, key: &[u8]| {
            trie.path(&sha256(key))
                .into_iter()
                .map(|s| s.sibling)
                .collect::<Vec<_>>()
        };
        let paths: Vec<Vec<Hash>> = keys.iter().map(|key| path(&held, key)).collect();
        for round in 0u32..20 {
            let value = round.to_be_bytes();
            let part = keys.iter().skip(round as usize).step_by(3);
            let updates = part.map(|key| Update {
                key,
                before: Before::Unknown,
                new: (round % 5 != 4).then_some(&value[..]),
            });
            trie = trie.commit(trie.updated(&updates.collect::<Vec<_>>()).unwrap());
        }
        assert_ne!(trie.root(), root);
        for (key, before) in keys.iter().zip(paths) {
            assert_eq!(path(&held, key), before);
            assert!(matches!(held.find(key), Found::Present));
        }
    }
}

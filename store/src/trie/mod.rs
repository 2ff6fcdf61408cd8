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
//! are a small array per version ([`top`]). A block's changes are computed beside the committed nodes ([`update`]) and become a
//! [`Delta`], which is dropped without a trace or committed as the next version. A node that a version replaced is reused once no older
//! version is held: counting versions, not references, keeps an update at the hashes it must compute. A parent holds its children's
//! hashes, so a walk reads the nodes on its path and no sibling; a leaf is its key. n keys need about 1.44 n inner nodes of 80 bytes and
//! n leaves of 32: some 147 bytes a key in all.

mod arena;
mod path;
mod top;
mod update;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::arena::{Arena, LeafKey, Staging};
pub(crate) use self::path::{Found, Step};
use self::top::Top;
pub(crate) use self::update::{Before, Mismatch, Update};

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

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

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn leaf_hash(key_hash: &Hash, value_hash: &Hash) -> Hash {
    let mut preimage = [0; 13 + 32 + 32];
    preimage[..13].copy_from_slice(LEAF_DOMAIN);
    preimage[13..45].copy_from_slice(key_hash);
    preimage[45..].copy_from_slice(value_hash);
    sha256(&preimage)
}

fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    let mut preimage = [0; 16 + 32 + 32];
    preimage[..16].copy_from_slice(INNER_DOMAIN);
    preimage[16..48].copy_from_slice(left);
    preimage[48..].copy_from_slice(right);
    sha256(&preimage)
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
    /// An inner node of this hash.
    Inner(Hash),
}

fn joined(left: &Child, right: &Child) -> Joined {
    match (left.at, right.at) {
        (At::Nowhere, At::Nowhere) => Joined::Up(Child::EMPTY),
        (At::Nowhere, at) if at.is_leaf() => Joined::Up(*right),
        (at, At::Nowhere) if at.is_leaf() => Joined::Up(*left),
        _ => Joined::Inner(inner_hash(&left.hash, &right.hash)),
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
            hash: leaf_hash(&key_hash, &sha256(value)),
            key_hash,
            key: LeafKey::new(key),
        }
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
            let mut arena = Arena::default();
            let mut staging = Staging::default();
            let root = update::build(leaves, &mut staging);
            let root = arena.absorb(staging, root, 0, 0);
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
    pub(crate) fn updated<'a>(&self, updates: Vec<Update<'a>>) -> Result<Delta, Mismatch<'a>> {
        let parallel = updates.len() > PARALLEL_ABOVE;
        let updates = update::sorted(&updates);
        let groups: Vec<&[&Update<'a>]> = updates
            .chunk_by(|a, b| shard_of(&a.key_hash) == shard_of(&b.key_hash))
            .collect();
        let one = |group: &&[&Update<'a>]| {
            let shard = shard_of(&group[0].key_hash);
            let before = self.top.shard(shard);
            let mut staging = Staging::default();
            let root = update::update(&self.forest.shards[shard].read(), &mut staging, before, group)?;
            Ok((root != before).then_some(ShardDelta { shard, staging, root }))
        };
        let shards: Result<Vec<Option<ShardDelta>>, Mismatch<'a>> = if parallel {
            groups.par_iter().map(one).collect()
        } else {
            groups.iter().map(one).collect()
        };
        let shards: Vec<ShardDelta> = shards?.into_iter().flatten().collect();
        let top = self.top.with(shards.iter().map(|delta| (delta.shard, delta.root)));
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
        for ShardDelta { shard, staging, root } in shards {
            let root = self.forest.shards[shard].write().absorb(staging, root, version, oldest);
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
    root: Child,
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
        assert_eq!(size_of::<arena::Inner>(), 80);
        assert_eq!(size_of::<LeafKey>(), 32);
    }

    #[test]
    fn an_update_without_effect_changes_nothing() {
        let keys = keys(1000);
        let trie = build(1000);
        for before in [Before::Unknown, Before::Known(Some(b"v".as_slice()))] {
            let updates = keys.iter().map(|key| Update::new(key, before, Some(b"v"))).collect();
            let delta = trie.updated(updates).unwrap();
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
            let updates = keys.iter().map(|key| Update::new(key, Before::Unknown, Some(&value)));
            trie = trie.commit(trie.updated(updates.collect()).unwrap());
            let (now, _) = nodes(&trie);
            grown = grown.max(now);
        }
        // The version before is held while the next is made: two and what the one before that left.
        assert!(grown <= 3 * used, "{grown} nodes for tries of {used}");
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
            let updates = part.map(|key| Update::new(key, Before::Unknown, (round % 5 != 4).then_some(&value[..])));
            trie = trie.commit(trie.updated(updates.collect()).unwrap());
        }
        assert_ne!(trie.root(), root);
        for (key, before) in keys.iter().zip(paths) {
            assert_eq!(path(&held, key), before);
            assert!(matches!(held.find(key), Found::Present));
        }
    }
}
